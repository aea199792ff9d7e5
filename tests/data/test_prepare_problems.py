import json
import shutil

import numpy as np
import pytest
from tiny_videos import (
    DEEPFAKES,
    YOUTUBE,
    film,
    make_ffpp_videos,
    put_index_first,
    rows_of,
    write_boxes,
)

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.missed import missed_faces
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.demo.video import encode
from tokd_lightning.prepare import prepare

SMALL = {"frames": 3, "size": 32, "detector": "none", "workers": 1}


@pytest.fixture
def tree(tmp_path):
    return make_ffpp_videos(tmp_path / "tree")


def problems(out) -> set[tuple[str, ...]]:
    return {
        (r["method"], r["video"], r["quality"], r["problem"]) for r in rows_of(out / "problems.csv")
    }


def cut_off(file, share=0.6):
    put_index_first(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])


def test_every_problem_is_listed_and_training_goes_on(tree, tmp_path, capsys):
    videos = {q: tree / YOUTUBE / q / "videos" for q in ("c23", "c40")}
    for quality in ("c23", "c40"):
        (videos[quality] / "000.mp4").unlink()
        (videos[quality] / "001.mp4").write_bytes(b"")
        encode(film(3, 2), videos[quality] / "003.mp4", quality)
    (videos["c40"] / "002.mp4").write_text("not a video")
    encode(film(4, 30), videos["c23"] / "004.mp4", "c0")
    encode(film(4, 30), videos["c40"] / "004.mp4", "c40")
    cut_off(videos["c23"] / "004.mp4")
    assert prepare("ffpp", tree, tmp_path / "out", **SMALL) == 0
    assert problems(tmp_path / "out") == {
        ("real", "000", "c23", "missing"),
        ("real", "000", "c40", "missing"),
        ("real", "001", "c23", "unreadable"),
        ("real", "001", "c40", "unreadable"),
        ("real", "002", "c40", "unreadable"),
        ("real", "003", "c23", "short"),
        ("real", "003", "c40", "short"),
        ("real", "004", "c23", "truncated"),
        ("real", "004", "c23", "wrong_crf"),
        ("real", "004", "c40", "lengths_differ"),
    }
    faces = tmp_path / "out" / YOUTUBE
    for place in ("c23/faces/000", "c40/faces/000", "c23/faces/001", "c40/faces/002"):
        assert not list((faces / place).iterdir())
    assert len(list((faces / "c23/faces/002").iterdir())) == 3
    names = [sorted(p.name for p in (faces / q / "faces/004").iterdir()) for q in ("c23", "c40")]
    assert names[0] == names[1]
    assert len(names[0]) == 3
    assert max(names[0]) < "0020.jpg"
    scan = scan_ffpp(tmp_path / "out", "c40", methods=("Deepfakes",), frames_per_video=3)
    assert scan.empty == [f"{YOUTUBE}/c40/faces/{name}" for name in ("000", "001", "002")]
    said = capsys.readouterr().out
    assert "truncated" in said
    assert "problems.csv" in said.replace("\n", "")


def test_video_without_a_face_is_listed_with_its_fakes(tree, tmp_path, capsys):
    names = ["000", "001", "002", "003", "004"]
    boxes = write_boxes(tmp_path / "boxes.csv", *((name, 0, 10, 10, 30, 30) for name in names))
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"detector": str(boxes)})
    assert problems(tmp_path / "out") == {
        (method, video, quality, "no_face")
        for method, video in (("real", "005"), ("Deepfakes", "005_004"))
        for quality in ("c23", "c40")
    }
    assert list((tmp_path / "out" / DEEPFAKES / "c23/faces/005_004").iterdir()) == []
    record = json.loads((tmp_path / "out/prepare.json").read_text())
    assert record["no_face"] == {"real": [2, 12], "fake": [2, 12]}
    told = "no face was found on 2 of 12 real (16.7%) and 2 of 12 fake (16.7%) videos"
    assert told in " ".join(capsys.readouterr().out.split())
    assert missed_faces(tmp_path / "out") == told
    assert missed_faces(tree) == ""
    details = {(r["method"], r["detail"]) for r in rows_of(tmp_path / "out/problems.csv")}
    assert details == {
        ("real", "no face was found on it"),
        ("Deepfakes", "no face was found on its real video"),
    }


