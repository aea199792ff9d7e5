import colorsys
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import make_ffpp

from tokd_lightning import show as show_module
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError
from tokd_lightning.frequency import high_pass
from tokd_lightning.show import show
from tokd_lightning.show.find import find_frames

REAL = "original_sequences/youtube"
TILE = 32


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def colour_of(number):
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.6, 0.8))


def paint(tree):
    """Give every video a colour of its own, its middle frame that colour and the others black."""
    colours = {}
    for number, folder in enumerate(sorted({path.parent for path in tree.rglob("*.png")})):
        paths = sorted(folder.iterdir())
        for place, path in enumerate(paths):
            middle = place == len(paths) // 2
            Image.new("RGB", (40, 40), colour_of(number) if middle else (0, 0, 0)).save(path)
        colours[folder.relative_to(tree).as_posix()] = colour_of(number)
    return colours


def tile_at(sheet, row, column, rows, tile=TILE):
    """Cut x out of a sheet of one band without captions."""
    top = len(sheet) - (rows - row) * (tile + 4)
    left = 64 + column * (2 * tile + 12)
    return sheet[top : top + tile, left : left + tile]


def shows(piece, colour):
    return bool((piece == colour).all())


def test_sheet_has_a_row_per_identity_and_quality_and_a_column_pair_per_method(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, qualities=("c23", "c40"), folder="images")
    assert show(tree, tmp_path / "figures" / "sheet.png", identities=2, tile=64) == 0
    small = read(tmp_path / "figures" / "sheet.png")
    show(tree, tmp_path / "sheet.png", identities=4, tile=64)
    large = read(tmp_path / "sheet.png")
    assert small.shape[1] == large.shape[1] == 64 + 5 * (2 * 64 + 12)
    assert large.shape[0] - small.shape[0] == 4 * (64 + 4)
    assert not list(tmp_path.rglob("*.part"))


def test_real_videos_stand_beside_the_fakes_made_from_them(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, qualities=("c0", "c23", "c40"))
    (tree / "original_sequences/youtube/c0").rename(tree / "original_sequences/youtube/raw")
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        part = tree / "manipulated_sequences" / method
        (part / "c0").rename(part / "raw")
    colours = paint(tree)
    show(tree, tmp_path / "sheet.png", identities=3, tile=TILE)
    sheet = read(tmp_path / "sheet.png")
    rows = [
        (target, quality) for target in ("000", "002", "005") for quality in ("raw", "c23", "c40")
    ]
    for row, (target, quality) in enumerate(rows):
        other = f"{int(target) ^ 1:03d}"
        videos = [f"{REAL}/{quality}/faces/{target}"]
        for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
            videos.append(f"manipulated_sequences/{method}/{quality}/faces/{target}_{other}")
        for column, video in enumerate(videos):
            assert shows(tile_at(sheet, row, column, len(rows)), colours[video])


def test_tiles_are_the_middle_frame_and_its_high_frequencies(tmp_path):
    import torch

    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, size=64)
    show(tree, tmp_path / "sheet.png", identities=1, tile=64)
    sheet = read(tmp_path / "sheet.png").astype(float)
    pixels = read(tree / REAL / "c23/faces/000/0003.png").astype(float)
    top, left = sheet.shape[0] - 64 - 4, 64
    assert np.array_equal(sheet[top : top + 64, left : left + 64], pixels)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    wanted = high_pass(x, 0.33)[0].permute(1, 2, 0).numpy().ravel()
    shown = sheet[top : top + 64, left + 68 : left + 132].ravel() - 128
    inside = np.abs(shown) < 127
    assert np.corrcoef(wanted[inside], shown[inside])[0, 1] > 0.99
    shown = np.stack([sheet[top : top + 64, at : at + 64] for at in left + 68 + 140 * np.arange(5)])
    assert np.mean(np.abs(shown - 127.5) > 126) == pytest.approx(0.01, rel=0.2)  # are clipped


@pytest.mark.parametrize(("cutoff", "grey"), [(0.33, 128), (0.0, 255)])
def test_without_a_cutoff_x_passes_whole(tmp_path, cutoff, grey):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("FaceSwap",))
    for path in tree.rglob("*.png"):
        Image.new("RGB", (40, 40), (200, 200, 200)).save(path)
    show(tree, tmp_path / "sheet.png", identities=1, tile=TILE, cutoff=cutoff)
    high = read(tmp_path / "sheet.png")[-(TILE + 4) : -4, 64 + TILE + 4 : 64 + 2 * TILE + 4]
    assert shows(high, grey)


