import shutil
from pathlib import Path

import numpy as np
import pytest
from celebdf_scans import listed, scan, videos
from rich.console import Console
from trees import make_celebdf

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.layouts.celebdf import crossing
from tokd_lightning.data.layouts.celebdf_tree import PARTS
from tokd_lightning.data.manifest import counts_table
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_celebdf(tmp_path_factory.mktemp("celebdf"))


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "tree")


def test_one_is_real_in_the_list_and_fake_in_the_manifest(made):
    test = videos(made).query("split == 'test'")
    real = test[test["method"] == "real"]
    assert set(real["video"]) == {"id0_0000", "00000", "00001"}
    assert set(real["label"]) == {0}
    fake = test[test["method"] == "Celeb-synthesis"]
    assert set(fake["video"]) == {f"id0_id{b}_0000" for b in range(1, 6)}
    assert set(fake["label"]) == {1}
    assert real["path"].str.contains("-real/").all()
    assert fake["path"].str.startswith("Celeb-synthesis/").all()


def test_names_tell_target_donor_and_background(made):
    found = listed(made)
    assert found["id3_id4_0002"][3:5] == ("id3", "id4")
    assert found["id3_id4_0002"].background == "id3_0002"
    assert found["id3_0002"][3:5] == ("id3", "")
    assert found["00004"][3:5] == ("00004", "")
    assert {v.background for v in found.values() if not v.source} == {""}


def test_validation_holds_out_identities_as_targets_and_as_donors(made):
    found = scan(made)
    rows = found.manifest.drop_duplicates("video")
    celebs = rows[rows["target"].str.startswith("id")]
    held_out = set(celebs.query("split == 'val'")["target"])
    assert len(held_out) == 2
    for split in ("train", "val"):
        mine = celebs[celebs["split"] == split]
        people = set(mine["target"]) | set(mine["source"]) - {""}
        assert people <= held_out if split == "val" else not people & held_out
    assert found.apart is None  # the test shares its people: see test_mixed_lists
    assert set(rows.query("split == 'val'")["label"]) == {0, 1}


def test_every_fake_across_the_border_is_dropped_and_counted_and_no_other(made):
    found = scan(made)
    every = listed(made)
    held_out = {v.target for v in every.values() if v.split == "val"}
    across = {
        v.place
        for v in every.values()
        if v.split != "test" and v.source and (v.target in held_out) != (v.source in held_out)
    }
    assert across == set(found.dropped) == {v.place for v in crossing(every.values())}
    assert len(found.dropped) > 0
    left = set(found.manifest["video"])
    assert left == {v.name for v in every.values() if v.place not in across}


def test_counts_say_how_many_fakes_are_left_out(made):
    found = scan(made)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(counts_table(found.manifest, 1, dropped=len(found.dropped)))
    text = " ".join(capture.get().split())
    assert f"{len(found.dropped)} fakes are left out, as their donor" in text
    assert "fewer" not in text


def test_youtube_videos_are_held_out_at_the_same_fraction(made):
    rows = videos(made, val_fraction=0.5)
    splits = rows[rows["path"].str.startswith("YouTube")]["split"].value_counts()
    assert splits.to_dict() == {"test": 2, "train": 2, "val": 2}


def test_the_draw_depends_on_the_seed_alone(made, tmp_path):
    def held_out(root, seed):
        rows = videos(root, val_seed=seed)
        return frozenset(rows[rows["split"] == "val"]["video"])

    copy = shutil.copytree(made, tmp_path / "copy")
    draws = [held_out(made, seed) for seed in range(8)]
    assert [held_out(copy, seed) for seed in range(8)] == draws
    assert len(set(draws)) > 4
    for part in PARTS:
        (copy / part / "c40").mkdir()
        for video in [v for v in (copy / part).iterdir() if v.name != "c40"]:
            shutil.copytree(video, copy / part / "c40/faces" / video.name)
    rows = videos(copy, quality="c40")
    assert set(rows[rows["split"] == "val"]["video"]) == draws[0]
    assert set(rows["quality"]) == {"c40"}


def test_without_validation_nothing_is_dropped(made):
    found = scan(made, val_fraction=0)
    assert found.dropped == ()
    assert set(found.manifest["split"]) == {"train", "test"}
    assert found.manifest["video"].nunique() == 6 * 3 + 6 + 6 * 5 * 3


def test_people_who_were_never_swapped_with_each_other_are_not_drawn(tree):
    for fake in (tree / "Celeb-synthesis").iterdir():
        target, source, number = fake.name.split("_")
        partner = f"id{int(target[2:]) ^ 1}"
        if source != partner and (target, number) != ("id0", "0000"):
            shutil.rmtree(fake)
    for seed in range(10):
        rows = videos(tree, val_fraction=0.1, val_seed=seed)
        held_out = {t for t in rows[rows["split"] == "val"]["target"] if t.startswith("id")}
        assert held_out in ({"id0", "id1"}, {"id2", "id3"}, {"id4", "id5"})
        assert set(rows.query("split == 'val'")["label"]) == {0, 1}


