import shutil
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.layouts.numbering import frame_numbers
from tokd_lightning.data.layouts.video_folder import list_frames
from tokd_lightning.data.manifest import (
    COLUMNS,
    VIDEO,
    build,
    check,
    counts,
    counts_table,
    data_hash,
    first_rows,
)
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError


@pytest.fixture
def manifest(tiny_ffpp: Path) -> pd.DataFrame:
    return scan_ffpp(tiny_ffpp, "c23").manifest


def test_a_sound_manifest_passes(manifest):
    check(manifest)
    assert tuple(manifest.columns) == COLUMNS


def test_a_video_in_two_splits_is_refused(manifest):
    one = manifest.index[manifest["video"] == "000"][0]
    manifest.loc[one, "split"] = "test"
    with pytest.raises(TokdError, match="videos in more than one split: ffpp/real/000/c23"):
        check(manifest)


def test_a_real_video_on_the_other_side_of_its_fakes_is_a_leak(manifest):
    manifest.loc[manifest["video"] == "000", "split"] = "test"
    with pytest.raises(TokdError, match=r"identities in more than one split.*: 000"):
        check(manifest)


def test_a_donor_on_the_other_side_is_a_leak(manifest):
    fake = manifest["video"] == "000_001"
    manifest.loc[fake & (manifest["method"] == "FaceSwap"), "source"] = "009"
    with pytest.raises(TokdError, match=r"identities in more than one split.*: 009"):
        check(manifest)


def test_equal_identities_of_two_data_sets_are_two_people(manifest):
    other = manifest.assign(dataset="other", path="other/" + manifest["path"], split="test")
    check(pd.concat([manifest, other], ignore_index=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.assign(label=0), "wrong label"),
        (lambda m: m.assign(label=m["label"] * 2), "wrong label"),
        (lambda m: m.assign(split="dev"), "not dev"),
        (lambda m: m.drop(columns="frame"), "lacks the columns frame"),
        (lambda m: pd.concat([m, m.head(1)]), "1 frames are listed twice"),
        (lambda m: pd.concat([m, m.head(1).assign(path="copy.png")]), "listed twice, e.g. copy"),
    ],
)
def test_contradictions_are_refused_in_one_line(manifest, change, message):
    with pytest.raises(TokdError, match=message) as caught:
        check(change(manifest))
    assert "\n" not in str(caught.value)


def test_pictures_are_not_short_videos(manifest):
    stills = manifest.drop_duplicates(["video", "method"])
    assert counts(manifest, 32)["short"].sum() > 0
    assert counts(stills, 32)["short"].sum() == 0


def test_counts_say_which_videos_are_short(tiny_ffpp):
    manifest = scan_ffpp(tiny_ffpp, "c23", frames_per_video=32).manifest
    manifest = manifest[~((manifest["video"] == "000") & (manifest["frame"] > 3))]
    rows = counts(manifest, 4).set_index(["split", "method"])
    assert rows.loc[("train", "real"), ["videos", "frames", "short"]].tolist() == [6, 22, 1]
    assert rows.loc[("test", "FaceSwap"), ["videos", "frames", "short"]].tolist() == [2, 8, 0]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(counts_table(manifest, 4, empty=3))
    text = capture.get()
    assert "22 (6)" in text
    assert "1 videos have fewer than 4 frames" in text
    assert "3 videos have no frames" in " ".join(text.split())


def test_rows_in_any_order_are_counted_and_checked_alike(manifest):
    mixed = manifest.sample(frac=1, random_state=0)
    expected = manifest.value_counts(["split", "method"])
    for rows in (manifest, mixed):
        found = counts(rows, 4).set_index(["split", "method"])
        assert found["frames"].to_dict() == expected.to_dict()
        assert (4 * found["videos"] == found["frames"]).all()
        assert not found["short"].any()
        pd.testing.assert_frame_equal(first_rows(rows), rows.drop_duplicates(VIDEO))
        check(rows)
    mixed.loc[mixed.index[5], "split"] = "test" if mixed["split"].iloc[5] != "test" else "val"
    with pytest.raises(TokdError, match="videos in more than one split"):
        check(mixed)


def test_the_hash_knows_content_and_names_but_not_the_place(tiny_ffpp, manifest, tmp_path):
    here = data_hash(manifest, tiny_ffpp)
    copy = shutil.copytree(tiny_ffpp, tmp_path / "elsewhere")
    assert data_hash(manifest, copy) == here
    assert data_hash(manifest.sample(frac=1, random_state=0), copy) == here
    file = copy / manifest["path"][7]
    file.write_bytes(file.read_bytes() + b"!")
    changed = data_hash(manifest, copy)
    assert changed != here
    file.rename(file.with_name("9999.png"))
    renamed = manifest["path"].where(
        manifest.index != 7, file.with_name("9999.png").relative_to(copy).as_posix()
    )
    assert data_hash(manifest.assign(path=renamed), copy) not in (here, changed)


def test_the_hash_reads_unchanged_files_once(tiny_ffpp, manifest, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = data_hash(manifest, tiny_ffpp)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
        assert data_hash(manifest, tiny_ffpp) == here
    (cache,) = (tmp_path / "tokd_lightning").iterdir()
    cache.write_text("{ broken")
    assert data_hash(manifest, tiny_ffpp) == here


def test_the_hash_does_without_a_cache(tiny_ffpp, manifest, tmp_path, monkeypatch):
    here = data_hash(manifest, tiny_ffpp)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert data_hash(manifest, tiny_ffpp) == here


def test_the_hash_names_a_file_that_is_gone(tiny_ffpp, manifest, tmp_path):
    with pytest.raises(TokdError, match=r"cannot read .*0000\.png"):
        data_hash(manifest, tmp_path)


def test_frames_sort_by_number(tmp_path):
    for name in ("frame_10.png", "frame_2.png", "frame_1.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    names = list_frames(tmp_path)
    assert names == ["frame_1.jpg", "frame_2.png", "frame_10.png"]
    assert frame_numbers(names) == [1, 2, 10]


def test_the_last_number_of_a_name_is_the_frame():
    assert frame_numbers(["000_003_0007.png", "0012.jpg", "5.png"]) == [7, 12, 5]
    assert frame_numbers(["a.png", "b7.png"]) == [0, 1]


@pytest.mark.parametrize(("length", "count"), [(1, 1), (5, 5), (3, 8), (33, 32), (300, 32), (7, 1)])
def test_chosen_frames_are_spread_evenly_and_differ(length, count):
    chosen = evenly_spaced(length, count)
    assert len(set(chosen)) == len(chosen) == min(length, count)
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(length))
    gaps = {b - a for a, b in pairwise(chosen)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    assert abs(chosen[0] - (length - 1 - chosen[-1])) <= 1


def test_no_frames_are_not_a_choice():
    with pytest.raises(ValueError, match="at least 1"):
        evenly_spaced(10, 0)


def test_an_empty_manifest_has_the_right_types():
    assert build([])["label"].dtype == "int64"


def test_names_of_methods_are_no_markup(manifest):
    manifest["method"] = manifest["method"].replace("FaceSwap", "[/x]")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(counts_table(manifest.assign(dataset="[bold]"), 4))
    assert "[/x]" in captured.get()
    assert "Frames (videos) of [bold] c23" in captured.get()
