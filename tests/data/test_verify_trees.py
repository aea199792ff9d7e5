import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_verify import findings
from trees import METHODS, make_ffpp

from tokd_lightning.data.packed import write_pack

FAKE = "manipulated_sequences"
REAL = "original_sequences/youtube"


@pytest.fixture
def tree(tiny_ffpp: Path, tmp_path: Path) -> Path:
    """FF++ faces at c23: 000-005 train, 006-007 val, 008-009 test; four frames of 48 px."""
    return shutil.copytree(tiny_ffpp, tmp_path / "tree")


def faces(tree: Path, part: str, video: str, quality: str = "c23") -> Path:
    return tree / part / quality / "faces" / video


def picture(path: Path, seed: int, size: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_sound_tree_gives_nothing(tree):
    assert findings(tree) == {}


@pytest.mark.parametrize(
    ("split", "text"),
    [
        ("val", None),
        ("test", "{ broken"),
        ("train", '{"000": "001"}'),
        ("train", '[["000", "001", "002"]]'),
    ],
)
def test_a_spoiled_split_file_does_not_stop_the_rest(tree, split, text):
    file = tree / "splits" / f"{split}.json"
    file.unlink() if text is None else file.write_text(text)
    (faces(tree, REAL, "004") / "0000.png").write_bytes(b"")
    assert findings(tree) == {
        "split-file": [f"{split}.json"],
        "empty-file": [f"{REAL}/c23/faces/004/0000.png"],
    }


def test_split_files_may_lie_elsewhere(tree, tmp_path):
    (tree / "splits").rename(tmp_path / "elsewhere")
    assert findings(tree, splits=tmp_path / "elsewhere") == {}
    assert findings(tree) == {"split-file": ["test.json", "train.json", "val.json"]}


def test_an_identity_that_two_split_files_claim_is_found(tree):
    pairs = json.loads((tree / "splits/test.json").read_text())
    (tree / "splits/test.json").write_text(json.dumps([*pairs, ["000", "009"]]))
    places = (f"{FAKE}/{method}/c23/faces" for method in METHODS)
    assert findings(tree) == {
        "identity-in-two-splits": ["ffpp/000"],
        "missing-video": [f"{p}/{name}" for p in places for name in ("000_009", "009_000")],
    }


def test_a_fake_that_no_pair_names_is_only_noted_if_its_donor_is_of_its_split(tree):
    source = faces(tree, f"{FAKE}/FaceSwap", "000_001")
    for name in ("000_002", "000_008"):
        for number in range(4):
            picture(source.with_name(name) / f"{3 * number:04d}.png", int(name[-1]) + number * 10)
    assert findings(tree) == {
        "leaked-donor": ["ffpp/FaceSwap/000_008"],
        "unlisted-video": [f"{FAKE}/FaceSwap/c23/faces/000_002"],
    }


def test_missing_videos_are_all_named(tree):
    for video in ("001", "002"):
        shutil.rmtree(faces(tree, REAL, video))
    assert findings(tree) == {
        "missing-video": [f"{REAL}/c23/faces/001", f"{REAL}/c23/faces/002"],
    }


def test_a_method_without_a_quality_that_others_have_is_missing(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, size=8, qualities=("raw", "c40"))
    shutil.rmtree(tree / FAKE / "FaceSwap/c40")
    shutil.rmtree(tree / REAL / "raw")
    assert findings(tree) == {
        "missing-method": [f"{FAKE}/FaceSwap/c40/faces", f"{REAL}/c0/faces"],
    }
    assert findings(tree, quality="c40") == {"missing-method": [f"{FAKE}/FaceSwap/c40/faces"]}
    assert findings(tree, quality="c0") == {"missing-method": [f"{REAL}/c0/faces"]}


def test_one_video_under_two_suffixes_is_reported(tree):
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 48, 48), np.uint8)
    write_pack(faces(tree, REAL, "000.npy"), [0, 3, 6, 9], images)
    assert findings(tree) == {"same-name": [f"{REAL}/c23/faces/000"]}


