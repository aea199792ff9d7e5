import json
from importlib import metadata

import pytest
from odd_videos import ffmpeg, make
from test_prepare_problems import SMALL, problems
from tiny_videos import YOUTUBE, make_ffpp_videos, rows_of

from tokd_lightning.data.media import VIDEOS
from tokd_lightning.data.versions import media_versions
from tokd_lightning.deploy.files import find_files
from tokd_lightning.prepare.run import prepare
from tokd_lightning.verify.run import verify

FACES = SMALL | {"detector": "none"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A c23 tree in which FFmpeg's own program encoded one video at 40, and one by MPEG-4."""
    tree = make_ffpp_videos(tmp_path_factory.mktemp("mixed") / "tree", ["c23"])
    videos = tree / YOUTUBE / "c23/videos"
    x264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    make(videos / "001.mp4", *x264, "-crf", "40")
    make(videos / "002.mp4", "-c:v", "mpeg4")
    make(videos / "003.mp4", *x264)  # its own default is 23
    return tree


@pytest.fixture(scope="module")
def prepared(mixed):
    assert prepare("ffpp", mixed, mixed.parent / "out", **FACES) == 0
    return mixed.parent / "out"


def test_prepare_lists_a_wrong_crf_and_verify_finds_it_in_the_result(mixed, prepared, capsys):
    wrong = [row for row in rows_of(prepared / "problems.csv") if row["problem"] == "wrong_crf"]
    assert [(row["video"], row["detail"]) for row in wrong] == [
        ("001", "encoded at CRF 40, not c23")
    ]
    crfs = {(r["method"], r["video"]): r["crf"] for r in rows_of(prepared / "manifest.csv")}
    said = [crfs["real", name] for name in ("000", "001", "002", "003")]
    assert said == ["23", "40", "", "23"]
    counts = json.loads((prepared / "prepare.json").read_text())["crf"]
    assert counts == {"c23": {"23": 10, "40": 1, "unknown": 1}}
    for tree in (mixed, prepared, prepared / "manifest.csv"):
        capsys.readouterr()
        verify(tree, json=True, quick=True)
        found = {f["code"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
        assert len(found["wrong-crf"]["items"]) == 1, tree
        assert "001" in str(found["wrong-crf"]["items"])


def test_prepare_reads_what_detect_reads_and_counts_the_rest(tmp_path, capsys):
    place = tmp_path / "tree/train/real"
    place.mkdir(parents=True)
    names = [f"{suffix[1:]}{suffix}" for suffix in VIDEOS if suffix not in (".hevc", ".265")]
    made = make(tmp_path / "a.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    copied = [name for name in names if name.endswith((".ts", ".3gp", ".flv", ".264", ".mkv"))]
    ffmpeg("-i", made, *(part for name in copied for part in ("-c", "copy", place / name)))
    make(place / "wmv.wmv")
    make(place / "ogv.ogv", "-q:v", "9")
    make(place / "mpg.MPG")
    for name in ("clip.rm", "notes.txt", ".hidden.rm"):
        (place / name).write_text("no video")
    assert prepare("folder", tmp_path / "tree", tmp_path / "out", **FACES) == 0
    rows = rows_of(tmp_path / "out/manifest.csv")
    assert {row["video"] for row in rows} == {*(n.split(".")[0] for n in copied), "wmv", "ogv",
                                              "mpg"}  # fmt: skip
    assert problems(tmp_path / "out") >= {
        ("", "clip", "", "passed_over"),
        ("", "notes", "", "passed_over"),
    }
    said = " ".join(capsys.readouterr().out.split())
    assert "in the videos' folders that are not videos by name (1 .rm, 1 .txt)" in said
    assert len(find_files([place]).found) == len({row["video"] for row in rows})


def test_versions_are_recorded_and_others_are_said(mixed, prepared, capsys):
    record = json.loads((prepared / "prepare.json").read_text())
    (versions,) = record["versions"]
    assert versions == media_versions()
    assert versions["av"] == metadata.version("av")
    encoded = (mixed / YOUTUBE / "c23/videos/000.mp4").read_bytes()
    assert f"x264 - core {versions['libx264']} - ".encode() in encoded
    capsys.readouterr()
    assert prepare("ffpp", mixed, prepared, **FACES) == 0
    assert "made by" not in capsys.readouterr().out
    before = versions | {"av": "16.0.0"}
    (prepared / "prepare.json").write_text(json.dumps(record | {"versions": [before]}))
    assert prepare("ffpp", mixed, prepared, **FACES) == 0
    assert f"reused; it was made by av 16.0.0 (now {versions['av']})" in capsys.readouterr().out
    unfinished = record | {"versions": [before], "finished": False}
    (prepared / "prepare.json").write_text(json.dumps(unfinished))
    video = mixed / YOUTUBE / "c23/videos/005.mp4"
    video.write_bytes(video.read_bytes())
    assert prepare("ffpp", mixed, prepared, **FACES) == 0
    assert "what is there already stays; it was made by av 16.0.0" in capsys.readouterr().out
    made = json.loads((prepared / "prepare.json").read_text())["versions"]
    assert made == [before, versions]