@pytest.mark.parametrize("split", [None, "val"])
def test_one_quality_one_method_or_one_split_can_be_asked_for(tmp_path, split):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, qualities=("c23", "c40"))
    colours = paint(tree)
    options = {"quality": "c40", "method": ["FaceSwap"], "split": split, "tile": 64}
    show(tree, tmp_path / "sheet.png", identities=6, **options)
    sheet = read(tmp_path / "sheet.png")
    targets = ("002", "003") if split else ("000", "001", "002", "003", "004", "005")
    for row, target in enumerate(targets):
        real = colours[f"{REAL}/c40/faces/{target}"]
        fake = colours[f"manipulated_sequences/FaceSwap/c40/faces/{target}_{int(target) ^ 1:03d}"]
        assert shows(tile_at(sheet, row, 0, len(targets), 64), real)
        assert shows(tile_at(sheet, row, 1, len(targets), 64), fake)
    drawn = {tuple(c) for c in sheet.reshape(-1, 3)} & set(colours.values())
    assert len(drawn) == 2 * len(targets)


def test_a_seed_draws_other_identities(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=20, frames=1, methods=("FaceSwap",))
    paint(tree)
    sheets = []
    for seed in (None, 0, 0, 1):
        show(tree, tmp_path / "sheet.png", identities=2, tile=TILE, seed=seed)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[1] == sheets[2]
    assert len(set(sheets)) == 3


def test_a_tree_needs_no_split_files_and_no_completeness(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("Deepfakes", "FaceSwap"))
    shutil.rmtree(tree / "splits")
    for video in ("000_001", "001_000", "002_003", "003_002", "005_004"):
        shutil.rmtree(tree / "manipulated_sequences/FaceSwap/c23/faces" / video)
    colours = paint(tree)
    show(tree, tmp_path / "sheet.png", identities=1, tile=TILE)
    sheet = read(tmp_path / "sheet.png")
    for column, video in enumerate((f"{REAL}/c23/faces/004", "Deepfakes", "FaceSwap")):
        name = video if column == 0 else f"manipulated_sequences/{video}/c23/faces/004_005"
        assert shows(tile_at(sheet, 0, column, 1), colours[name])


def test_a_video_without_frames_leaves_a_pale_tile(tmp_path):
    qualities = ("c23", "c40")
    tree = make_ffpp(tmp_path / "tree", 6, frames=1, methods=("FaceSwap",), qualities=qualities)
    for path in (tree / "manipulated_sequences/FaceSwap/c40").rglob("*.png"):
        path.unlink()
    paint(tree)
    show(tree, tmp_path / "sheet.png", identities=1, tile=64)
    sheet = read(tmp_path / "sheet.png")
    pieces = [tile_at(sheet, row, column, 2, 64)[4:16, 4:-4] for row in (0, 1) for column in (0, 1)]
    assert [shows(piece, (238, 238, 238)) for piece in pieces] == [False, False, False, True]


def test_synthetic_data_is_called_synthetic(tmp_path, monkeypatch):
    titles = []
    draw = show_module.draw

    def listen(sheet, tile, cutoff):
        titles.append(sheet.title)
        return draw(sheet, tile, cutoff)

    monkeypatch.setattr(show_module, "draw", listen)
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)
    show(tree, tmp_path / "a.png", identities=1, tile=TILE)
    (tree / "SYNTHETIC.txt").write_text("made up")
    show(tree, tmp_path / "b.png", identities=1, tile=TILE)
    assert titles == ["FF++ (c23): tree", "SYNTHETIC FF++ (c23): tree"]


def test_genuine_trees_of_large_uneven_frames_and_missing_methods_are_drawn(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("FaceSwap",), folder="frames")
    for path in tree.rglob("*.png"):
        Image.new("RGB", (900, 500), (90, 30, 10)).save(path)
    show(tree, tmp_path / "sheet.png", identities=1, tile=90)
    drawn = (read(tmp_path / "sheet.png") == (90, 30, 10)).all(-1)
    assert drawn.sum() == 2 * 90 * 50


