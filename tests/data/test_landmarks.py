"""Landmarks next to stored frames: the command, its file, and the points of `tokd prepare`."""

import csv
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from trees import make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.data.landmarks import read_landmarks, write_landmarks
from tokd_lightning.data.reader import read_any
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import landmarks
from tokd_lightning.prepare.landmarks import find_landmarks, take_landmarks


def grid(picture, margin):
    """Points that say what the predictor was given: the mean of the picture, and the margin."""
    return np.full((68, 2), [picture.mean(), margin], np.float32)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(landmarks, "dlib_predictor", lambda: grid)
    return make_ffpp(tmp_path / "tree", ids=6, frames=2, methods=("FaceSwap",))


def lines_of(file):
    with file.open(newline="") as lines:
        return list(csv.reader(lines))


def test_every_file_has_its_points_by_its_path(tree, capsys):
    assert main(["landmarks", str(tree), "--workers", "1"]) == 0
    manifest = read_any(tree).manifest
    rows = lines_of(tree / "landmarks.csv")
    assert rows[0][:3] == ["path", "x0", "y0"]
    assert [row[0] for row in rows[1:]] == manifest["path"].tolist()
    points = read_landmarks(tree / "landmarks.csv", manifest)
    assert points.shape == (24, 68, 2)
    assert np.allclose(points[..., 1], 1.3)
    assert len(np.unique(points[..., 0])) > 12
    assert "68 points of 24 frames, by dlib (iBUG 300-W: not for commercial use)" in (
        capsys.readouterr().out
    )


def test_what_was_found_stays_and_a_killed_command_goes_on(tree, monkeypatch, capsys):
    calls = []

    def killed(picture, margin):
        calls.append(margin)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return grid(picture, margin)

    monkeypatch.setattr(landmarks, "dlib_predictor", lambda: killed)
    with pytest.raises(KeyboardInterrupt):
        find_landmarks(tree, workers=1)
    assert not (tree / "landmarks.csv").exists()
    draft = tree / ".landmarks.csv.part"
    with draft.open("a") as file:
        file.write("cut/off.png,1,2")
    assert find_landmarks(tree, workers=1) == 0
    assert "6 of 24 frames have landmarks already" in capsys.readouterr().out
    assert len(calls) == 8 + 18
    assert not draft.exists()
    assert len(lines_of(tree / "landmarks.csv")) == 25
    assert find_landmarks(tree, workers=1) == 0
    assert len(calls) == 26


def test_qualities_of_a_prepared_tree_share_the_points_of_the_best(tree, monkeypatch):
    root = make_ffpp(tree / "two", ids=6, frames=2, methods=("FaceSwap",), qualities=("c40", "c23"))
    (root / "prepare.json").write_text('{"margin": 1.8}')
    assert find_landmarks(root, workers=1) == 0
    rows = lines_of(root / "landmarks.csv")
    assert rows[0][:4] == ["method", "video", "frame", "x0"]
    assert len(rows) == 25
    both = read_any(root).manifest
    points = read_landmarks(root / "landmarks.csv", both)
    assert not np.isnan(points).any()
    assert np.allclose(points[..., 1], 1.8)
    by = both.assign(x=points[:, 0, 0]).groupby(["method", "video", "frame"])["x"]
    assert (by.nunique() == 1).all()


