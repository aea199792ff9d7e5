import shutil
from pathlib import Path

import numpy as np
import pytest
from trees import METHODS

from tokd_lightning.data.layouts.ffpp import list_ffpp, scan_ffpp
from tokd_lightning.data.layouts.video_folder import choose_frames
from tokd_lightning.data.manifest import check
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError


@pytest.fixture
def tree(tiny_ffpp: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(tiny_ffpp, tmp_path / "tree")


def videos(root: Path, **options):
    manifest = scan_ffpp(root, "c23", **options).manifest
    check(manifest)
    return manifest.drop_duplicates(["dataset", "method", "video"])


def test_the_actors_have_files_too(tree):
    for place, video in (
        ("original_sequences/actors", "01__kitchen"),
        ("manipulated_sequences/DeepFakeDetection", "01_02__kitchen__ABC"),
    ):
        (tree / place / "raw/videos").mkdir(parents=True)
        (tree / place / f"raw/videos/{video}.mp4").touch()
    fake, real = sorted(
        list_ffpp(tree, "c0", folder="videos", methods=["DeepFakeDetection"]), key=lambda v: v.place
    )
    assert real.place == "original_sequences/actors/raw/videos/01__kitchen.mp4"
    assert (fake.target, fake.source, fake.background) == ("01", "02", "01__kitchen")
    assert {v.split for v in (fake, real)} == {"test"}


def test_face_shifter_is_one_more_method_of_the_same_splits(tree):
    for video in ("Deepfakes", "FaceSwap"):
        assert (tree / "manipulated_sequences" / video).is_dir()
    part = tree / "manipulated_sequences"
    shutil.copytree(part / "Deepfakes", part / "FaceShifter")
    rows = videos(tree, methods=[*METHODS, "FaceShifter"])
    splits = rows.groupby("method")["split"].value_counts().unstack()
    assert splits.loc["FaceShifter"].to_dict() == {"train": 6, "val": 2, "test": 2}
    assert set(rows["label"][rows["method"] == "FaceShifter"]) == {1}


@pytest.mark.parametrize("name", ["raw", "c0"])
def test_files_are_listed_as_the_frames_would_be(tree, name):
    for quality in tree.glob("*_sequences/*/c23"):
        files = quality.with_name(name) / "videos"
        files.mkdir(parents=True)
        for video in (quality / "faces").iterdir():
            (files / f"{video.name}.mp4").touch()
        (files / "._000.mp4").touch()
        (files / "notes.txt").touch()
    found = list_ffpp(tree, "raw", folder="videos")
    frames = list_ffpp(tree, "c23")
    assert [v[:5] for v in found] == [v[:5] for v in frames]
    assert all((tree / v.place).is_file() for v in found)
    assert {v.quality for v in found} == {"raw"}
    assert {v.background for v in found if v.method != "real"} == {f"{i:03d}" for i in range(10)}
    gone = tree / f"original_sequences/youtube/{name}/videos/003.mp4"
    gone.unlink()
    with pytest.raises(TokdError, match=r"name 1 videos that are not in .*/videos/003.mp4; "):
        list_ffpp(tree, "raw", folder="videos")
    found = list_ffpp(tree, "raw", folder="videos", strict=False)
    assert [v.name for v in found if not (tree / v.place).exists()] == ["003"]


def test_two_files_of_one_video_are_not_guessed_between(tree):
    for quality in tree.glob("*_sequences/*/c23"):
        (quality / "faces").rename(quality / "videos")
    for suffix in (".mp4", ".avi"):
        (tree / f"original_sequences/youtube/c23/videos/000{suffix}").touch()
    with pytest.raises(TokdError, match=r"has 000\.\w+ and 000\.\w+: two files of one video"):
        list_ffpp(tree, "c23", folder="videos", strict=False)


def test_packs_stand_beside_folders_or_for_them(tree):
    images = np.zeros((5, 3, 8, 8), np.uint8)
    faces = tree / "original_sequences/youtube/c23/faces"
    shutil.rmtree(faces / "000")
    write_pack(faces / "000.npy", [0, 4, 8, 12, 16], images)
    write_pack(faces / "001.npy", [7], images[:1])
    write_pack(faces / "002.npy", [], images[:0])
    scan = scan_ffpp(tree, "c23", frames_per_video=2)
    check(scan.manifest)
    rows = scan.manifest[scan.manifest["method"] == "real"].set_index("video")
    place = faces.relative_to(tree).as_posix()
    assert rows.loc["000", "path"].tolist() == [f"{place}/000.npy#{i}" for i in (1, 3)]
    assert rows.loc["000", "frame"].tolist() == [4, 12]
    assert rows.loc["001", ["path", "frame"]].tolist() == [f"{place}/001.npy#0", 7]
    assert scan.empty == [f"{place}/002.npy"]
    assert rows.loc["003", "path"].str.endswith(".png").all()


def test_a_folder_that_ends_like_a_pack_is_a_folder(tree):
    faces = tree / "original_sequences/youtube/c23/faces"
    folder = (faces / "000").rename(faces / "000.npy")
    chosen = choose_frames(folder, 2)
    assert chosen == [(3, "/0003.png"), (9, "/0009.png")]
    with pytest.raises(TokdError, match=r"name 1 videos that are not in .*faces/000; "):
        videos(tree)


def test_loops_of_links_are_passed_over(tree):
    expected = videos(tree)
    faces = tree / "original_sequences/youtube/c23/faces"
    (faces / "x").symlink_to("x")
    (faces / "y").symlink_to(faces)
    (faces / "000/z").symlink_to(tree)
    (faces / "000/w.txt").symlink_to("w.txt")
    assert videos(tree).equals(expected)
    shutil.rmtree(faces / "001")
    (faces / "001").symlink_to("001")
    with pytest.raises(TokdError, match=r"name 1 videos that are not in .*faces/001; "):
        videos(tree)


def test_a_file_where_a_folder_of_frames_should_be_is_named(tree):
    folder = tree / "original_sequences/youtube/c23/faces/000"
    shutil.rmtree(folder)
    folder.write_text("?")
    with pytest.raises(TokdError, match=r"cannot read .*faces/000"):
        videos(tree)


def test_frames_with_spaces_and_other_letters_are_frames(tree):
    folder = tree / "original_sequences/youtube/c23/faces/000"
    (folder / "0000.png").rename(folder / "²0.png")
    (folder / "0003.png").rename(folder / "кадр 3.png")
    rows = scan_ffpp(tree, "c23").manifest
    assert rows[rows["video"] == "000"]["frame"].tolist() == [0, 3, 6, 9]


def test_a_number_too_long_for_a_frame_is_none(tree):
    folder = tree / "original_sequences/youtube/c23/faces/000"
    (folder / "0009.png").rename(folder / f"{10**30}.png")
    rows = scan_ffpp(tree, "c23").manifest
    assert rows[rows["video"] == "000"]["frame"].tolist() == [0, 1, 2, 3]