def test_the_middle_frame_is_the_middle_in_time(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("FaceSwap",), folder="frames")
    for folder in (tree / REAL / "c23/frames").iterdir():
        for path in folder.iterdir():
            path.unlink()
        for number, red in ((2, 20), (10, 100), (30, 180)):
            Image.new("RGB", (32, 32), (red, 0, 0)).save(folder / f"frame_{number}.png")
        (folder / ".frame_0.png").write_bytes(b"hidden, and no image")
    show(tree, tmp_path / "sheet.png", identities=1, tile=TILE)
    assert shows(tile_at(read(tmp_path / "sheet.png"), 0, 0, 1), (100, 0, 0))
    assert set(find_frames(tree)["frame"]) == {0, 10}


def test_packed_frames_are_drawn_like_files(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=3, methods=("FaceSwap",))
    show(tree, tmp_path / "files.png", tile=TILE)
    for folder in {path.parent for path in tree.rglob("*.png")}:
        names = sorted(path.name for path in folder.iterdir())
        images = np.stack([read(folder / name).transpose(2, 0, 1) for name in names])
        write_pack(folder.with_name(f"{folder.name}.npy"), [int(n[:4]) for n in names], images)
        shutil.rmtree(folder)
    show(tree, tmp_path / "packs.png", tile=TILE)
    assert np.array_equal(read(tmp_path / "files.png"), read(tmp_path / "packs.png"))


def test_an_unreadable_frame_is_crossed_out_and_named(tmp_path, capsys):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("Deepfakes", "FaceSwap"))
    colours = paint(tree)
    broken = "manipulated_sequences/Deepfakes/c23/faces/000_001/0000.png"
    (tree / broken).write_bytes(b"")
    show(tree, tmp_path / "sheet.png", identities=1, tile=TILE)
    sheet = read(tmp_path / "sheet.png")
    assert shows(tile_at(sheet, 0, 0, 1), colours[f"{REAL}/c23/faces/000"])
    assert shows(
        tile_at(sheet, 0, 2, 1), colours["manipulated_sequences/FaceSwap/c23/faces/000_001"]
    )
    crossed = tile_at(sheet, 0, 1, 1)
    assert (crossed[0] == crossed[0, 0]).all()  # its frame
    assert crossed[0, 0, 0] > 1.5 * crossed[0, 0, 1]  # is red
    said = capsys.readouterr().out
    assert f"{broken} cannot be read: the file is empty" in said
    counts = [
        line.split("│")[3:6]
        for line in said.splitlines()
        if "Deepfakes │" in line.replace("  ", "")
    ]
    assert [[int(cell) for cell in line] for line in counts] == [[6, 0, 1]]


def test_a_broken_pack_is_crossed_out_too(tmp_path, capsys):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1, methods=("FaceSwap",))
    folder = tree / "manipulated_sequences/FaceSwap/c23/faces/000_001"
    shutil.rmtree(folder)
    folder.with_name("000_001.npy").write_bytes(b"cut off")
    show(tree, tmp_path / "sheet.png", identities=1, tile=TILE)
    assert "000_001.npy#0 cannot be read: not a pack of frames" in capsys.readouterr().out


@pytest.mark.parametrize("out", [".", "folder"])
def test_a_folder_is_no_file_to_draw_to(tmp_path, monkeypatch, out):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokdError, match="is a folder: name the PNG file"):
        show(tree, Path(out), identities=1, tile=TILE)


def test_a_sheet_that_cannot_be_written_leaves_no_draft(tmp_path, monkeypatch):
    tree = make_ffpp(tmp_path / "tree", ids=6, frames=1)
    write = Path.write_bytes

    def full(self, data):
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TokdError, match=r"sheet\.png cannot be written: No space left"):
        show(tree, tmp_path / "sheet.png", identities=1, tile=TILE)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("missing", "no such file or folder: .*tree"),
        ("empty", "tree has no frames: they belong in original_sequences/youtube/<quality>"),
        ("no frames", "tree has no frames: they belong in"),
        ("no image", r"0000\.png cannot be read: not an image$"),
        ("no images", r"000/0000\.png cannot be read: not an image, nor can the 1 other frame"),
    ],
)
def test_trees_that_cannot_be_drawn_are_named(tmp_path, broken, says):
    root = tmp_path / "tree"
    for name in ("000", "001") if broken == "no images" else ("000",):
        frames = root / REAL / "c23/frames" / name
        if broken != "missing":
            frames.mkdir(parents=True)
        if broken.startswith("no image"):
            Path(frames / "0000.png").write_bytes(b"text")
    if broken == "empty":
        shutil.rmtree(root / REAL / "c23")
    with pytest.raises(TokdError, match=says):
        show(root, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
