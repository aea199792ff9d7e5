"""Lists that name no videos: what is one video, what is a picture of its own."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.verify import verify


def listed(root: Path, rows, header=("path", "label", "split")):
    """Write a list and its files, all links to one picture."""
    picture = root / ".picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    for path, *_ in rows:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).hardlink_to(picture)
    with (root / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return root / "list.csv"


def videos(root: Path, rows, **options):
    scan = scan_table(listed(root, rows), **options)
    check(scan.manifest, scan.apart)
    return scan.manifest.set_index("path")["video"].to_dict()


# As the public sets of single pictures are laid out: folders of classes and splits, numbered files.
STILLS = {
    "classes in splits": "{split}/{kind}/{n:05d}.jpg",
    "splits in classes": "{kind}/{split}/{n:05d}.jpg",
    "words joined": "training_{kind}/{kind}_{n}.jpg",
    "one folder of images": "images/{kind}_{n:04d}.jpg",
    "kinds below": "{split}/{kind}/images/{n}.jpg",
    "folders of sources": "{source}/{n:05d}.png",
    "sources in splits": "{split}/{source}/{n:05d}.png",
    "a count that runs on": "{source}/{part:05d}/{n:05d}.png",
    "names without a number in common": "portraits/{name}.jpg",
}
NAMES = ("ada", "bo", "cy", "dee")


@pytest.mark.parametrize("form", STILLS.values(), ids=STILLS)
def test_every_picture_of_a_set_of_stills_is_used(tmp_path, form):
    rows = []
    for label, kind in enumerate(("real", "fake")):
        for n in range(120):
            about = {
                "kind": kind,
                "n": n,
                "part": n // 30,
                "split": ("train", "train", "train", "val", "test")[n % 5],
                "source": ("ffhq", "stylegan")[label],
                "name": f"{NAMES[n % 4] * (1 + n // 4)}{kind}",
            }
            rows.append((form.format(**about), label, about["split"]))
    scan = scan_table(listed(tmp_path, rows), frames_per_video=8)
    assert len(scan.manifest) == 240
    assert scan.manifest["video"].nunique() in (120, 240)  # one name in real and in fake is two
    assert len(scan.manifest.drop_duplicates(["method", "video"])) == 240
    assert scan.notes[0].startswith("240 pictures whose list has no column video")


def test_numbered_frames_of_a_folder_are_one_video(tmp_path):
    rows = [
        (f"clips/{video}/{n:04d}.png", int("_" in video), "train")
        for video in ("000", "001", "000_001", "001_000")
        for n in range(0, 90, 3)
    ]
    assert set(videos(tmp_path, rows).values()) == {"000", "001", "000_001", "001_000"}


def test_folders_of_one_name_in_two_places_are_two_videos(tmp_path):
    rows = [(f"{site}/clip1/{n}.png", 0, "train") for site in "ab" for n in range(10)]
    rows += [(f"c/{clip}/{n}.png", 1, "train") for clip in ("x", "y") for n in range(10)]
    found = videos(tmp_path, rows)
    assert set(found.values()) == {"a/clip1", "b/clip1", "x", "y"}
    assert found["a/clip1/0.png"] == "a/clip1"


def test_frames_folders_are_named_by_their_video(tmp_path):
    rows = [
        (f"{kind}/{video}/frames/{n:03d}.jpg", label, "train")
        for label, kind in enumerate(("real", "fake"))
        for video in ("a", "b")
        for n in range(12)
    ]
    assert set(videos(tmp_path, rows).values()) == {"a/frames", "b/frames"}


def test_one_video_in_two_splits_is_refused_though_its_folders_differ(tmp_path):
    rows = [
        (f"{split}/{video}/{n + 50 * (split == 'test')}.png", label, split)
        for split in ("train", "test")
        for label, videos in enumerate((("v", "w"), ("x", "y")))
        for video in videos
        for n in range(12)
    ]
    with pytest.raises(TokdError, match="video 'v' is in test here and in train before"):
        videos(tmp_path, rows)


def test_names_are_equal_at_every_quality_so_that_stills_pair(tmp_path):
    rows = [
        (f"{q}/{split}/{kind}/{n:03d}.png", kind, split, q)
        for q in ("c23", "c40")
        for kind in ("real", "fake")
        for split in ("train", "test")
        for n in range(10)
    ]
    file = listed(tmp_path, rows, ("path", "label", "split", "quality"))
    whole = {"root": tmp_path, "manifest": file, "size": 8, "num_workers": 0}
    module = ManifestDataModule(quality="c40", teacher_quality="c23", **whole)
    train = module.table("train")
    assert len(train) == 20
    assert (train["teacher_path"] == train["path"].str.replace("c40", "c23")).all()


def test_what_is_listed_and_not_used_is_counted_below_the_table(tmp_path, capsys):
    rows = [
        (f"{quality or 'none'}/{video}/{n}.png", int(video > "f"), split, quality)
        for quality in ("c23", "c40", "")
        for split, names in (("train", "ghab"), ("val", "icdj"), ("test", "ekpq"))
        for video in names
        for n in range(10)
    ]
    file = listed(tmp_path, rows, ("path", "label", "split", "quality"))
    module = ManifestDataModule(tmp_path, file, quality="c23", frames_per_video=4, size=8)
    module.setup("fit")
    out = capsys.readouterr().out
    assert "72 of 120 frames are not used: at most 4 of a video are" in out
    assert "120 frames of quality c40 are not used" in out
    assert "120 frames without a quality are not used" in out


def test_verify_and_training_take_the_same_videos(tmp_path):
    rows = [(f"{kind}/{n:05d}.jpg", kind, ("train", "val", "test")[n % 3])
            for kind in ("real", "fake") for n in range(60)]  # fmt: skip
    file = listed(tmp_path, rows)
    told = tmp_path / "told.json"
    verify(file, json=told, workers=1, quick=True)
    counts = json.loads(told.read_text())["counts"]
    assert sum(c["videos"] for c in counts) == 120
