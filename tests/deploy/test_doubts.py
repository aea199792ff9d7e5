"""Warnings about files that are unlike the training data."""

import json

import numpy as np
import pytest
from PIL import Image
from test_detect import as_json, detect

from tokd_lightning import load_detector
from tokd_lightning.demo.video import encode
from tokd_lightning.deploy.doubts import unlike_training
from tokd_lightning.deploy.found import Look, ReadOptions

FACE = np.zeros((64, 64, 3), np.uint8)


def doubts(side, size, crf=None, cut=True, trained=23.0, stored=None):
    looks = [Look(0, None, (0, 0, side, side), FACE, None, 1.0)]
    wanted = ReadOptions(1, 64, "haar", 1.3, False, stored, crf=trained)
    return [warning[:16] for warning in unlike_training(looks, size, crf, cut, wanted)]


FILLS, TINY, HARDER = "the face fills t", "the face is tiny", "compressed harde"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((200, (300, 300)), [FILLS]),
        ((300, (300, 300)), [FILLS]),
        ((200, (500, 300)), []),
        ((100, (300, 300)), []),
        ((300, (300, 300), None, False), []),
        ((33, (300, 300)), []),
        ((32, (300, 300)), [TINY]),
        ((99, (300, 300), None, True, 23.0, 200), [TINY]),
        ((100, (300, 300), 29.0), [HARDER]),
        ((100, (300, 300), 28.0), []),
        ((100, (300, 300), "lossless"), []),
        ((100, (300, 300), 40.0, True, None), []),
    ],
)
def test_files_unlike_those_of_training_are_warned_of(given, expected):
    assert doubts(*given) == expected


@pytest.mark.slow
def test_a_face_crop_is_warned_of_in_every_output(model, faces, tmp_path, capsys):
    Image.fromarray(faces[0]).save(tmp_path / "crop.png")
    scene = np.full((400, 700, 3), 110, np.uint8)
    scene[60:316, 200:456] = faces[0]
    Image.fromarray(scene).save(tmp_path / "scene.png")
    said = as_json(capsys, model, tmp_path)["files"]
    assert [len(one["warnings"]) for one in said] == [1, 0]
    assert "--detector none" in said[0]["warnings"][0]
    assert detect(model, tmp_path) == 0
    assert "fills" in capsys.readouterr().out
    assert detect(model, tmp_path, "--csv") == 0
    assert "the face fills" in capsys.readouterr().out
    assert load_detector(model).score(faces[0]).warnings == said[0]["warnings"]
    whole = as_json(capsys, model, tmp_path / "crop.png", "--detector", "none")["files"][0]
    assert not whole["warnings"]


def test_a_video_compressed_harder_than_the_training_data_is_warned_of(copied, faces, tmp_path):
    record = json.loads((copied / "model.json").read_text())
    assert record["trained"]["data"].endswith("-c23")
    scene = np.full((400, 700, 3), 110, np.uint8)
    scene[60:316, 200:456] = faces[0]
    for quality, count in (("c23", 0), ("c40", 1)):
        encode(np.stack([scene] * 3), tmp_path / f"{quality}.mp4", quality)
        found = load_detector(copied).score_video(tmp_path / f"{quality}.mp4").warnings
        assert len(found) == count
    assert found == ["compressed harder than the training data: CRF 40, they have 23"]