def test_packs_are_verified_like_folders(tree):
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 48, 48), np.uint8)
    for video, count in (("000", 4), ("001", 4), ("002", 3), ("003", 0)):
        shutil.rmtree(faces(tree, REAL, video))
        write_pack(
            faces(tree, REAL, f"{video}.npy"), list(range(count)), images[:count] + int(video)
        )
    broken = faces(tree, REAL, "001.npy")
    broken.write_bytes(broken.read_bytes()[:-7])
    assert findings(tree) == {
        "unreadable-frame": [f"{REAL}/c23/faces/001.npy"],
        "empty-video": [f"{REAL}/c23/faces/003.npy"],
        "short-video": [f"{REAL}/c23/faces/002.npy"],
    }


def test_images_that_training_cannot_read_are_named(tree):
    folder = faces(tree, REAL, "000")
    whole = (folder / "0003.png").read_bytes()
    (folder / "0000.png").write_bytes(b"")
    (folder / "0003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "0006.png").write_text("no picture")
    (folder / "0009.png").unlink()
    Image.open(faces(tree, REAL, "001") / "0009.png").save(folder / "0009.jpg")
    cut = folder / "0009.jpg"
    cut.write_bytes(cut.read_bytes()[:-50])
    place = f"{REAL}/c23/faces/000"
    wanted = {
        "empty-file": [f"{place}/0000.png"],
        "unreadable-frame": [f"{place}/0003.png", f"{place}/0006.png", f"{place}/0009.jpg"],
    }
    assert findings(tree) == wanted
    assert findings(tree, quick=True) == {
        "empty-file": [f"{place}/0000.png"],
        "unreadable-frame": [f"{place}/0006.png"],
    }


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "1"])
def test_other_colour_modes_are_no_fault(tree, mode):
    file = faces(tree, REAL, "000") / "0000.png"
    if mode == "I;16":
        Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(file)
    else:
        Image.open(file).convert(mode).save(file)
    assert findings(tree) == {}


def test_a_jpeg_that_is_called_png_is_noted(tree):
    file = faces(tree, REAL, "000") / "0000.png"
    Image.open(file).save(file, format="JPEG")
    assert findings(tree) == {"wrong-suffix": [f"{REAL}/c23/faces/000/0000.png"]}


def test_an_image_of_another_size_is_found(tree):
    odd = picture(faces(tree, REAL, "000") / "0000.png", 1, size=40)
    item = odd.relative_to(tree).as_posix()
    assert findings(tree) == {"odd-size": [item]}
    assert findings(tree, quick=True) == {"odd-size": [item]}
    assert len(findings(tree, size=40)["odd-size"]) == 10 * 5 * 4 - 1


def test_a_whole_video_of_another_size_is_odd_among_crops(tree):
    files = sorted(faces(tree, REAL, "000").iterdir())
    for number, file in enumerate(files):
        picture(file, number, size=40)
    assert findings(tree) == {"odd-size": [file.relative_to(tree).as_posix() for file in files]}


def test_whole_frames_may_differ_in_size_between_videos_but_not_within_one(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, size=8, folder="images")
    for number, file in enumerate(sorted((tree / REAL / "c23/images/000").iterdir())):
        picture(file, number, size=16)
    assert findings(tree) == {}
    odd = picture(tree / REAL / "c23/images/001/0000.png", 9, size=16)
    assert findings(tree) == {"odd-size": [odd.relative_to(tree).as_posix()]}


def test_empty_and_short_videos_are_found(tree):
    for file in faces(tree, REAL, "000").iterdir():
        file.unlink()
    (faces(tree, REAL, "001") / "0009.png").unlink()
    wanted = {
        "empty-video": [f"{REAL}/c23/faces/000"],
        "short-video": [f"{REAL}/c23/faces/001"],
    }
    assert findings(tree) == wanted
    assert findings(tree, frames=3) == {"empty-video": wanted["empty-video"]}
    assert len(findings(tree, frames=5)["short-video"]) == 10 * 5 - 1


def test_frames_that_do_not_pair_over_qualities_are_found(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, size=16, qualities=("c23", "c40"))
    moved = faces(tree, REAL, "000", "c40") / "0003.png"
    moved.rename(moved.with_name("0004.png"))
    assert findings(tree) == {"unpaired-frames": ["ffpp/real/000 faces"]}
    assert findings(tree, quality="c40") == {}


