"""Warnings about files that are unlike the training data."""

import json

import numpy as np
import pytest
from PIL import Image
from test_detect import as_json, detect

from tokd_lightning import load_detector
from tokd_lightning.demo.video import encode
from tokd_lightning.deploy.compression import jpeg_quality, quality_of_files, worth
from tokd_lightning.deploy.doubts import unlike_training
from tokd_lightning.deploy.found import Look, ReadOptions

FACE = np.zeros((64, 64, 3), np.uint8)


def doubts(side, size, crf=None, cut=True, trained=23.0, stored=None, jpeg=None, worth=None):
    looks = [Look(0, None, (0, 0, side, side), FACE, None, 1.0)]
    wanted = ReadOptions(1, 64, "haar", 1.3, False, stored, crf=trained, jpeg=worth)
    return [warning[:16] for warning in unlike_training(looks, size, crf, cut, wanted, jpeg)]


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
        ((100, (300, 300), None, True, None, None, 50.0, 70.0), [HARDER]),
        ((100, (300, 300), None, True, None, None, 51.0, 70.0), []),
        ((100, (300, 300), None, True, None, None, 50.0, None), []),
        ((100, (300, 300), None, True, None, None, None, 70.0), []),
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


@pytest.mark.parametrize("optimized", [False, True])
def test_the_quality_of_a_jpeg_is_that_it_was_saved_with(faces, tmp_path, optimized):
    for quality in (5, 10, 25, 50, 75, 90, 95, 100):
        Image.fromarray(faces[0]).save(
            tmp_path / "a.jpg", quality=quality, progressive=optimized, optimize=optimized
        )
        with Image.open(tmp_path / "a.jpg") as image:
            assert jpeg_quality(image) == quality
    Image.fromarray(faces[0]).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert jpeg_quality(image) is None


def test_frames_are_worth_their_own_quality_or_that_of_their_videos(faces, tmp_path):
    files = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, file in enumerate(files):
        Image.fromarray(faces[0][:64, :64]).save(file, quality=95 if number % 2 else 85)
    assert quality_of_files(files[1::2]) == pytest.approx(95, abs=1)
    Image.fromarray(faces[0]).save(tmp_path / "a.png")
    assert quality_of_files([tmp_path / "a.png"]) == 100
    assert quality_of_files([tmp_path / "missing.jpg"]) is None
    assert worth(95, None) == 95
    assert worth(95, 23.0) == worth(None, 23.0) == 70
    assert worth(60, 23.0) == 60
    assert worth(100, 40.0) == 10
    assert worth(None, None) is None


def test_a_picture_compressed_harder_than_the_training_data_is_warned_of(copied, faces, tmp_path):
    record = json.loads((copied / "model.json").read_text())
    assert record["trained"]["jpeg_quality"] == 100  # its frames are PNG files, of CRF 23
    scene = np.full((400, 700, 3), 110, np.uint8)
    scene[60:316, 200:456] = faces[0]
    detector = load_detector(copied)
    for quality, expected in ((30, 1), (80, 0)):
        Image.fromarray(scene).save(tmp_path / "a.jpg", quality=quality)
        found = detector.score(tmp_path / "a.jpg").warnings
        assert len(found) == expected
        said = "compressed harder than the training data: JPEG quality 30, theirs is worth about 70"
        assert found == [said] * expected
    record["trained"]["jpeg_quality"] = "x" * 9
    (copied / "model.json").write_text(json.dumps(record))
    assert load_detector(copied).options.jpeg == 70