def test_a_draw_that_leaves_no_fake_is_refused(tree):
    for fake in (tree / "Celeb-synthesis").iterdir():
        if not fake.name.startswith("id0_") or not fake.name.endswith("_0000"):
            shutil.rmtree(fake)
    assert scan(tree).dropped == ()  # no training fake at all: a test set alone is fine
    shutil.copytree(tree / "Celeb-real/id2_0001", tree / "Celeb-synthesis/id2_id3_0001")
    with pytest.raises(TokdError, match=r"no fake is left for .*--data.val_fraction, or 0"):
        scan(tree)
    scan(tree, val_fraction=0)


def test_any_stretch_of_a_split_mixes_real_and_fake(made):
    rows = videos(made)
    for _, mine in rows.groupby("split"):
        real = mine["label"].eq(0)
        stretch = int(np.ceil(max(1 / real.mean(), 1 / (1 - real.mean())))) + 2
        assert all(real[i : i + stretch].nunique() == 2 for i in range(len(real) - stretch + 1))


@pytest.mark.parametrize(
    ("inner", "quality"),
    [
        ("", "original"),
        ("frames", "original"),
        ("original/faces", "original"),
        ("c40/faces", "c40"),
    ],
)
@pytest.mark.parametrize("part", ["YouTube-real", "Youtube-real"])
def test_frames_are_found_where_they_may_lie(made, tmp_path, inner, quality, part):
    root = make_celebdf(tmp_path / "tree", inner=inner, youtube_part=part)
    rows = videos(root, quality=quality)
    expected = videos(made)
    assert rows["video"].tolist() == expected["video"].tolist()
    assert rows["split"].tolist() == expected["split"].tolist()
    assert set(rows["quality"]) == {quality}
    assert all((root / path).is_file() for path in rows["path"])
    assert rows["path"].str.startswith(f"{part}/{inner}").sum() == 6


@pytest.mark.parametrize(
    ("inner", "quality"),
    [
        ("", "original"),
        ("videos", "original"),
        ("original/videos", "original"),
        ("c40/videos", "c40"),
    ],
)
def test_files_are_listed_where_they_may_lie(tmp_path, inner, quality):
    make_celebdf(tmp_path, frames=0, inner=inner)
    found = listed(tmp_path, folder="videos", quality=quality)
    assert len(found) == 6 * 3 + 6 + 6 * 5 * 3
    assert all((tmp_path / v.place).is_file() for v in found.values())
    with pytest.raises(TokdError, match=r"only videos: extract .*/faces/<video>/ .*tokd prepare"):
        scan(tmp_path, quality=quality)


def test_a_quality_lies_beside_the_published_videos(made, tmp_path):
    make_celebdf(tmp_path, frames=0)
    make_celebdf(tmp_path, frames=0, inner="c40/videos")
    make_celebdf(tmp_path, inner="original/faces")
    for quality, inner in (("original", ""), ("c40", "c40/videos/")):
        found = listed(tmp_path, folder="videos", quality=quality)
        assert found["id1_0001"].place == f"Celeb-real/{inner}id1_0001.mp4"
        assert len(found) == 114
    assert videos(tmp_path)["video"].tolist() == videos(made)["video"].tolist()


def test_packs_stand_for_folders(tree):
    images = np.zeros((5, 3, 8, 8), np.uint8)
    for name in ("id1_0001", "id0_0000"):
        shutil.rmtree(tree / "Celeb-real" / name)
        write_pack(tree / f"Celeb-real/{name}.npy", [0, 3, 6, 9, 12], images)
    rows = scan(tree, frames_per_video=2).manifest
    pack = rows[rows["video"] == "id1_0001"]
    assert pack["path"].tolist() == [f"Celeb-real/id1_0001.npy#{i}" for i in (1, 3)]
    assert pack["frame"].tolist() == [3, 9]
    assert rows[rows["video"] == "id0_0000"]["split"].tolist() == ["test"] * 2


def test_an_empty_video_is_reported_and_the_rest_is_used(tree):
    for file in (tree / "Celeb-real/id0_0000").iterdir():
        file.unlink()
    assert scan(tree).empty == ["Celeb-real/id0_0000"]


def test_the_data_module_reads_frames_by_the_same_rules(made):
    module = CelebDFDataModule(
        made, val_fraction=0.4, val_seed=3, frames_per_video=1, size=16, batch_size=8, num_workers=0
    )
    expected = scan(made, val_seed=3, frames_per_video=1).manifest
    assert module.manifest.equals(expected)
    assert (module.name, module.quality) == ("celebdf", "original")
    batch = next(iter(module.val_dataloader()))
    table = module.table("val")
    assert batch["label"].tolist() == table["label"][batch["index"].tolist()].tolist()