def test_two_images_of_one_frame_are_found(tree):
    picture(faces(tree, REAL, "000") / "0003.jpg", 3)
    assert findings(tree) == {"same-frame": [f"{REAL}/c23/faces/000/0003.png"]}


@pytest.mark.parametrize(
    ("part", "video", "code"),
    [
        (f"{FAKE}/Deepfakes", "000_001", "duplicate-across-labels"),
        (REAL, "008", "duplicate-across-splits"),
        (REAL, "001", "duplicate-videos"),
    ],
)
def test_content_of_two_videos_is_found(tree, part, video, code):
    shutil.copy(faces(tree, REAL, "000") / "0003.png", faces(tree, part, video) / "0003.png")
    (pair,) = findings(tree)[code]
    assert set(pair.split(" = ")) == {f"{REAL}/c23/faces/000", f"{part}/c23/faces/{video}"}
    assert set(findings(tree)) == {code}
    assert findings(tree, quick=True) == {}


def test_content_of_two_qualities_and_still_pictures_are_told_apart(tmp_path):
    tree = make_ffpp(tmp_path / "tree", ids=6, size=16, qualities=("c23", "c40"))
    shutil.copy(faces(tree, REAL, "000") / "0000.png", faces(tree, REAL, "000", "c40") / "0000.png")
    still = faces(tree, REAL, "001")
    for number in (3, 6):
        shutil.copy(still / "0000.png", still / f"{number:04d}.png")
    place = f"{REAL}/c23/faces/"
    assert findings(tree) == {
        "same-in-two-qualities": [f"{place}000 = {REAL}/c40/faces/000"],
        "repeated-frames": [f"{place}001"],
    }


def test_links_hidden_and_stray_files_are_told(tree):
    folder = faces(tree, REAL, "000")
    (folder / "9999.png").symlink_to("nowhere.png")
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")
    (folder / ".0001.png").touch()
    (folder / "notes.txt").touch()
    (tree / FAKE / "Deepfakes/masks").mkdir()
    (tree / "what").symlink_to(tree, target_is_directory=True)
    (tree / REAL / "c23\\faces").mkdir()
    (tree / "original_sequences\\x.png").touch()
    (tree / "README.md").touch()
    place = f"{REAL}/c23/faces/000"
    assert findings(tree) == {
        "broken-link": [f"{place}/9999.png"],
        "link-loop": [f"{place}/a.png", f"{place}/b.png", "what"],
        "hidden-file": [f"{place}/.0001.png"],
        "windows-name": ["original_sequences\\x.png"],
        "stray-file": [f"{place}/notes.txt", f"{REAL}/c23\\faces"],
    }


def test_a_tree_behind_links_is_followed(tree, tmp_path):
    shutil.move(tree / FAKE, tmp_path / "disk")
    (tree / FAKE).symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk/Deepfakes/c23/faces/000_001/0000.png").write_bytes(b"")
    assert findings(tree) == {"empty-file": [f"{FAKE}/Deepfakes/c23/faces/000_001/0000.png"]}


def test_deepfakedetection_has_its_own_videos_and_no_split(tree):
    for part, video in (
        ("original_sequences/actors", "01__walking"),
        (f"{FAKE}/DeepFakeDetection", "01_02__walking__ABC"),
        (f"{FAKE}/DeepFakeDetection", "02_01__kitchen__ABC"),
    ):
        for number in range(4):
            picture(faces(tree, part, video) / f"{number}.png", hash(video) % 1000 + number)
    place = f"{FAKE}/DeepFakeDetection/c23/faces/02_01__kitchen__ABC"
    assert findings(tree) == {"missing-real": [place]}


def test_the_manifest_within_a_tree_must_name_what_is_there(tree):
    place = f"{REAL}/c23/faces/000"
    (tree / "manifest.csv").write_text(f"path\n{place}/0000.png\n{place}/0001.png\n")
    assert findings(tree) == {"missing-file": [f"{place}/0001.png"]}
    (tree / "manifest.csv").write_bytes(b"path\n\xff\n")
    assert findings(tree) == {"not-listed": ["manifest.csv"]}