def test_fake_of_a_lost_video_is_searched_itself(tree, tmp_path):
    for quality in ("c23", "c40"):
        (tree / YOUTUBE / quality / "videos/000.mp4").unlink()
    names = ["000_001", "001", "002", "003", "004", "005"]
    boxes = write_boxes(tmp_path / "boxes.csv", *((name, 0, 10, 10, 30, 30) for name in names))
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"detector": str(boxes)})
    assert {row[1:] for row in problems(tmp_path / "out")} == {
        ("000", "c23", "missing"),
        ("000", "c40", "missing"),
    }
    assert len(list((tmp_path / "out" / DEEPFAKES / "c40/faces/000_001").iterdir())) == 3


def test_empty_videos_are_empty_packs(tree, tmp_path):
    (tree / YOUTUBE / "c23/videos/000.mp4").write_bytes(b"")
    prepare("ffpp", tree, tmp_path / "out", **SMALL, pack=True)
    assert len(np.load(tmp_path / "out" / YOUTUBE / "c23/faces/000.npy")) == 0
    scan = scan_ffpp(tmp_path / "out", "c23", methods=("Deepfakes",), frames_per_video=3)
    assert scan.empty == [f"{YOUTUBE}/c23/faces/000.npy"]


def test_nothing_at_all_is_a_failure(tree, tmp_path):
    boxes = write_boxes(tmp_path / "boxes.csv")
    options = SMALL | {"detector": str(boxes)}
    assert prepare("ffpp", tree, tmp_path / "out", **options) == 1
    assert prepare("ffpp", tree, tmp_path / "out", **options) == 1


def test_damaged_best_quality_leaves_the_others(tree, tmp_path):
    (tree / YOUTUBE / "c23/videos/000.mp4").write_text("not a video")
    prepare("ffpp", tree, tmp_path / "out", **SMALL)
    assert problems(tmp_path / "out") == {("real", "000", "c23", "unreadable")}
    assert len(list((tmp_path / "out" / YOUTUBE / "c40/faces/000").iterdir())) == 3


def test_folder_in_place_of_a_video_file_is_missing(tree, tmp_path):
    file = tree / YOUTUBE / "c23/videos/000.mp4"
    file.unlink()
    shutil.copytree(tree / "splits", file)
    prepare("ffpp", tree, tmp_path / "out", **SMALL)
    assert ("real", "000", "c23", "missing") in problems(tmp_path / "out")


def test_frames_are_spread_over_what_can_be_decoded_of_every_quality(tree, tmp_path):
    for quality in ("c23", "c40"):
        encode(film(4, 30), tree / YOUTUBE / quality / "videos/004.mp4", "c0")
    cut_off(tree / YOUTUBE / "c23/videos/004.mp4")
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"frames": 9})
    remarks = {
        r["quality"]: r["detail"]
        for r in rows_of(tmp_path / "out/problems.csv")
        if r["video"] == "004" and r["problem"] in ("truncated", "lengths_differ")
    }
    length = int(remarks["c23"].split()[1])
    assert remarks["c40"].startswith(f"30 frames, {length} at another quality")
    rows = [r for r in rows_of(tmp_path / "out/manifest.csv") if r["video"] == "004"]
    for quality in ("c23", "c40"):
        frames = [int(r["frame"]) for r in rows if r["quality"] == quality]
        assert frames == evenly_spaced(length, 9)


def test_a_whole_video_is_not_read_to_the_length_of_an_unreadable_one(tree, tmp_path):
    encode(film(4, 30), tree / YOUTUBE / "c40/videos/004.mp4", "c40")
    broken = tree / YOUTUBE / "c23/videos/004.mp4"
    encode(film(4, 12), broken, "c0")
    content = bytearray(broken.read_bytes())
    content[60:2000] = bytes(1940)
    broken.write_bytes(content)
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"frames": 9})
    assert ("real", "004", "c23", "unreadable") in problems(tmp_path / "out")
    rows = [r for r in rows_of(tmp_path / "out/manifest.csv") if r["video"] == "004"]
    assert [int(r["frame"]) for r in rows] == evenly_spaced(30, 9)
