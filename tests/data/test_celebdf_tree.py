import os
import shutil
from pathlib import Path

import pytest
from celebdf_scans import VAL, listed, scan, videos
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import make_celebdf

from tokd_lightning.data.layouts.celebdf import list_celebdf, scan_celebdf
from tokd_lightning.data.layouts.celebdf_tree import PARTS, TEST_LIST, read_test_list
from tokd_lightning.data.manifest import check
from tokd_lightning.errors import TokdError

OFFICIAL = Path(__file__).parents[3] / "shared/splits/celebdf_v2_List_of_testing_videos.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_celebdf(tmp_path_factory.mktemp("celebdf"))


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "tree")


def rewrite(root, change):
    file = root / TEST_LIST
    file.write_bytes(change(file.read_text(encoding="utf-8")).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("/", "\\"),
        lambda text: "\ufeff\n\n" + text.replace("\n", "\n \n"),
        lambda text: text.replace(" ", "\t").replace("YouTube-real", "Youtube-real"),
        lambda text: text.replace("Celeb-real/", "./Celeb-DF-v2/Celeb-real/"),
        lambda text: text.replace(".mp4", ""),
        lambda text: text + "\n" + text,
    ],
)
def test_lists_are_read_however_they_were_saved(tree, change):
    expected = read_test_list(tree)
    assert len(expected) == 8
    rewrite(tree, change)
    assert read_test_list(tree) == expected


def test_the_list_may_lie_elsewhere(tree, tmp_path):
    expected = videos(tree)
    (tmp_path / "lists").mkdir()
    (tree / TEST_LIST).rename(tmp_path / "lists" / TEST_LIST)
    assert videos(tree, splits=tmp_path / "lists").equals(expected)
    assert videos(tree, splits=tmp_path / "lists" / TEST_LIST).equals(expected)


def test_a_list_like_the_official_one_gives_its_numbers(tmp_path):
    write_official(tmp_path, synthetic_list())
    assert_official_numbers(tmp_path)


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the authors' list is not at hand")
def test_the_official_list_gives_518_videos_of_which_178_are_real(tmp_path):
    write_official(tmp_path, OFFICIAL.read_text())
    assert_official_numbers(tmp_path)


def synthetic_list():
    lines = [f"1 YouTube-real/{i:05d}.mp4" for i in range(70)]
    lines += [f"1 Celeb-real/id{i % 36}_{i // 36:04d}.mp4" for i in range(108)]
    lines += [f"0 Celeb-synthesis/id{i % 34}_id{34 + i % 20}_{i:04d}.mp4" for i in range(340)]
    return "\n".join(lines)


def write_official(root, text):
    """Make the videos that a list names, and as many for training, as empty files."""
    for part in PARTS:
        (root / part).mkdir()
    (root / TEST_LIST).write_text(text)
    for line in text.split("\n"):
        file = root / line.split(" ")[1]
        for name in (file.name, file.name.replace("_0", "_9").replace("00", "99", 1)):
            file.with_name(name).touch()


def assert_official_numbers(root):
    found = list_celebdf(root, folder="videos")
    test = [v for v in found if v.split == "test"]
    assert len(test) == len(read_test_list(root)) == 518
    assert sum(v.method == "real" for v in test) == 178
    assert sum(v.method == "Celeb-synthesis" for v in test) == 340
    assert all((v.method == "real") == ("-real/" in v.place) for v in found)
    assert len(found) > 518


def test_a_listed_video_that_is_missing_stops_or_is_listed(tree):
    shutil.rmtree(tree / "Celeb-synthesis/id0_id3_0000")
    with pytest.raises(TokdError, match=r"names 1 videos that are not in .*id0_id3_0000; get them"):
        scan(tree)
    missing = listed(tree, strict=False)["id0_id3_0000"]
    assert (missing.split, missing.place) == ("test", "Celeb-synthesis/id0_id3_0000")


def test_names_with_spaces_and_other_letters_are_names(tree):
    (tree / "YouTube-real/00003").rename(tree / "YouTube-real/ein Vidéo 視頻")
    rewrite(tree, lambda text: text + "\n1 YouTube-real/ein Vidéo 視頻.mp4")
    assert "ein Vidéo 視頻" in set(videos(tree).query("split == 'test'")["video"])


def test_what_is_hidden_is_passed_over(tree):
    expected = videos(tree)
    (tree / "Celeb-real/.thumbnails").mkdir()
    (tree / "YouTube-real/._00000.npy").touch()
    (tree / "YouTube-real/notes.txt").touch()
    assert videos(tree).equals(expected)


def test_loops_of_links_are_passed_over(tree):
    expected = videos(tree)
    part = tree / "Celeb-real"
    (part / "id7_0000").symlink_to(part)
    (part / "id7_0001").symlink_to(tree, target_is_directory=True)
    (part / "id7_0002").symlink_to("id7_0003")
    (part / "id7_0003").symlink_to("id7_0002")
    (tree / "loop").symlink_to("loop")
    (tree / "YouTube-real/loop.npy").symlink_to("loop.npy")
    assert videos(tree).equals(expected)
    assert set(list_celebdf(tree, strict=False)) == set(list_celebdf(tree))


def test_a_link_that_leads_nowhere_is_a_video_that_cannot_be_read(tree):
    (tree / "Celeb-real/id5_0009").symlink_to(tree / "unmounted")
    with pytest.raises(TokdError, match=r"cannot read .*id5_0009: No such file"):
        scan(tree)


