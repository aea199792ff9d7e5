import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import write_splits

from tokd_lightning.data.layouts.ffpp import read_splits
from tokd_lightning.errors import TokdError


def test_splits_saved_on_windows_are_read(tiny_ffpp, tmp_path):
    expected = read_splits(tiny_ffpp)
    shutil.copytree(tiny_ffpp / "splits", tmp_path / "splits")
    for file in (tmp_path / "splits").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b", ", b",\r\n"))
    assert read_splits(tmp_path) == expected


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '[["006", "../007"]]',
        '[["006", "\\u0000"]]',
        '[["006", "\\ud800"]]',
        '[["006", ".."]]',
        '[["006", ""]]',
        '[["006", "a\\\\b"]]',
        '[["006", "006"]]',
    ],
)
def test_what_cannot_be_an_identity_is_none(tmp_path, content):
    write_splits(tmp_path, train=[["000", "001"]], test=[["002", "003"]])
    (tmp_path / "val.json").write_text(content)
    with pytest.raises(
        TokdError, match=r"val.json (is not a readable|holds .*where a pair|pairs 006 with itself)"
    ):
        read_splits(tmp_path)


NAMES = st.one_of(st.sampled_from(["000", "001", "002", "", "..", "a/b", "é"]), st.text(max_size=3))
LEAVES = st.one_of(NAMES, st.none(), st.integers(), st.floats(), st.booleans())
PAIRS = st.lists(st.lists(NAMES, min_size=2, max_size=2), max_size=4)
VALUES = st.one_of(PAIRS, st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(NAMES, v)))
TEXTS = st.one_of(VALUES.map(json.dumps), PAIRS.map(json.dumps), st.text()).map(str.encode)


def clear_error_or_pairs(folder, contents):
    for split, content in zip(("train", "val", "test"), contents, strict=True):
        (folder / f"{split}.json").write_bytes(content)
    try:
        pairs = read_splits(folder)
    except TokdError as error:
        refusal = str(error)
    else:
        people = [{i for pair in pairs[split] for i in pair} for split in pairs]
        assert len(set().union(*people)) == sum(map(len, people))
        return
    assert "\n" not in refusal
    refusal.encode()  # it can be printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("splits")


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS | st.binary(), min_size=3, max_size=3))
def test_any_split_files_are_read_or_refused_clearly(folder, contents):
    clear_error_or_pairs(folder, contents)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(st.lists(TEXTS | st.binary(), min_size=3, max_size=3))
def test_thousands_of_split_files_are_read_or_refused_clearly(folder, contents):
    clear_error_or_pairs(folder, contents)
