import shutil

import pytest
from tiny_videos import contents, film, make_ffpp_videos, rows_of
from trees import make_celebdf

from tokd_lightning.data.layouts.celebdf import scan_celebdf
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.layouts.flat import scan_flat
from tokd_lightning.data.reader import read_any
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare
from tokd_lightning.prepare.plan import make_plan

SMALL = {"frames": 2, "size": 32, "detector": "none", "workers": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode(film(0, 3), file, "c23")
    return file


@pytest.fixture
def celebdf(tmp_path, clip):
    root = make_celebdf(tmp_path / "tree", ids=5, clips=1, frames=0, youtube_part="Youtube-real")
    for file in root.rglob("*.mp4"):
        shutil.copy(clip, file)
    return root


def test_celebdf_with_a_twin_is_what_training_reads(celebdf, tmp_path):
    out = tmp_path / "out"
    assert prepare("celebdf", celebdf, out, **SMALL, reencode=40) == 0
    file = "List_of_testing_videos.txt"
    assert (out / file).read_bytes() == (celebdf / file).read_bytes()
    number = len(list(celebdf.rglob("*.mp4")))
    for quality in ("original", "c40"):
        scan = scan_celebdf(out, quality, frames_per_video=2)
        assert len(scan.manifest) + 2 * len(scan.dropped) == 2 * number
        assert scan.dropped
        mine = [r for r in rows_of(out / "manifest.csv") if r["quality"] == quality]
        assert {r["path"] for r in mine} == set(scan.manifest["path"])
        splits = dict(zip(scan.manifest["path"], scan.manifest["split"], strict=True))
        assert {r["path"]: r["split"] for r in mine} == splits
        assert {r["reencoded"] for r in mine} == {"40" if quality == "c40" else ""}
    assert (out / "Youtube-real/c40/faces/00000/0000.jpg").is_file()


def test_prepared_celebdf_is_prepared_from_deeper_folders_alike(celebdf, tmp_path):
    prepare("celebdf", celebdf, tmp_path / "a", **SMALL)
    for part in ("Celeb-real", "Youtube-real", "Celeb-synthesis"):
        (celebdf / part).rename(tmp_path / "videos")
        (celebdf / part).mkdir()
        (tmp_path / "videos").rename(celebdf / part / "videos")
    prepare("celebdf", celebdf, tmp_path / "b", **SMALL)
    one, other = (contents(tmp_path / name) for name in "ab")
    for made in (one, other):
        del made["prepare.json"], made["groups.json"]
    assert one == other


def test_flat_tree_keeps_its_form_and_a_twin_stands_beside_it(tmp_path, clip):
    root = tmp_path / "tree"
    for place in ("train/real/a b", "train/fake/swap/ä", "valid/real/c", "test/fake/swap/d"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / f"{place}.mp4")
    prepare("folder", root, tmp_path / "out", **SMALL, quality=["c23"], reencode=40)
    scan = scan_flat(tmp_path / "out", "c23", 2)
    twin = scan_flat(tmp_path / "out" / "c40", "c40", 2)
    assert len(scan.manifest) == len(twin.manifest) == 8
    assert "train/fake/swap/ä/0002.jpg" in set(scan.manifest["path"])
    listed = rows_of(tmp_path / "out" / "manifest.csv")
    expected = [*scan.manifest["path"], *(f"c40/{path}" for path in twin.manifest["path"])]
    assert [row["path"] for row in listed] == expected
    assert len(read_any(tmp_path / "out" / "manifest.csv").manifest) == 16
    with pytest.raises(TokdError, match="one quality"):
        prepare("folder", root, tmp_path / "b", **SMALL, quality=["c23", "c40"])


def test_actors_and_faceshifter_come_along(tmp_path, clip):
    root = make_ffpp_videos(tmp_path / "tree", ("c23",), 2)
    for place in ("original_sequences/actors", "manipulated_sequences/DeepFakeDetection"):
        (root / place / "c23/videos").mkdir(parents=True)
    actor = "original_sequences/actors/c23/videos/01__walking.mp4"
    shutil.copy(clip, root / actor)
    shutil.copy(
        clip,
        root / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABC.mp4",
    )
    prepare("ffpp", root, tmp_path / "out", **SMALL)
    methods = ("Deepfakes", "DeepFakeDetection")
    scan = scan_ffpp(tmp_path / "out", "c23", methods=methods, frames_per_video=2)
    assert (scan.manifest["dataset"] == "dfd").sum() == 4
    listed = rows_of(tmp_path / "out" / "manifest.csv")
    assert {r["path"] for r in listed} == set(scan.manifest["path"])
    prepare("ffpp", root, tmp_path / "part", **SMALL, methods=["DeepFakeDetection"])
    assert {r["dataset"] for r in rows_of(tmp_path / "part" / "manifest.csv")} == {"dfd"}


def test_raw_stays_in_the_folder_of_that_name(tmp_path):
    root = make_ffpp_videos(tmp_path / "tree", ("raw", "c40"), 2)
    prepare("ffpp", root, tmp_path / "out", **SMALL)
    assert {p.name for p in (tmp_path / "out/original_sequences/youtube").iterdir()} == {
        "raw",
        "c40",
    }
    for name in ("raw", "c0"):
        scan = scan_ffpp(tmp_path / "out", name, methods=("Deepfakes",), frames_per_video=2)
        assert len(scan.manifest) == 24
    prepare("ffpp", root, tmp_path / "c0", **SMALL, quality=["c0"])
    assert (tmp_path / "c0/original_sequences/youtube/raw/faces/000").is_dir()


def test_faces_are_looked_for_on_the_best_quality_and_on_a_twin_last(tmp_path):
    root = make_ffpp_videos(tmp_path / "tree", ("c40", "raw", "c23", "c5"), 1)
    plan = make_plan("ffpp", root, reencode=2)
    for group in plan.groups:
        assert [clip[0].video.method for clip in group] == ["real", "Deepfakes"]
        for clip in group:
            best = ["raw", "c5", "c23", "c40", "c2"]
            assert [version.video.quality for version in clip] == best
            assert [version.crf for version in clip] == [None] * 4 + [2]
            assert clip[-1].video.place == clip[0].video.place
