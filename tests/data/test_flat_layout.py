import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokd_lightning.data.layouts.flat import is_flat, list_flat, scan_flat
from tokd_lightning.data.manifest import check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.packed import write_pack
from tokd_lightning.errors import TokdError


def frames(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.png").touch()
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One real video and a fake of two methods per split, all of the split's name."""
    for split in ("train", "valid", "test"):
        frames(tmp_path / split / "real" / f"{split}_0")
        for method in ("Deepfakes", "FaceSwap"):
            frames(tmp_path / split / "fake" / method / f"{split}_0")
    return tmp_path


def rows(root: Path, **options):
    scan = scan_flat(root, **options)
    check(scan.manifest, scan.apart)
    return scan.manifest


def keys(root: Path, files: bool = False) -> list[tuple[str, str, str, str]]:
    return [(v.split, v.method, v.name, v.place) for v in list_flat(root, files=files)]


def test_splits_and_methods_are_folders(tree):
    videos = rows(tree, quality="c23").drop_duplicates(["method", "video"])
    assert videos[["split", "method", "video", "label"]].to_numpy().tolist() == [
        [split, method, f"{name}_0", int(method != "real")]
        for split, name in (("train", "train"), ("val", "valid"), ("test", "test"))
        for method in ("real", "Deepfakes", "FaceSwap")
    ]
    assert set(videos["quality"]) == {"c23"}
    assert not videos["target"].any()


def test_equal_names_of_two_methods_are_two_videos(tree):
    assert len(rows(tree)) == 3 * 3 * 2


def test_a_fake_needs_no_folder_for_its_method(tree):
    frames(frames(tree / "train/fake/alone") / "masks")
    frames(tree / "train/fake/FaceSwap/more")
    found = keys(tree)
    assert ("train", "fake", "alone", "train/fake/alone") in found
    assert ("train", "FaceSwap", "more", "train/fake/FaceSwap/more") in found
    assert len(found) == 11


def test_packs_are_videos(tree):
    pack = np.zeros((2, 3, 4, 4), np.uint8)
    for place in ("real/p", "fake/q", "fake/FaceSwap/r"):
        write_pack(tree / f"test/{place}.npy", [3, 9], pack)
    test = rows(tree)
    test = test[test["path"].str.contains("#")]
    assert test[["method", "video", "frame"]].to_numpy().tolist() == [
        ["real", "p", 3],
        ["real", "p", 9],
        ["fake", "q", 3],
        ["fake", "q", 9],
        ["FaceSwap", "r", 3],
        ["FaceSwap", "r", 9],
    ]


def test_video_files_are_listed_when_asked_for(tmp_path):
    for place in ("Train/real/a b.mp4", "Train/fake/Ü.avi"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    with pytest.raises(TokdError, match="has only videos: extract their frames first"):
        scan_flat(tmp_path)
    (tmp_path / "test/Fake/NT").mkdir(parents=True)
    (tmp_path / "test/Fake/NT/a b.MP4").touch()
    assert keys(tmp_path, files=True) == [
        ("train", "real", "a b", "Train/real/a b.mp4"),
        ("train", "fake", "Ü", "Train/fake/Ü.avi"),
        ("test", "NT", "a b", "test/Fake/NT/a b.MP4"),
    ]


def test_what_systems_leave_behind_does_no_harm(tree):
    expected = rows(tree)
    video = tree / "train/real/train_0"
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (video / name).touch()
        (tree / "train/real" / name).touch()
        (tree / "train/fake" / name).touch()
    frames(tree / "train/real/._train_0")
    (tree / "train/fake/loop").symlink_to(tree / "train/fake")
    (tree / "train/fake/FaceSwap/loop").symlink_to("loop")
    (video / "up").symlink_to(tree)
    (tree / "val").symlink_to("val")
    assert rows(tree).equals(expected)


def test_a_link_to_a_video_elsewhere_is_followed(tree, tmp_path_factory):
    elsewhere = frames(tmp_path_factory.mktemp("disk") / "clip")
    (tree / "test/real/linked").symlink_to(elsewhere)
    assert set(rows(tree)["video"]) >= {"linked"}


@pytest.mark.parametrize("place", ["real/none", "fake/none", "fake/FaceSwap/none"])
def test_a_video_without_frames_is_reported(tree, place):
    (tree / "test" / place).mkdir()
    scan = scan_flat(tree)
    assert scan.empty == [f"test/{place}"]
    assert len(scan.manifest) == 18


def test_a_video_in_two_splits_is_refused(tree):
    frames(tree / "train/real/test_0")
    with pytest.raises(TokdError, match="has train/real/test_0 and test/real/test_0: a method"):
        rows(tree)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: frames(t / "val/real/x"), "has both val and valid: keep one"),
        (lambda t: frames(t / "test/Real/x"), "has both Real and real: keep one"),
        (lambda t: frames(t / "test/fake/Real/x"), "calls a manipulation real"),
        (lambda t: (t / "test/real/0.png").touch(), "test/real holds images where folders of"),
        (lambda t: (t / "test/fake/0.png").touch(), "test/fake holds images where folders of"),
        (lambda t: (t / "valid").rename(t / "valid2") / "x", None),
        (lambda t: [f.unlink() for f in t.rglob("*.png")], "9 videos, but none holds an image"),
        (lambda t: [shutil.rmtree(f) for f in t.glob("*/*/*")], "has no frames: it needs train"),
    ],
)
def test_what_is_wrong_with_a_tree_is_one_line(tree, spoil, message):
    spoil(tree)
    if message is None:
        assert set(rows(tree)["split"]) == {"train", "test"}
        return
    with pytest.raises(TokdError, match=message) as caught:
        rows(tree)
    assert str(caught.value).isprintable()


def test_other_folders_are_not_flat(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "train/images").mkdir(parents=True)
    assert is_flat(tree)
    assert not is_flat(other)
    with pytest.raises(TokdError, match="train has neither real nor fake"):
        scan_flat(other)
    with pytest.raises(TokdError, match=r"no data folder .*--data.root"):
        scan_flat(other / "none")


def test_the_module_reads_a_flat_tree(tree):
    for file in tree.rglob("*.png"):
        Image.new("RGB", (8, 8)).save(file)
    data = ManifestDataModule(tree, name="own", size=8, num_workers=0, batch_size=3)
    assert data.manifest["dataset"].unique().tolist() == ["own"]
    assert sum(len(batch["label"]) for batch in data.test_dataloader()) == 6
    data = ManifestDataModule(tree, teacher_quality="c23", num_workers=0)
    with pytest.raises(TokdError, match="does not say which frames are c23"):
        _ = data.manifest
