"""`load_detector`: pictures of all kinds, several faces, standard input, cameras, folders."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from pages import README, blocks
from PIL import Image
from test_detect import as_json, detect

from tokd_lightning import load_detector
from tokd_lightning.cli import main
from tokd_lightning.deploy import live
from tokd_lightning.errors import TokdError


@pytest.fixture(scope="module")
def detector(model):
    return load_detector(model, threads=1)


@pytest.fixture(scope="module")
def scene(faces):
    """A dark face, and a smaller bright one, RGB."""
    picture = np.full((300, 600, 3), 110, np.uint8)
    picture[20:276, 20:276] = faces[0]
    picture[60:220, 400:560] = np.asarray(Image.fromarray(faces[1]).resize((160, 160)))
    return picture


def test_a_picture_gets_one_score_whatever_it_is_given_as(detector, mixed, model, capsys):
    file = mixed / "dark.png"
    with Image.open(file) as image:
        given = [str(file), file, image.copy(), np.asarray(image)]
    found = detector.score(given)
    assert [one.path for one in found] == [file, file, None, None]
    expected = as_json(capsys, model, file)["files"][0]
    for one in (*found, *(detector.score(each) for each in given)):
        assert (one.status, one.verdict) == ("scored", expected["verdict"])
        assert one.p_fake == pytest.approx(expected["p_fake"], abs=1e-6)
        assert [face.box for face in one.faces] == [tuple(f["box"]) for f in expected["faces"]]
    # A list is scored in batches by several threads, in order.
    many = load_detector(model, threads=3, batch_size=2).score([mixed / "bright.png", file] * 3)
    assert [one.path.name for one in many] == ["bright.png", "dark.png"] * 3
    assert [one.p_fake for one in many[1::2]] == pytest.approx([expected["p_fake"]] * 3, abs=1e-6)


def test_pictures_of_other_kinds_are_turned_and_converted(detector, faces):
    upright = detector.score(faces[0]).p_fake
    image = Image.fromarray(np.rot90(faces[0], 1))
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    with Image.open(buffer) as turned:
        assert detector.score(turned).p_fake == upright
    grey = faces[0].mean(axis=2).astype(np.uint8)
    expected = detector.score(np.stack([grey] * 3, axis=-1)).p_fake
    assert detector.score(grey).p_fake == expected
    assert detector.score(Image.fromarray(grey)).p_fake == expected


def test_a_video_is_the_mean_of_its_frames(detector, mixed, model, capsys):
    one = detector.score_video(mixed / "bright.mp4")
    assert (one.kind, len(one.frames)) == ("video", 6)
    assert one.p_fake == pytest.approx(np.mean([frame.p_fake for frame in one.frames]))
    expected = as_json(capsys, model, mixed / "bright.mp4")["files"][0]
    assert one.p_fake == pytest.approx(expected["p_fake"], abs=1e-6)
    with pytest.raises(TokdError, match="not a video"):
        detector.score_video(mixed / "bright.png")


def test_what_is_no_picture_raises_and_what_cannot_be_read_is_said(detector, mixed, model):
    for wrong in (
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        7,
        np.zeros((0, 0), np.uint8),
    ):
        with pytest.raises(TokdError, match="not a picture: give"):
            detector.score([mixed / "dark.png", wrong])
    found = detector.score([mixed / "notes.txt", mixed / "none.png", np.zeros((64, 80), np.uint8)])
    assert [one.status for one in found] == ["unreadable", "unreadable", "no_face"]
    assert all(one.note and one.p_fake is None and not one.faces for one in found)
    assert detector.score([]) == []
    for wrong in ({"threads": -1}, {"faces": "some"}, {"threshold": 2.0}, {"frames": 0}):
        with pytest.raises(TokdError, match=r"must be|give largest or all"):
            load_detector(model, **wrong)


def test_all_faces_are_scored_and_the_highest_counts(model, scene, tmp_path, capsys):
    one = load_detector(model).score(scene)
    assert len(one.faces) == 1
    assert one.note == "2 faces, the largest scored"
    every = load_detector(model, faces="all").score(scene)
    assert [face.box[0] > 300 for face in every.faces] == [False, True]
    assert every.faces[0].p_fake == pytest.approx(one.p_fake, abs=1e-6)
    assert every.p_fake == every.faces[1].p_fake > every.faces[0].p_fake + 0.1
    Image.fromarray(scene).save(tmp_path / "two.png")
    said = as_json(capsys, model, tmp_path / "two.png", "--faces", "all")["files"][0]
    assert [face["box"] for face in said["faces"]] == [list(face.box) for face in every.faces]
    assert [frame["face"] for frame in said["frames"]] == [0, 1]
    assert detect(model, tmp_path / "two.png", "--faces", "all", "--csv") == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["faces"] == "2"


def test_standard_input_is_a_file(model, mixed, capsys, monkeypatch):
    class Piped:
        buffer = io.BytesIO((mixed / "dark.png").read_bytes())
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdin", Piped)
    found = as_json(capsys, model, "-", mixed / "dark.png")["files"]
    assert [one["path"] for one in found] == ["-", str(mixed / "dark.png")]
    assert found[0]["frames"] == found[1]["frames"]
    monkeypatch.setattr(Piped, "isatty", lambda: True)
    assert detect(model, "-") == 2
    assert "pipe an image" in capsys.readouterr().err


def test_a_camera_is_scored_once_a_second(model, mixed, capsys, monkeypatch):
    monkeypatch.setattr(live, "_EVERY", 0.08)  # of a file, whose frames are 0.04 s apart
    for how, count in (("--json", 3), ("--csv", 4)):
        assert main(["detect", str(model), "--camera", str(mixed / "dark.mp4"), how]) == 0
        assert len(capsys.readouterr().out.splitlines()) == count
    assert main(["detect", str(model), "--camera", str(mixed / "dark.mp4")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].rpartition(" at ")[2] for line in lines] == [
        "0.0 s",
        "0.1 s",
        "0.2 s",
    ]


def test_files_are_scored_once_when_they_have_arrived(tmp_path, monkeypatch, mixed):
    steps = iter([b"half", None, b"whole file", None, None])

    def sleep(_):
        if content := next(steps):
            (tmp_path / "a.png").write_bytes(content)

    monkeypatch.setattr(time, "sleep", sleep)
    found = live.arrivals(tmp_path)
    assert next(found) == [tmp_path / "a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"half"
    assert next(found) == [tmp_path / "a.png"]  # it has changed since
    assert (tmp_path / "a.png").read_bytes() == b"whole file"


def test_the_readme_s_lines_run_as_they_stand(model, mixed, tmp_path, monkeypatch, capsys):
    lines, _ = blocks(README.read_text(), "python")
    assert len(lines.splitlines()) <= 10
    (tmp_path / "models").mkdir()
    given = {"photo.jpg": mixed / "bright.jpg", "clip.mp4": mixed / "dark.mp4"}
    for place, file in {"models/demo": model, **given}.items():
        (tmp_path / place).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})
    first, face, video = capsys.readouterr().out.splitlines()
    assert first.startswith("scored ")
    assert face.startswith("(")
    assert video.split()[0] in ("fake", "real")


@pytest.mark.slow
def test_a_watched_folder_prints_a_line_per_file_until_it_is_interrupted(model, mixed, tmp_path):
    command = [sys.executable, "-m", "tokd_lightning", "detect", str(model), "--watch", tmp_path]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as process:
        for name in ("dark.png", "bright.mp4"):
            (tmp_path / name).write_bytes((mixed / name).read_bytes())
            one = json.loads(process.stdout.readline())
            assert (one["path"], one["status"]) == (str(tmp_path / name), "scored")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_neither_torch_nor_pandas_is_imported(model, mixed):
    code = (
        "import sys; from tokd_lightning import load_detector\n"
        f"detector = load_detector({str(model)!r})\n"
        f"assert detector.score_video({str(mixed / 'dark.mp4')!r}).p_fake is not None\n"
        "barred = {'torch', 'lightning', 'timm', 'pandas', 'matplotlib', 'rich.progress'}\n"
        "assert not barred & set(sys.modules), barred & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_model_whose_verdicts_mean_little_warns(model, copied):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_detector(model)
    record = json.loads((copied / "model.json").read_text())
    record["trained"]["synthetic"] = True
    (copied / "model.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="synthetic faces"):
        assert load_detector(copied).warnings
