import json
import shutil
from pathlib import Path

import pytest
from trees import METHODS, make_ffpp, write_splits

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.manifest import check
from tokd_lightning.errors import TokdError

OFFICIAL = Path(__file__).parents[3] / "shared/splits"


@pytest.fixture
def tree(tiny_ffpp: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(tiny_ffpp, tmp_path / "tree")


def videos(root: Path, **options):
    manifest = scan_ffpp(root, "c23", **options).manifest
    check(manifest)
    return manifest.drop_duplicates(["dataset", "method", "video"])


def test_a_pair_owns_two_real_and_two_fake_videos(tiny_ffpp):
    rows = videos(tiny_ffpp)
    test = rows[rows["split"] == "test"]
    real = test[test["method"] == "real"]
    assert set(real["video"]) == {"008", "009"}
    assert set(real["source"]) == {""}
    for method in METHODS:
        fakes = test[test["method"] == method].set_index("video")
        assert set(fakes.index) == {"008_009", "009_008"}
        assert fakes.loc["008_009", ["target", "source"]].tolist() == ["008", "009"]
        assert set(fakes["label"]) == {1}
    assert set(real["label"]) == {0}


def test_the_official_sizes_give_one_real_to_four_fakes(tmp_path):
    make_ffpp(tmp_path, ids=1000, frames=1, size=8, suffix=".jpg", links=True)
    pairs = [(f"{i:03d}", f"{i + 1:03d}") for i in range(0, 1000, 2)][::-1]
    write_splits(tmp_path / "splits", train=pairs[:360], val=pairs[360:430], test=pairs[430:])
    rows = videos(tmp_path)
    assert all(targets.is_monotonic_increasing for _, targets in rows.groupby("split")["target"])
    number = rows.groupby(["split", "label"]).size()
    assert number["train"].tolist() == [720, 2880]
    assert number["val"].tolist() == [140, 560]
    assert number["test"].tolist() == [140, 560]


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official split files are not at hand")
def test_the_official_splits_give_720_140_140_of_everything(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / "splits").mkdir(exist_ok=True)
        shutil.copy(OFFICIAL / f"ffpp_{split}.json", tmp_path / f"splits/{split}.json")
    pairs = [p for f in (tmp_path / "splits").iterdir() for p in json.loads(f.read_text())]
    swaps = [ab for a, b in pairs for ab in ((a, b), (b, a))]
    parts = {"original_sequences/youtube": [a for a, _ in swaps]}
    parts |= {f"manipulated_sequences/{m}": [f"{a}_{b}" for a, b in swaps] for m in METHODS}
    frame = tmp_path / "frame.png"
    frame.touch()
    for part, names in parts.items():
        for name in names:
            place = tmp_path / part / "c40/faces" / name
            place.mkdir(parents=True)
            (place / "0000.png").hardlink_to(frame)
    manifest = scan_ffpp(tmp_path, "c40").manifest
    check(manifest)
    sizes = manifest.groupby(["split", "method"])["video"].nunique()
    for split, size in (("train", 720), ("val", 140), ("test", 140)):
        assert sizes[split].to_dict() == dict.fromkeys(("real", *METHODS), size)
    people = manifest.groupby("split")["target"].agg(set)
    assert len(people["train"] | people["val"] | people["test"]) == 1000


def test_frames_are_found_evenly_spaced_with_their_numbers(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=8, size=8)
    rows = scan_ffpp(tmp_path, "c23", frames_per_video=4).manifest
    one = rows[rows["video"] == "000"]
    assert one["frame"].tolist() == [3, 9, 15, 21]
    assert one["path"].tolist()[0] == "original_sequences/youtube/c23/faces/000/0003.png"
    assert len(rows) == 4 * 6 * 5


def test_rows_mix_real_and_fake_within_any_stretch(tiny_ffpp):
    labels = scan_ffpp(tiny_ffpp, "c23").manifest["label"]
    assert all(labels[i : i + 20].nunique() == 2 for i in range(0, len(labels) - 20))


@pytest.mark.parametrize("place", ["splits", "root", "elsewhere"])
def test_split_files_are_found_where_they_may_lie(tree, tmp_path, place):
    expected = videos(tree)
    if place != "splits":
        target = tree if place == "root" else tmp_path / "elsewhere"
        target.mkdir(exist_ok=True)
        for file in (tree / "splits").iterdir():
            file.rename(target / file.name)
    options = {"splits": tmp_path / "elsewhere"} if place == "elsewhere" else {}
    assert videos(tree, **options).equals(expected)


def test_the_first_kind_of_frames_is_taken_unless_another_is_named(tree):
    for quality in tree.glob("*_sequences/*/c23"):
        shutil.copytree(quality / "faces", quality / "images")
    assert videos(tree)["path"].str.contains("/faces/").all()
    assert videos(tree, folder="images")["path"].str.contains("/images/").all()


def test_fewer_methods_are_fewer_fakes(tree):
    shutil.rmtree(tree / "manipulated_sequences" / "FaceSwap")
    rows = videos(tree, methods=["Deepfakes"])
    assert set(rows["method"]) == {"real", "Deepfakes"}


def test_raw_is_also_called_c0(tree):
    for quality in tree.glob("*_sequences/*/c23"):
        quality.rename(quality.with_name("c0"))
    assert set(scan_ffpp(tree, "raw").manifest["quality"]) == {"raw"}


def test_the_actors_are_a_test_set_of_their_own(tree):
    for place, video in (
        ("original_sequences/actors", "01__kitchen"),
        ("manipulated_sequences/DeepFakeDetection", "01_02__kitchen__ABC"),
    ):
        source = tree / "original_sequences/youtube/c23/faces/000"
        shutil.copytree(source, tree / place / "c23/faces" / video)
    rows = videos(tree, methods=["Deepfakes", "DeepFakeDetection"])
    dfd = rows[rows["dataset"] == "dfd"].set_index("video")
    assert set(dfd["split"]) == {"test"}
    assert dfd["label"].to_dict() == {"01__kitchen": 0, "01_02__kitchen__ABC": 1}
    assert dfd.loc["01_02__kitchen__ABC", ["target", "source"]].tolist() == ["01", "02"]
    assert len(rows) == 22
    (tree / "splits/train.json").unlink()
    assert len(videos(tree, methods=["DeepFakeDetection"])) == 2


def test_an_empty_video_is_reported_and_the_rest_is_used(tree):
    folder = tree / "original_sequences/youtube/c23/faces/000"
    for file in folder.iterdir():
        file.unlink()
    scan = scan_ffpp(tree, "c23")
    assert scan.empty == ["original_sequences/youtube/c23/faces/000"]
    assert len(scan.manifest) == 49 * 4


def only_videos(tree):
    for quality in tree.glob("*_sequences/*/c23"):
        (quality / "faces").rename(quality / "videos")


def no_images(tree):
    for file in tree.rglob("*.png"):
        file.unlink()


def rename(old, new):
    return lambda tree: (tree / old).rename(tree / new)


def write(name, content):
    return lambda tree: (tree / "splits" / name).write_text(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no data folder .*--data.root"),
        (rename("original_sequences", "x"), "no folder .*youtube: the real videos belong there"),
        (rename("manipulated_sequences/FaceSwap", "x"), "no folder .*FaceSwap.*--data.methods"),
        (
            rename("original_sequences/youtube/c23", "original_sequences/youtube/c40"),
            r"no quality 'c23' in .*youtube: choose from c40 \(--data.quality\)",
        ),
        (only_videos, "has only videos: extract their frames to .*faces/<video>/ first"),
        (
            rename(
                "manipulated_sequences/FaceSwap/c23/faces",
                "manipulated_sequences/FaceSwap/c23/frames",
            ),
            "no folder faces in .*FaceSwap/c23: .*--data.folder",
        ),
        (no_images, "50 video folders for quality c23, but none holds an image"),
        (lambda tree: (tree / "splits/val.json").unlink(), "no split file .*val.json: .*official"),
        (write("val.json", "[[,"), "val.json is not a readable JSON file"),
        (write("val.json", '{"a": 1}'), "val.json is not a list of identity pairs"),
        (write("val.json", '[["006", "007", "x"]]'), "val.json holds .*where a pair"),
        (write("val.json", "[[6, 7]]"), r"val.json holds \[6, 7\] where a pair"),
        (
            write("val.json", '[["006", "007"], ["998", "999"]]'),
            "name 10 videos that are not in .*: original_sequences/youtube/c23/faces/998, ",
        ),
        (
            write("val.json", '[["000", "007"]]'),
            "identity 000 is in both train.json and val.json",
        ),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_in_one_line(tree, spoil, message):
    spoil(tree)
    with pytest.raises(TokdError, match=message) as caught:
        scan_ffpp(tree, "c23")
    assert "\n" not in str(caught.value)


def test_some_other_folder_is_not_a_tree(tmp_path):
    (tmp_path / "holiday.png").touch()
    with pytest.raises(TokdError, match=r"is not an FF\+\+ tree"):
        scan_ffpp(tmp_path, "c23")


def test_an_unknown_method_is_named(tiny_ffpp):
    with pytest.raises(TokdError, match=r"no method 'Deepfake' in FF\+\+; choose from Deepfakes, "):
        scan_ffpp(tiny_ffpp, "c23", methods=["Deepfake"])


def test_one_folder_given_for_splits_is_the_only_one_searched(tree, tmp_path):
    write_splits(tmp_path / "mine", train=[["000", "001"]], val=[["002", "003"]])
    with pytest.raises(TokdError, match=r"no split file .*mine/test.json"):
        scan_ffpp(tree, "c23", splits=tmp_path / "mine")


def test_splits_of_the_tree_are_json_as_the_authors_write_them(tiny_ffpp):
    pairs = json.loads((tiny_ffpp / "splits/train.json").read_text())
    assert pairs == [["000", "001"], ["002", "003"], ["004", "005"]]
