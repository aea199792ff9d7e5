"""What spoils a training is said by verify and by fit alike: shapes, labels against paths."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from trees import make_ffpp

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.layouts.said import said_label
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.shapes import Shape, telling_shapes
from tokd_lightning.data.suspicions import suspicions
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import inverted
from tokd_lightning.training.trainer_options import check_classes
from tokd_lightning.verify import verify


def found(path: Path, **options) -> dict[str, list[str]]:
    told = path.parent / "told.json"
    verify(path, json=told, workers=1, quick=True, **options)
    return {f["code"]: f["items"] for f in json.loads(told.read_text())["findings"]}


def said(root: Path) -> list[str]:
    return suspicions(scan_ffpp(root, "c23").manifest, root, 299)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_ffpp(tmp_path / "tree", ids=6, frames=2, size=16)


def reshape(root: Path, pattern: str, size: tuple[int, int]) -> None:
    for file in root.glob(pattern):
        Image.new("RGB", size, tuple(file.stat().st_ino % 251 for _ in range(3))).save(file)


def test_a_sound_tree_gives_no_word(root):
    assert said(root) == []
    assert not {"not-square", "shape-by-class", "label-against-path"} & found(root).keys()


def test_whole_frames_of_videos_are_not_square(root):
    reshape(root, "*/*/c23/faces/*/*.png", (32, 18))
    (line,) = said(root)
    assert line.startswith("30 of 30 images looked at are not square, e.g. ")
    assert "of 32x18: training squashes them to 299x299; no faces? tokd prepare" in line
    assert len(found(root)["not-square"]) == 30


@pytest.mark.parametrize("size", [(48, 16), (64, 64)])
def test_reals_of_another_shape_are_said(root, size):
    reshape(root, "original_sequences/*/c23/faces/*/*.png", size)
    line = said(root)[-1]
    assert (
        "tells the classes of ffpp c23 apart: real ones are {}x{}, those of ".format(*size) in line
    )
    assert "16x16" in line
    methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    assert found(root)["shape-by-class"] == [f"ffpp/c23/{m}" for m in methods]


def test_kinds_of_frames_that_training_passes_over_may_have_any_shape(root):
    for file in root.glob("*/*/c23/faces/*/*.png"):
        whole = Path(str(file).replace("/faces/", "/images/"))
        whole.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 18)).save(whole)
    assert "not-square" not in found(root)


def test_shapes_tell_where_the_area_under_their_curve_does():
    rng = np.random.default_rng(0)
    for shift, telling in ((0, False), (10, False), (90, True)):
        sides = {"real": rng.normal(200, 30, 80), "x": rng.normal(200 + shift, 30, 80)}
        shapes = [Shape(("a",), m, (int(s), int(s))) for m, its in sides.items() for s in its]
        auc = roc_auc_score([0] * 80 + [1] * 80, [s.size[0] for s in shapes])
        assert bool(telling_shapes(shapes)) == (auc >= 0.9) == telling


PATHS = {
    "real/000/1.png": 0,
    "training_fake/easy_1.jpg": 1,
    "original_sequences/youtube/c23/faces/000/1.png": 0,
    "manipulated_sequences/Deepfakes/c23/faces/000_001/1.png": 1,
    "Celeb-synthesis/original/faces/id0_id1_0000/1.png": 1,
    "YouTube-real/original/faces/00000/1.png": 0,
    "real_vs_fake/train/real/1.jpg": 0,
    "images/fake_0001.png": 1,
    "fake/real_person/1.png": None,
    "realistic/unfaked/1.png": None,
    "clips/000/1.png": None,
}


@pytest.mark.parametrize(("path", "label"), PATHS.items())
def test_a_path_says_its_label(path, label):
    assert said_label(path) == label


def test_labels_against_paths_are_told_by_verify_and_by_training(tmp_path, capsys):
    lines = ["path,label,split"]
    for label, kind in enumerate(("fake", "real")):  # the wrong way round
        for n in range(12):
            file = tmp_path / f"{kind}/{n}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 20 * n + label, np.uint8)).save(file)
            lines.append(f"{kind}/{n}.png,{label},{('train', 'val', 'test')[n % 3]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert len(found(tmp_path / "list.csv")["label-against-path"]) == 24
    ManifestDataModule(tmp_path, tmp_path / "list.csv", size=8).setup("fit")
    out = capsys.readouterr().out
    assert "24 of 24 videos are labelled against their paths, e.g. fake/0.png as real" in out


def test_scores_far_below_guessing_are_said():
    def table(p_fake):
        names = [f"v{n}" for n in range(40)]
        rows = {"dataset": "d", "method": "m", "video": names, "label": [0, 1] * 20}
        return pd.DataFrame({**rows, "p_fake": p_fake})

    right = np.tile([0.1, 0.9], 20) + np.linspace(0, 0.05, 40)
    assert inverted(table(right)) == ""
    assert "labels may be the wrong way round" in inverted(table(1 - right))
    assert roc_auc_score(np.tile([0, 1], 20), 1 - right) == 0
    rng = np.random.default_rng(0)
    assert not any(inverted(table(rng.random(40))) for _ in range(40))
    assert inverted(table(1 - right).iloc[:4]) == ""  # four videos prove nothing


def test_a_validation_of_one_class_is_an_error_of_verify_as_it_is_of_training(tmp_path):
    lines = ["path,label,split"]
    for n, (split, label) in enumerate([("train", 0), ("train", 1), ("val", 1), ("test", 0)]):
        Image.new("RGB", (8, 8), (9 * n,) * 3).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{label},{split}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    assert found(tmp_path / "m.csv")["one-class"] == ["val of unknown"]
    data = ManifestDataModule(tmp_path, tmp_path / "m.csv", size=8, num_workers=0)
    with pytest.raises(TokdError, match="all 1 frames of the split val are fake"):
        check_classes(data, None, 1)


@pytest.mark.parametrize(
    ("rows", "noted", "refused"),
    [
        (["train,0", "train,1", "test,0"], "no val", "no frames in the split val: .*val_fraction"),
        (["val,0", "val,1"], "no train", "no frames in the split train"),
        (["train,1", "val,1"], "all fake", "all 1 frames of the split train are fake"),
    ],
)
def test_what_training_refuses_is_a_note_of_verify(tmp_path, rows, noted, refused):
    for n in range(len(rows)):
        Image.new("RGB", (8, 8), (9 * n,) * 3).save(tmp_path / f"{n}.png")
    lines = [f"{n}.png,{row}" for n, row in enumerate(rows)]
    (tmp_path / "m.csv").write_text("\n".join(["path,split,label", *lines]))
    assert verify(tmp_path / "m.csv", json=tmp_path / "told.json", workers=1) == 0
    findings = json.loads((tmp_path / "told.json").read_text())["findings"]
    assert [(f["code"], f["details"]) for f in findings] == [
        ("not-for-training", {"unknown": noted})
    ]
    data = ManifestDataModule(tmp_path, tmp_path / "m.csv", size=8, num_workers=0)
    with pytest.raises(TokdError, match=refused):
        check_classes(data, None, 1)


@pytest.mark.parametrize("turn", [1, 6])
def test_shapes_are_those_that_training_sees(root, turn):
    """A phone stores an upright picture as one that lies, with EXIF orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = turn
    for file in root.glob("*/*/c23/faces/*/*.png"):
        real = "original_sequences" in str(file)
        size = (18, 32) if not real or turn == 1 else (32, 18)
        Image.new("RGB", size, (file.stat().st_ino % 251,) * 3).save(
            file, exif=exif if real else None
        )
    assert len(said(root)) == 1  # not square; nothing of the classes
    assert "shape-by-class" not in found(root)
