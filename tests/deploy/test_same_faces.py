"""A student is fed in use what it was trained on: `tokd detect` against test and evaluate."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from PIL import Image
from test_detect import as_json, detect, refused

from tokd_lightning.cli import main
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.demo.video import encode
from tokd_lightning.deploy.crop import network_input
from tokd_lightning.deploy.record import open_model, warnings


def export(run, out, *given):
    assert main(["export", str(run), "--out", str(out), *map(str, given)]) == 0
    return json.loads((out / "model.json").read_text())


def test_frames_that_do_not_say_how_they_were_cut_are_taken_whole(run, data, tmp_path, capsys):
    record = export(run, tmp_path / "model", "--format", "safetensors")
    assert record["face"]["detector"] == "none"
    assert "on 40 of the validation frames P(fake) is off by 0.000" in record["face"]["source"]
    capsys.readouterr()
    expected = pd.read_csv(run / "test_frames.csv").set_index("path")["p_fake"]
    given = [*(data / path for path in expected.index), "--backend=torch"]
    said = as_json(capsys, tmp_path / "model", *given)
    assert said["counts"] == {"scored": len(expected)}
    found = [one["p_fake"] for one in said["files"]]
    assert np.abs(np.array(found) - expected.to_numpy()).mean() < 0.02


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """An FF++ tree of drawn faces that fill a part of the picture; fakes are brighter."""
    from trees import write_splits

    root = tmp_path_factory.mktemp("videos")
    write_splits(root / "splits", train=[], val=[], test=[["000", "001"], ["002", "003"]])
    cast = ProceduralCast(0, 160)
    for index, (name, donor) in enumerate([("000", "001"), ("001", "000"), ("002", "003")]):
        face = np.asarray(cast.portrait(2 * index).image).astype(float)
        for part, video, light in (
            ("original_sequences/youtube", name, 0),
            ("manipulated_sequences/Deepfakes", f"{name}_{donor}", 60),
        ):
            scene = np.full((6, 200, 300, 3), 90.0)
            for t in range(6):
                scene[t, 20:180, 60 + 6 * t : 220 + 6 * t] = face * 0.7 + light
            place = root / part / "c23/videos" / f"{video}.mp4"
            place.parent.mkdir(parents=True, exist_ok=True)
            encode(scene.clip(0, 255).astype(np.uint8), place, "c23")
    return root


@pytest.mark.thinned(2)
@pytest.mark.parametrize("size", [64, 96])  # the run's own, and one that training makes smaller
def test_videos_are_cut_as_the_frames_that_were_prepared(size, run, videos, tmp_path, capsys):
    prepared, copy = tmp_path / "prepared", shutil.copytree(run, tmp_path / "run")
    options = ["--frames", "6", "--size", str(size), "--encoding", "png", "--workers", "1"]
    assert main(["prepare", "ffpp", str(videos), "--out", str(prepared), *options]) == 0
    assert main(["evaluate", str(copy), "--on", f"own-c23:{prepared / 'manifest.csv'}"]) == 0
    scores = pd.read_csv(next(copy.glob("evaluations/*/frames.csv")))
    expected = scores.groupby(["method", "video"])["p_fake"].mean()
    record = export(copy, tmp_path / "model", "--format", "safetensors", "--data", prepared)
    made = json.loads((prepared / "prepare.json").read_text())
    assert record["face"]["detector"] == made["detector"] == "haar"
    assert (record["face"]["margin"], record["face"]["stored"]) == (1.3, size)
    capsys.readouterr()
    files = sorted(videos.rglob("*.mp4"))
    said = as_json(capsys, tmp_path / "model", *files, "--frames", 6, "--backend=torch")
    apart = []
    for one in said["files"]:
        path = Path(one["path"])
        method = "real" if "original_sequences" in path.parts else "Deepfakes"
        apart.append(abs(one["p_fake"] - expected[method, path.stem]))
    assert len(apart) == len(expected) == 6
    assert np.mean(apart) < 0.02
    # And the prepared frames themselves are not cut again.
    frames = [prepared / path for path in scores["path"]]
    said = as_json(capsys, tmp_path / "model", *frames, "--backend=torch")
    found = np.array([one["p_fake"] for one in said["files"]])
    assert np.abs(found - scores["p_fake"].to_numpy()).mean() < 0.02
    assert {one["note"] for one in said["files"]} == {
        f"taken whole: its {size} pixels are those of a prepared frame"
    }


def test_others_can_make_the_input_by_what_stands_in_the_record(model):
    record = json.loads((model / "model.json").read_text())
    fed, reference = record["input"], record["reference"]
    assert "INTER_AREA" in fed["resampling"]
    assert "margin included" in record["face"]["box"]
    for name, digest in reference["sha256"].items():
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == digest
    picture = cv2.cvtColor(cv2.imread(str(model / reference["picture"])), cv2.COLOR_BGR2RGB)
    x, y, width, height = reference["box"]
    size, crop = fed["size"], fed["crop"]
    face = cv2.resize(picture[y : y + height, x : x + width], (size, size), None, 0, 0, 3)
    assert cv2.INTER_AREA == 3
    start = (size - crop) // 2
    middle = face[start : start + crop, start : start + crop].astype(np.float32) / 255
    image = ((middle - fed["mean"]) / fed["std"]).transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_allclose(image, np.load(model / reference["tensor"]), atol=1e-5)
    session = onnxruntime.InferenceSession(model / "model.onnx")
    logits = session.run(None, {"image": image[None]})[0][0]
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4)


def test_a_record_of_before_is_read(copied, mixed, capsys):
    record = json.loads((copied / "model.json").read_text())
    for key in ("stored", "box"):
        del record["face"][key]
    del record["reference"], record["input"]["resampling"]
    (copied / "model.json").write_text(json.dumps(record))
    assert as_json(capsys, copied, mixed / "dark.png")["counts"] == {"scored": 1}


def test_the_yunet_file_goes_with_the_model(run, tmp_path, monkeypatch, mixed, capsys):
    class Network:
        @classmethod
        def create(cls, *_):
            return cls()

        def setInputSize(self, size): ...

        def detect(self, picture):
            return 1, None

    monkeypatch.setattr(cv2, "FaceDetectorYN", Network)
    file, out = tmp_path / "yunet.onnx", tmp_path / "model"
    file.write_bytes(b"a network")
    record = export(run, out, "--format", "safetensors", "--detector", file)
    digest = hashlib.sha256(b"a network").hexdigest()
    assert record["face"]["detector"] == f"yunet-{digest[:16]}"
    assert open_model(out).detector() == str(out / "face_detector.onnx")
    assert (out / "face_detector.onnx").read_bytes() == b"a network"
    capsys.readouterr()
    (out / "face_detector.onnx").unlink()
    code = detect(out, mixed / "dark.png", "--backend", "torch")
    refused(capsys, "whose file is not there as face_detector.onnx: give it with --detector", code)
    assert detect(out, mixed / "dark.png", "--backend", "torch", "--detector", "haar") == 0


def test_a_model_that_is_of_no_use_says_so(copied, mixed, capsys):
    record = json.loads((copied / "model.json").read_text())
    record["trained"]["synthetic"] = True
    record["threshold"]["frame"]["at_half"]["auc"] = 0.9
    (copied / "model.json").write_text(json.dumps(record))
    assert detect(copied, mixed / "dark.png") == 0
    said = capsys.readouterr().err
    assert said.count("trained on synthetic faces, drawn by tokd demo: of no use on real ones") == 1
    assert len(as_json(capsys, copied, mixed / "dark.png")["model"]["warnings"]) == 1
    record["trained"]["synthetic"] = False
    for auc, expected in (
        (0.527, ["its AUC on validation frames is 52.7%, and 50% is chance"]),
        (0.9, []),
    ):
        record["threshold"]["frame"]["at_half"]["auc"] = auc
        assert warnings(record) == expected
    record["threshold"]["frame"] = {"value": 0.5, "rule": ""}
    record["metrics"] = {"val/frame/auc": 0.4}
    assert warnings(record) == ["its AUC on validation frames is 40.0%, and 50% is chance"]


def test_nothing_scored_is_a_failure(model, tmp_path, capsys):
    Image.new("RGB", (200, 200), (90, 90, 90)).save(tmp_path / "none.png")
    assert detect(model, tmp_path / "none.png") == 1
    assert "0 of 1 files scored" in capsys.readouterr().out


@pytest.mark.slow
def test_several_faces_and_missed_ones_are_counted(model, faces, tmp_path, capsys):
    group = np.full((300, 600, 3), 120, np.uint8)
    group[20:276, 20:276] = faces[0]
    group[100:228, 400:528] = cv2.resize(faces[1], (128, 128), interpolation=cv2.INTER_AREA)
    for folder, picture in (("real", group), ("fake", group), ("fake/b", group[:, 540:])):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / folder / "a.png")
    assert detect(model, tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no face on 0 of 1 real and 1 of 2 fake files" in said
    said = as_json(capsys, model, tmp_path)
    assert said["no_face_by_class"] == {
        "real": {"files": 1, "no_face": 0},
        "fake": {"files": 2, "no_face": 1},
    }
    assert [one["note"] for one in said["files"] if one["p_fake"] is not None] == [
        "2 faces, the largest scored"
    ] * 2


@pytest.mark.filterwarnings("error")
def test_a_read_only_picture_is_fed_without_a_warning():
    faces = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    faces.flags.writeable = False
    source = SimpleNamespace(size=4, crop=4, model=SimpleNamespace(header={"mean": 0, "std": 1}))
    fed = network_input(faces, source)
    assert np.allclose(fed.numpy(), faces.transpose(0, 3, 1, 2) / 255)