def test_unreadable_frames_are_counted(tree, capsys):
    broken = next(iter(sorted(tree.rglob("faces/*/*.png"))))
    broken.write_bytes(b"no image")
    assert main(["landmarks", str(tree), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "1 frames cannot be read and have none, e.g. " in out
    assert len(lines_of(tree / "landmarks.csv")) == 24


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x0\n", "has no column y0"),
        ("", "cannot be read as a CSV"),
        ("label,HEAD\n", "does not say which frames"),
        ("path,HEAD\na.png,TAIL\na.png,TAIL\n", "two lines for the frame a.png"),
        ("path,HEAD\na.png,one,TAIL2\n", "holds something that is not a number"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path, text, message):
    head = ",".join(f"{axis}{n}" for n in range(68) for axis in "xy")
    text = text.replace("HEAD", head).replace("TAIL2", ",".join("1" * 135))
    file = tmp_path / "points.csv"
    file.write_text(text.replace("TAIL", ",".join("1" * 136)))
    with pytest.raises(TokdError, match=message) as caught:
        read_landmarks(file, pd.DataFrame({"path": ["a.png"], "video": ["a"], "frame": [0]}))
    assert "\n" not in str(caught.value)


def test_rows_without_points_and_points_without_rows_are_fine(tmp_path):
    file = tmp_path / "points.csv"
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    lost = np.full_like(points, np.nan)
    rows = [(["a", "0"], points), (["b", "1"], points + 1), (["c", "0"], lost)]
    write_landmarks(file, ["video", "frame"], rows)
    table = pd.DataFrame(
        {"video": ["b", "a", "c", "d"], "frame": [1, 0, 0, 0], "path": list("wxyz")}
    )
    found = read_landmarks(file, table)
    assert np.array_equal(found[:2], np.stack([points + 1, points]))
    assert np.isnan(found[2:]).all()


def test_points_of_the_videos_are_moved_into_the_crops(tmp_path, capsys):
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    source = tmp_path / "points.csv"
    write_landmarks(source, ["video", "frame"], [(["000", "3"], points), (["000", "6"], points)])
    row = "faces/000/{0:04d}.jpg,real,000,{1},{0},10,20,40,80"
    header = "path,method,video,quality,frame,x,y,side,stored"
    lines = [row.format(n, q) for q in ("c40", "c23") for n in (3, 6, 9)]
    (tmp_path / "manifest.csv").write_text("\n".join([header, *lines]))
    assert take_landmarks(source, tmp_path) == 1
    assert "1 of 3 frames have no points" in capsys.readouterr().out
    rows = lines_of(tmp_path / "landmarks.csv")
    assert [row[:3] for row in rows[1:]] == [["real", "000", "3"], ["real", "000", "6"]]
    wanted = (points - [10, 20] + 0.5) * 2 - 0.5
    assert np.allclose(np.array(rows[1][3:], float).reshape(68, 2), wanted, atol=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--margin", "0.1"], "--margin 0.1 must be from 0.5 to 10"),
        (["--out", "{tree}/splits/train.json"], "holds landmarks by"),
    ],
)
def test_wrong_options_are_one_line(tree, given, message, capsys):
    given = [word.format(tree=tree) for word in given]
    assert main(["landmarks", str(tree), *given]) == 2
    assert message in capsys.readouterr().err


def test_without_the_extra_the_command_to_install_it_is_named(tree, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "dlib", None)
    landmarks.dlib_predictor.cache_clear()
    assert main(["landmarks", str(tree)]) == 2
    assert 'pip install "tokd-lightning[landmarks]"' in capsys.readouterr().err
    assert not (tree / "landmarks.csv").exists()
    videos = ["prepare", "ffpp", str(tree), "--out", str(tree / "out")]
    assert main([*videos, "--landmarks", "nowhere.csv"]) == 2
    assert "give dlib, or a CSV of points" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("dlib"), reason="needs the extra landmarks")
def test_dlib_finds_the_points_of_a_drawn_face():
    landmarks.dlib_predictor.cache_clear()
    errors = []
    for number in range(6):
        face = ProceduralCast(0, 256).portrait(number)
        low, high = face.points.min(0), face.points.max(0)
        side = round(float((high - low).max()) * 1.3)
        left, top = np.rint((low + high) / 2 - side / 2).astype(int).clip(0)
        crop = np.ascontiguousarray(face.image[top : top + side, left : left + side])
        found = landmarks.dlib_predictor()(crop, 1.3) + np.array([left, top])
        unit = np.linalg.norm(face.points[36:42].mean(0) - face.points[42:48].mean(0))
        eyes = [(p[36:42].mean(0) + p[42:48].mean(0)) / 2 for p in (found, face.points)]
        errors.append(np.linalg.norm(eyes[0] - eyes[1]) / unit)
    assert np.median(errors) < 0.15
