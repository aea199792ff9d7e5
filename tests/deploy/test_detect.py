"""`tokd detect`: what it says of images, folders and videos, and of files that are none."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_hostile import make_hostile, stream

from tokd_lightning.cli import main
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.demo.video import encode
from tokd_lightning.deploy import videos
from tokd_lightning.deploy.engine import softmax
from tokd_lightning.deploy.report import COLUMNS, printable


def detect(model, *given):
    return main(["detect", str(model), *map(str, given)])


def as_json(capsys, model, *given, code=0):
    assert detect(model, *given, "--json") == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_test_frames_get_the_scores_that_tokd_test_gave_them(backend, model, run, data, capsys):
    expected = pd.read_csv(run / "test_frames.csv").set_index("path")["p_fake"]
    given = [*(data / path for path in expected.index), "--detector=none", f"--backend={backend}"]
    said = as_json(capsys, model, *given)
    found = {Path(one["path"]).relative_to(data).as_posix(): one for one in said["files"]}
    assert list(found) == list(expected.index)
    for path, p_fake in expected.items():
        assert found[path]["p_fake"] == pytest.approx(p_fake, abs=1e-5)
        assert found[path]["verdict"] == ("fake" if p_fake > found[path]["threshold"] else "real")


def test_the_softmax_is_that_of_class_one():
    assert softmax(np.array([[1.0, 3.0]]))[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    np.testing.assert_allclose(softmax(np.array([[1e4, -1e4]])), [[1, 0]])


def test_images_folders_and_videos_in_any_mix(model, mixed, capsys):
    said = as_json(capsys, model, mixed / "dark.mp4", mixed, "--frames", 4)
    assert set(said) == {"model", "counts", "no_face_by_class", "files"}
    assert set(said["model"]) == {
        "name", "weights", "backend", "detector", "thresholds", "faces", "warnings",
    }  # fmt: skip
    assert said["counts"] == {"scored": 9}
    names = [Path(one["path"]).relative_to(mixed).as_posix() for one in said["files"]]
    assert names[0] == "dark.mp4"  # in the order given, and once
    assert names[1:] == [
        "bright.jpg", "bright.mp4", "bright.png", "bright.webp", "dark.jpg", "dark.png",
        "dark.webp", "deeper/bright.png",
    ]  # fmt: skip
    scores = {"bright": [], "dark": []}
    for name, one in zip(names, said["files"], strict=True):
        assert set(one) == {
            "path", "kind", "status", "p_fake", "verdict", "threshold", "frames", "note", "faces",
            "warnings",
        }  # fmt: skip
        assert [face["p_fake"] for face in one["faces"]] == [one["p_fake"]]
        video = name.endswith(".mp4")
        assert one["kind"] == ("video" if video else "image")
        level = "video" if video else "frame"
        assert one["threshold"] == said["model"]["thresholds"][level]
        assert [frame["frame"] for frame in one["frames"]] == ([0, 2, 3, 5] if video else [0])
        for frame in one["frames"]:
            assert set(frame) == {"frame", "time", "p_fake", "box", "face"}
            x, y, width, height = frame["box"]
            assert width == height
            assert 0 <= min(x, y) <= max(x, y) + width <= 256
            assert (
                (frame["time"] == pytest.approx(frame["frame"] / 25))
                if video
                else not frame["time"]
            )
        mean = np.mean([frame["p_fake"] for frame in one["frames"]])
        assert one["p_fake"] == pytest.approx(mean)
        scores[Path(name).name.split(".")[0]].append(one["p_fake"])
    assert min(scores["bright"]) > max(scores["dark"]) + 0.1  # the run has learned that


def test_the_face_is_cut_out_as_tokd_prepare_does(model, faces, tmp_path, capsys):
    from tokd_lightning.prepare.finders import make_finder

    scene = np.full((400, 700, 3), 120, np.uint8)
    scene[100:356, 300:556] = faces[1]
    Image.fromarray(scene).save(tmp_path / "scene.png")
    [one] = as_json(capsys, model, tmp_path / "scene.png")["files"]
    square = make_finder("haar").find("", {0: scene})[0].square(0, 700, 400, 1.3)
    assert one["frames"][0]["box"] == [*square, square.side]
    # A photograph on its side is turned as its EXIF says.
    image = Image.fromarray(np.rot90(scene, 1))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    [turned] = as_json(capsys, model, tmp_path / "turned.png")["files"]
    assert turned["frames"] == one["frames"]


def test_csv_has_one_row_per_file(model, mixed, tmp_path, capsys):
    empty = tmp_path / "a,b\n.jpg"
    empty.touch()
    assert detect(model, mixed / "bright.png", empty, "--csv", "--threshold", "1") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [str(mixed / "bright.png"), str(empty)]
    assert rows[0]["verdict"] == "real"
    assert float(rows[0]["p_fake"]) > 0
    assert (rows[1]["status"], rows[1]["p_fake"]) == ("unreadable", "")


def test_the_table_is_for_people(model, mixed, capsys):
    assert detect(model, mixed / "dark.png", mixed / "bright.mp4", "/nowhere.jpg") == 0
    said = capsys.readouterr()
    assert "█" in said.out
    assert "not scored: /nowhere.jpg: No such file or directory" in said.out
    assert "2 of 3 files scored" in said.out
    assert "no proof about a person" in said.out
    assert "Traceback" not in said.out + said.err


@pytest.mark.slow
def test_hostile_files_cost_one_line_each_and_never_the_batch(model, mixed, tmp_path, capsys):
    expected = make_hostile(tmp_path, mixed)
    assert detect(model, tmp_path, *sorted(tmp_path.glob("*.txt")), mixed / "bright.png") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (status, _) in expected.items():
        if status != "scored":
            line = f"not scored: {tmp_path}/{printable(name)}: "
            assert sum(said.startswith(line) for said in lines) == 1, name
    said = as_json(capsys, model, tmp_path, *sorted(tmp_path.glob("*.txt")), mixed / "bright.png")
    found = {Path(one["path"]).name: one for one in said["files"]}
    assert set(found) == {*expected, "bright.png"}
    for name, (status, kind) in expected.items():
        assert (found[name]["status"], found[name]["kind"]) == (status, kind), found[name]
        assert found[name]["note"] or status == "scored"
        assert "\n" not in found[name]["note"]
    assert found["bright.png"]["p_fake"] is not None


@pytest.mark.slow
def test_annotated_pictures_are_whole_and_of_the_right_names(model, mixed, tmp_path, capsys):
    out = tmp_path / "out"
    given = [mixed / "bright.png", mixed / "deeper", mixed / "bright.mp4", tmp_path / "no.png"]
    for _ in range(2):  # a second time replaces the first
        assert detect(model, *given, "--annotate", out) == 0
        assert {path.name for path in out.iterdir()} == {
            "bright.png.png", "bright.png-2.png", "bright.mp4.png", "bright.mp4_scores.png",
        }  # fmt: skip
    for path in out.iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.width >= 640
            assert np.asarray(image).std() > 10
    assert "4 pictures" in capsys.readouterr().err


def refused(capsys, says, code):
    error = capsys.readouterr().err
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_what_a_user_can_mend_is_one_line(copied, run, mixed, tmp_path, capsys):
    picture = mixed / "dark.png"
    refused(capsys, "does not exist: tokd export", detect(tmp_path / "nothing", picture))
    refused(capsys, "not an exported model", detect(tmp_path, picture))
    refused(capsys, "not an exported model", detect(picture, picture))
    refused(capsys, "tokd export", detect(run, picture))
    refused(capsys, "tokd export", detect(run / "checkpoints/best.ckpt", picture))
    refused(capsys, "no paths were given", detect(copied))
    refused(capsys, "/nowhere.jpg does not exist", detect(copied, "/nowhere.jpg"))
    refused(capsys, "exclude each other", detect(copied, picture, "--camera", 0))
    refused(capsys, "cannot be read", detect(copied, "--camera", "/dev/video77"))
    refused(capsys, "does not exist", detect(copied, "--watch", tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    refused(capsys, "no images and no videos", detect(copied, tmp_path / "empty"))
    refused(capsys, "must be at least 1", detect(copied, picture, "--frames", 0))
    refused(capsys, "between 0 and 1", detect(copied, picture, "--threshold", 50))
    refused(capsys, "above 0", detect(copied, picture, "--time-limit", 0))
    refused(capsys, "no detector", detect(copied, picture, "--detector", "eyes"))
    (tmp_path / "file").touch()
    refused(capsys, "cannot be written", detect(copied, picture, "--annotate", tmp_path / "file"))
    (copied / "model.safetensors").write_bytes(b"x")
    code = detect(copied, picture, "--backend", "torch")
    refused(capsys, "is not the file that model.json next to it describes", code)
    record = json.loads((copied / "model.json").read_text())
    del record["files"]["onnx"]
    (copied / "model.json").write_text(json.dumps(record))
    refused(capsys, "holds only safetensors", detect(copied, picture))
    for broken in (
        "{",
        "[]",
        "{}",
        '{"tokd_model": 1}',
        json.dumps(record | {"classes": ["fake", "real"]}),
    ):
        (copied / "model.json").write_text(broken)
        refused(capsys, "is not what tokd export writes", detect(copied, picture))
    (copied / "model.json").write_text('{"tokd_model": 2}')
    refused(capsys, "of another version", detect(copied, picture))


def test_a_missing_runtime_is_one_line(model, mixed, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code = detect(model, mixed / "dark.png")
    refused(capsys, "need onnxruntime: pip install onnxruntime", code)


@pytest.mark.parametrize("name", ["model.onnx", "model.json", ""])
def test_a_model_may_be_named_by_its_file(name, model, mixed, capsys):
    assert as_json(capsys, model / name, mixed / "dark.png")["counts"] == {"scored": 1}


@pytest.mark.slow
def test_too_slow_a_file_is_given_up(model, mixed, capsys):
    said = as_json(
        capsys, model, mixed / "dark.mp4", mixed / "bright.mp4", "--time-limit", 1e-4, code=1
    )
    assert said["counts"] == {"too_slow": 2}


def test_neither_torch_nor_lightning_is_imported(model, mixed):
    code = (
        "import sys; from tokd_lightning.cli import main\n"
        f"assert main(['detect', {str(model)!r}, {str(mixed / 'dark.png')!r}, '--json']) == 0\n"
        "barred = {'torch', 'lightning', 'timm', 'pandas', 'matplotlib', 'cv2', 'av'}\n"
        "assert not barred & set(sys.modules), barred & set(sys.modules)\n"
        "import tokd_lightning.deploy.read, tokd_lightning.deploy.annotate\n"
        "assert not {'torch', 'lightning', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_name_with_control_characters_does_not_reach_the_terminal(model, mixed, tmp_path, capsys):
    name = tmp_path / "\x1b[31mred\n[bold].png"
    shutil.copy(mixed / "dark.png", name)
    assert detect(model, name) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert as_json(capsys, model, name)["files"][0]["path"] == str(name)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_of_a_long_video_the_frames_are_those_of_training(container, tmp_path, monkeypatch):
    file, plain = tmp_path / f"long.{container}", tmp_path / "plain.mp4"
    light = np.linspace(20, 230, 520).astype(np.uint8)
    encode(np.broadcast_to(light[:, None, None, None], (520, 32, 32, 3)), plain, "c40")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(plain)]
    wanted = evenly_spaced(520, 4)
    select = "+".join(f"eq(n\\,{n})" for n in wanted)
    raw = ["-vf", f"select={select}", "-fps_mode", "passthrough", "-f", "rawvideo"]
    subprocess.run([*ffmpeg, "-c", "copy", str(file)], check=True)
    shown = subprocess.run(
        [*ffmpeg, *raw, "-pix_fmt", "gray", "-"], check=True, capture_output=True
    )
    decoded = []
    read = videos.read_frames
    monkeypatch.setattr(videos, "read_frames", lambda *given: decoded.append(1) or read(*given))
    pictures, times, note, *_ = videos.sample_frames(file, 4, 10**6)
    assert not note
    assert list(pictures) == wanted
    expected = np.frombuffer(shown.stdout, np.uint8).reshape(4, -1).mean(1)
    for level, index in zip(expected, wanted, strict=True):
        assert float(pictures[index].mean()) == pytest.approx(level, abs=2)
        assert times[index] - times[wanted[0]] == pytest.approx((index - wanted[0]) / 25, abs=1e-3)
    assert container == "ts" or not decoded  # the others were sought


def test_where_time_is_short_key_frames_are_looked_at_and_it_is_said(tmp_path, monkeypatch):
    file = tmp_path / "long.mp4"
    light = np.linspace(20, 230, 520).astype(np.uint8)
    encode(np.broadcast_to(light[:, None, None, None], (520, 32, 32, 3)), file, "c23")
    pictures, times, note, *_ = videos.sample_frames(file, 2, 10**6, seconds=0)
    assert "only its key frames are scored" in note
    length, keys, _ = videos._packets(videos.Source(file, guarded=True), 10**6)
    assert length == 520
    assert list(pictures) == [keys[n] for n in evenly_spaced(len(keys), 2)]
    for index, picture in pictures.items():
        assert abs(float(picture.mean()) - light[index]) < 6
        assert times[index] == pytest.approx(index / 25)


def test_frames_that_fill_the_memory_are_made_smaller(mixed, monkeypatch):
    monkeypatch.setattr(videos, "_BUDGET", 4 * 128 * 128 * 3)
    pictures, *_ = videos.sample_frames(mixed / "dark.mp4", 4, 10**6)
    assert {picture.shape for picture in pictures.values()} == {(128, 128, 3)}
    with pytest.raises(videos.UnreadableFile, match="too large"):
        videos.sample_frames(mixed / "dark.mp4", 4, 256 * 256 - 1)


@pytest.mark.slow
def test_a_video_that_ends_early_is_scored_as_far_as_it_goes(model, mixed, tmp_path, capsys):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(stream(mixed / "dark.mp4", cut)[:-40])
    [one] = as_json(capsys, model, cut)["files"]
    assert one["status"] == "scored"
    assert 1 <= len(one["frames"]) < 6
    assert "frame" in one["note"]
    assert detect(model, cut) == 0
    assert "note" in capsys.readouterr().out
