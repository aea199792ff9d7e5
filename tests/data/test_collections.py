"""FFIW and WildDeepfake by their trees, and DFDC, DF40 and the like by name."""

import json

import pytest
from PIL import Image
from trees import draw

from tokd_lightning.cli import main
from tokd_lightning.data.layouts.collections import collection_of, list_collection
from tokd_lightning.data.layouts.video_folder import Video
from tokd_lightning.data.manifest import check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.reader import list_any, read_any
from tokd_lightning.data.target import parse_target
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.expectations import hold_against
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip


def images(folder, number, identity=0, kind=0):
    folder.mkdir(parents=True)
    for frame in range(number):
        Image.fromarray(draw(identity, frame, 12, kind)).save(folder / f"{frame}.png")


@pytest.fixture
def ffiw(tmp_path):
    for kind, part in enumerate(("source", "target")):
        for number, split in enumerate(("train", "val", "test")):
            for video in ("0001", "0002"):
                place = tmp_path / part / split / "frames" / video
                images(place, 3, 10 * number + int(video), kind)
    return tmp_path


@pytest.fixture
def wild(tmp_path):
    for number in range(6):
        for kind, label in enumerate(("real", "fake")):
            for sequence in ("3", "7"):
                place = tmp_path / f"{label}_train" / str(number) / label / sequence
                images(place, 2, 10 * number + int(sequence), kind)
    for kind, label in enumerate(("real", "fake")):
        images(tmp_path / f"{label}_test" / "0" / label / "3", 2, 99, kind)
    return tmp_path


def test_ffiw_has_its_own_splits(ffiw):
    assert collection_of(ffiw) == "ffiw"
    module = ManifestDataModule(ffiw, size=12, batch_size=4, num_workers=0)
    for split in ("train", "val", "test"):
        table = module.table(split)
        assert table.groupby("method")["video"].nunique().to_dict() == {"FFIW": 2, "real": 2}
        assert len(table) == 12
        assert table["path"].str.contains(f"/{split}/frames/").all()
        assert (table["label"] == table["path"].str.startswith("target/")).all()
    assert next(iter(module.train_dataloader()))["image"].shape == (4, 3, 12, 12)


def test_videos_of_ffiw_are_listed_for_preparing(tmp_path):
    for part in ("source", "target"):
        for inner in ("train/videos", "val"):
            place = tmp_path / part / inner
            place.mkdir(parents=True)
            (place / "a.mp4").touch()
    places = [video.place for video in list_any(tmp_path)]
    assert places == [
        *("source/train/videos/a.mp4", "target/train/videos/a.mp4"),
        *("source/val/a.mp4", "target/val/a.mp4"),
    ]
    with pytest.raises(TokdError, match="has no frames: `tokd prepare folder`"):
        list_collection(tmp_path)


def test_sequences_of_one_wild_video_stay_in_one_split(wild):
    scan = read_any(wild)
    check(scan.manifest)
    assert set(scan.manifest["split"]) == {"train", "test"}
    assert scan.manifest["video"].nunique() == 26
    module = ManifestDataModule(wild, size=12, val_fraction=0.34, batch_size=4, num_workers=0)
    people = {split: set(module.table(split)["target"]) for split in ("train", "val", "test")}
    assert people["train"].isdisjoint(people["val"] | people["test"])
    assert {text.partition("-")[0] for text in people["val"]} == {"real", "fake"}
    assert len(people["train"] | people["val"]) == 12


def test_verify_takes_both_and_knows_the_published_numbers(ffiw, capsys):
    assert main(["verify", str(ffiw), "--expect", "ffiw", "--frames", "3", "--json"]) == 1
    said = capsys.readouterr().out
    assert "6 videos, published 10000" in said
    assert [found["code"] for found in json.loads(said)["findings"]] == ["unexpected-count"]


@pytest.mark.parametrize(
    ("expected", "numbers"),
    [
        ("dfdc", {("train", "real"): 19_154, ("train", "fake"): 100_000}),
        ("ffiw", {("train", "FFIW"): 9_000, ("test", "FFIW"): 1_000, ("test", "real"): 5}),
        ("wilddeepfake", {("train", "real"): 7_000, ("test", "WildDeepfake"): 314}),
        ("kodf", {("train", "real"): 62_166, ("train", "dfl"): 175_000, ("test", "fsgan"): 776}),
    ],
)
def test_the_published_numbers_are_expected(expected, numbers):
    clips = []
    for (split, method), number in numbers.items():
        clips += [
            Clip(Video("d", method, "x", "", "", "unknown", split, ""), "frames", ())
        ] * number
    report = Report()
    hold_against(clips, expected, report)
    assert report.ok
    hold_against(clips[1:], expected, report)
    assert not report.ok


def test_names_stand_for_own_data(ffiw, tmp_path):
    target = parse_target(f"ffiw:{ffiw}")
    assert (target.kind, target.label) == ("own", "ffiw-unknown")
    assert len(target.module("test", size=12).table("test")) == 12
    assert parse_target(f"mine=dfdc-c23:{ffiw}").label == "mine-c23"
    frames = tmp_path / "deepfakes_detection_datasets/DF40/simswap/frames/a"
    images(frames, 2)
    listed = {"simswap_ff": {"simswap_Fake": {"test": {"a": {"label": "simswap_Fake", "frames": [
        f"{frames.relative_to(tmp_path).as_posix()}/{n}.png" for n in range(2)]}}}}}  # fmt: skip
    (tmp_path / "simswap_ff.json").write_text(json.dumps(listed))
    table = parse_target(f"df40:{tmp_path / 'simswap_ff.json'}").module("test").table("test")
    assert table["method"].tolist() == ["simswap_Fake"] * 2
