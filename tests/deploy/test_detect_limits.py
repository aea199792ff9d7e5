"""`tokd detect` at its edges: large videos, paths that nobody may look at, records that lie."""

import json
import os

import pytest
from PIL import Image

from tokd_lightning.cli import main
from tokd_lightning.deploy import read as reading
from tokd_lightning.deploy import videos
from tokd_lightning.deploy.files import find_files
from tokd_lightning.deploy.found import ReadOptions
from tokd_lightning.deploy.read import read


def test_boxes_are_in_pixels_of_the_video_where_its_frames_are_made_smaller(mixed, monkeypatch):
    wanted = ReadOptions(6, 64, "haar", 1.3, True)
    whole = read(mixed / "dark.mp4", wanted).looks[0]
    monkeypatch.setattr(videos, "_BUDGET", 6 * 128 * 128 * 3)
    smaller = read(mixed / "dark.mp4", wanted).looks[0]
    assert whole.shown.shape == (256, 256, 3)
    assert smaller.shown.shape == (128, 128, 3)
    assert smaller.box == pytest.approx(whole.box, abs=16)
    assert smaller.scale == 0.5
    assert max(smaller.box[:2]) + smaller.box[2] <= 256


def test_asking_for_more_frames_than_there_are_makes_none_smaller(mixed, monkeypatch):
    monkeypatch.setattr(videos, "_BUDGET", 6 * 256 * 256 * 3)
    found = videos.sample_frames(mixed / "dark.mp4", 1000, 10**6)
    assert len(found.pictures) == 6
    assert found.scale == 1
    assert {picture.shape for picture in found.pictures.values()} == {(256, 256, 3)}


def test_a_path_that_cannot_be_looked_at_costs_its_line(model, mixed, capsys):
    given = [f"{'a' * 300}.jpg", str(mixed / "dark.png")]
    assert main(["detect", str(model), *given, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [one["status"] for one in files] == ["unreadable", "scored"]
    assert files[0]["note"] == "File name too long"


def test_a_folder_that_cannot_be_read_is_named(mixed, tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    scandir = os.scandir

    def refuse(path):  # to root nothing is shut
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_files([tmp_path]).found == [tmp_path / "a.png", tmp_path / "shut"]
    found = read(tmp_path / "shut", ReadOptions(1, 64, "haar", 1.3, False))
    assert (found.status, found.note) == ("unreadable", "a folder that cannot be read")


def test_a_file_that_may_not_be_read_is_no_broken_image(mixed, monkeypatch):
    picture, wanted = mixed / "dark.png", ReadOptions(1, 64, "haar", 1.3, False)
    with monkeypatch.context() as patch:  # to root nothing is shut

        def refuse(self, *given):
            raise PermissionError(13, "Permission denied", str(self))

        patch.setattr(type(picture), "open", refuse)
        found = read(picture, wanted)
    assert (found.status, found.note) == ("unreadable", "Permission denied")

    def burst(image):
        raise MemoryError

    monkeypatch.setattr(reading, "to_rgb", burst)
    assert read(picture, wanted).status == "too_large"


def test_a_time_limit_may_be_endless(model, mixed, capsys):
    assert main(["detect", str(model), str(mixed / "dark.png"), "--time-limit", "inf"]) == 0
    assert "1 of 1 files scored" in capsys.readouterr().out


LIES = {
    "input mean": [float("nan")] * 3,
    "input size": float("inf"),
    "face margin": 0,
    "threshold frame value": float("nan"),
    "threshold video value": 7,
    "files onnx sha256": None,
    "trained": [],
}


@pytest.mark.parametrize("key", LIES)
def test_a_record_with_impossible_values_is_refused(key, copied, mixed, capsys):
    record = json.loads((copied / "model.json").read_text())
    *path, last = key.split()
    at = record
    for part in path:
        at = at[part]
    at[last] = LIES[key]
    (copied / "model.json").write_text(json.dumps(record))
    assert main(["detect", str(copied), str(mixed / "dark.png")]) == 2
    error = capsys.readouterr().err
    assert "model.json is not what tokd export writes" in error
    assert error.count("\n") == 1


def test_a_record_of_another_input_size_ends_in_one_line(copied, mixed, capsys):
    record = json.loads((copied / "model.json").read_text())
    record["input"]["crop"] -= 16
    (copied / "model.json").write_text(json.dumps(record))
    assert main(["detect", str(copied), str(mixed / "dark.png")]) == 2
    assert "does not take what it is given" in capsys.readouterr().err
    (copied / "model.json").write_text("[" * 100_000)
    assert main(["detect", str(copied), str(mixed / "dark.png")]) == 2
    assert "is not what tokd export writes" in capsys.readouterr().err
