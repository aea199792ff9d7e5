from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import make_ffpp

from tokd_lightning.data.contact_sheet import draw_contact_sheet
from tokd_lightning.errors import TokdError
from tokd_lightning.frequency import high_pass


def test_sheet_has_a_row_per_identity_and_quality_and_a_column_pair_per_method(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, qualities=("c23", "c40"), folder="images")
    draw_contact_sheet(tree, tmp_path / "figures" / "sheet.png", identities=2, tile=64)
    small = np.asarray(Image.open(tmp_path / "figures" / "sheet.png"))
    draw_contact_sheet(tree, tmp_path / "sheet.png", identities=4, tile=64)
    large = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert small.shape[1] == large.shape[1] > 5 * 2 * 64
    assert large.shape[0] - small.shape[0] == 4 * (64 + 4)
    assert not list(tmp_path.rglob("*.part"))


def test_tiles_are_the_middle_frame_and_its_high_frequencies(tmp_path):
    import torch

    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, size=64)
    draw_contact_sheet(tree, tmp_path / "sheet.png", identities=1, tile=64)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(float)
    path = tree / "original_sequences/youtube/c23/faces/000/0003.png"
    pixels = np.asarray(Image.open(path)).astype(float)
    top, left = sheet.shape[0] - 64 - 4, 64
    assert np.array_equal(sheet[top : top + 64, left : left + 64], pixels)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    wanted = high_pass(x, 0.33)[0].permute(1, 2, 0).numpy().ravel()
    shown = sheet[top : top + 64, left + 68 : left + 132].ravel() - 128
    inside = np.abs(shown) < 127
    assert np.corrcoef(wanted[inside], shown[inside])[0, 1] > 0.99


def test_synthetic_data_is_called_synthetic(tmp_path, monkeypatch):
    from tokd_lightning.data import contact_sheet

    titles = []
    compose = contact_sheet._compose

    def listen(rows, columns, cells, title, tile, gain):
        titles.append(title)
        return compose(rows, columns, cells, title, tile, gain)

    monkeypatch.setattr(contact_sheet, "_compose", listen)
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)
    draw_contact_sheet(tree, tmp_path / "a.png", identities=1, tile=32)
    (tree / "SYNTHETIC.txt").write_text("made up")
    draw_contact_sheet(tree, tmp_path / "b.png", identities=1, tile=32)
    assert "SYNTHETIC" not in titles[0]
    assert titles[1].startswith("SYNTHETIC")


def test_genuine_trees_of_large_uneven_frames_and_missing_methods_are_drawn(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("FaceSwap",), folder="frames")
    for path in tree.rglob("*.png"):
        Image.new("RGB", (900, 500), (90, 30, 10)).save(path)
    draw_contact_sheet(tree, tmp_path / "sheet.png", identities=1, tile=90)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    drawn = (sheet == (90, 30, 10)).all(-1)
    assert drawn.sum() == 2 * 90 * 50


def test_the_middle_frame_is_the_middle_in_time(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=(), folder="frames")
    for folder in (tree / "original_sequences/youtube/c23/frames").iterdir():
        for path in folder.iterdir():
            path.unlink()
        for number, grey in ((2, 20), (10, 100), (30, 180)):
            Image.new("RGB", (32, 32), (grey,) * 3).save(folder / f"frame_{number}.png")
        (folder / ".frame_0.png").write_bytes(b"hidden, and no image")
    draw_contact_sheet(tree, tmp_path / "sheet.png", identities=1, tile=32)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet[-20, 64 + 16] == 100).all()


@pytest.mark.parametrize("out", [".", "folder"])
def test_a_folder_is_no_file_to_draw_to(tmp_path, monkeypatch, out):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokdError, match="is a folder: name the PNG file"):
        draw_contact_sheet(tree, Path(out), identities=1, tile=32)


def test_a_sheet_that_cannot_be_written_leaves_no_draft(tmp_path, monkeypatch):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)

    def full(self, target, **options):
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(TokdError, match=r"sheet\.png cannot be written: No space left"):
        draw_contact_sheet(tree, tmp_path / "sheet.png", identities=1, tile=32)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("broken", ["missing", "empty", "no frames", "no image"])
def test_trees_that_cannot_be_drawn_are_named(tmp_path, broken):
    root = tmp_path / "tree"
    frames = root / "original_sequences/youtube/c23/frames/000"
    if broken == "empty":
        root.mkdir()
    elif broken != "missing":
        frames.mkdir(parents=True)
    if broken == "no image":
        Path(frames / "0000.png").write_bytes(b"text")
    says = {"missing": "not a folder", "empty": "no frames under", "no frames": "holds no frames"}
    with pytest.raises(TokdError, match=says.get(broken, r"0000\.png cannot be read")):
        draw_contact_sheet(root, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