def relabel(old, new):
    return lambda tree: rewrite(tree, lambda text: text.replace(old, new))


def write_list(content):
    return lambda tree: (tree / TEST_LIST).write_bytes(content)


def move(old, new):
    return lambda tree: (tree / old).rename(tree / new)


def inverted(tree):
    rewrite(tree, lambda text: text.replace("1 ", "x ").replace("0 C", "1 C").replace("x ", "0 "))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no data folder .*--data.root"),
        (lambda tree: (tree / TEST_LIST).unlink(), "no test list .*--data.splits"),
        (write_list(b""), "names no video"),
        (write_list(b"\n \r\n"), "names no video"),
        (write_list(b"\xff\xfe1\x00"), "is not a readable text file"),
        (write_list(b"1 Celeb-real/a\x00.mp4"), "line 1 of .* is .*should be like"),
        (relabel("1 Celeb-real", "0 Celeb-real"), "line 1 of .*label 0, but Celeb-real is real"),
        (relabel("0 Celeb-s", "1 Celeb-s"), "line 4 of .*label 1, but Celeb-synthesis is fake"),
        (inverted, "line 1 of .*in this list 1 is real, 0 is fake: write 1, or fetch"),
        (relabel("1 You", "2 You"), "line 2 of .* is '2 YouTube-real/00000.mp4': it should be"),
        (relabel("1 You", "You"), "line 2 of .*should be like '1 Celeb-real/"),
        (relabel("YouTube-real", "Vimeo"), "line 2 of .*should be like"),
        (relabel("YouTube-real/", ""), "line 2 of .*should be like"),
        (move("Celeb-synthesis", "x"), "no folder .*Celeb-synthesis: this part of Celeb-DF"),
        (
            lambda tree: shutil.copytree(tree / "YouTube-real", tree / "Youtube-real"),
            "has both YouTube-real and Youtube-real: keep one",
        ),
        (lambda tree: [p.unlink() for p in tree.rglob("*.png")], "but none holds an image"),
        (
            move("Celeb-real/id1_0001", "Celeb-real/holiday"),
            "Celeb-real/holiday is not named <target>_<number>: rename or remove it",
        ),
        (
            move("Celeb-real/id1_0001", "Celeb-real/id1_0001_copy"),
            "id1_0001_copy is not named <target>_<number>",
        ),
        (
            move("Celeb-synthesis/id1_id2_0001", "Celeb-synthesis/id1_0001"),
            "id1_0001 is not named <target>_<donor>_<number>",
        ),
        (
            lambda tree: (tree / "Celeb-real/id1_0001").rename(
                tree / "Celeb-real" / os.fsdecode(b"id1_\xe4")
            ),
            "is not UTF-8: rename it",
        ),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_in_one_line(tree, spoil, message):
    spoil(tree)
    with pytest.raises(TokdError, match=message) as caught:
        scan(tree)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inner", ["", "faces", "original/faces"])
def test_frames_as_published_are_of_no_other_quality(tmp_path, inner):
    make_celebdf(tmp_path, inner=inner)
    with pytest.raises(TokdError, match=r"no frames of quality 'c40' in .*: choose from original "):
        scan(tmp_path, quality="c40")


def test_a_kind_or_quality_that_is_not_there_is_named(tmp_path):
    make_celebdf(tmp_path, inner="c40/faces")
    with pytest.raises(
        TokdError, match=r"no frames of quality 'original'.*choose from c40 \(--data"
    ):
        scan(tmp_path)
    with pytest.raises(TokdError, match=r"no images of quality 'c40' in .*: extract them first"):
        scan(tmp_path, quality="c40", folder="images")
    with pytest.raises(TokdError, match=r"no c40 videos in .*: the files themselves belong there"):
        listed(tmp_path, quality="c40", folder="videos")
    (tmp_path / "YouTube-real/c40/faces").rename(tmp_path / "YouTube-real/c40/images")
    with pytest.raises(TokdError, match=r"no c40 faces in .*YouTube-real, although other parts"):
        scan(tmp_path, quality="c40")


def test_some_other_folder_is_not_a_tree(tmp_path):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(TokdError, match="is not a Celeb-DF tree"):
        scan(tmp_path)


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_a_fraction_out_of_range_is_refused(made, fraction):
    with pytest.raises(TokdError, match="val_fraction must be at least 0 and below 1"):
        scan(made, val_fraction=fraction)


PIECES = st.sampled_from(
    [*"012 \t/\\\n\r\x00é\u2028\ufeff", *PARTS, "..", ".mp4", "id0_0000", "id0_id1_0000", "00000"]
)
TEXTS = st.one_of(
    st.lists(PIECES).map("".join).map(str.encode), st.text().map(str.encode), st.binary()
)


@pytest.fixture(scope="module")
def spoilt(made, tmp_path_factory):
    """A copy to write into, one for all examples."""
    return shutil.copytree(made, tmp_path_factory.mktemp("fuzz") / "tree")


def clear_error_or_names(root, content):
    (root / TEST_LIST).write_bytes(content)
    try:
        found = scan_celebdf(root, **VAL)
    except TokdError as error:
        refusal = str(error)
    else:
        check(found.manifest, found.apart)
        return
    assert "\n" not in refusal


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_any_list_is_read_or_refused_clearly(spoilt, content):
    clear_error_or_names(spoilt, content)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(TEXTS)
def test_thousands_of_lists_are_read_or_refused_clearly(spoilt, content):
    clear_error_or_names(spoilt, content)
