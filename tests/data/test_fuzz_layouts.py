"""Whatever is written into a list, reading it gives a sound manifest or one clear line."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import make_celebdf, make_ffpp

from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.layouts.holdout import hold_out_validation
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import COLUMNS, Scan, check
from tokd_lightning.data.reader import read_any
from tokd_lightning.errors import TokdError

FEW, MANY = (
    settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    for number in (25, 600)
)
NASTY = st.one_of(
    st.sampled_from(["", " ", "\0", "\n", "\r\n", "\u2028", "\ud800", "\u202e", "NaN", "-1", "²"]),
    st.sampled_from(["../..", "..", "/", "\\", "C:\\x", "'", '"', ",", ";", "#", "x.npy#3", "%s"]),
    st.sampled_from(["9" * 5000, "x" * 300, "Ä 人", ".hidden", "real", "fake", "train", "[bold]"]),
    st.text(max_size=8),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An FF++ and a Celeb-DF tree, with room for the lists beside them."""
    root = tmp_path_factory.mktemp("fuzz")
    make_ffpp(root / "ffpp", ids=6, frames=1, size=8)
    make_celebdf(root / "celebdf", ids=4, clips=1, frames=1, size=8)
    for folder in (f"{a}/{b}/{video}" for a in "ab" for b in "rf" for video in VIDEOS):
        (root / folder).mkdir(parents=True)
        for frame in range(10):
            (root / folder / f"{frame}.png").touch()
    (root / "splits").mkdir()
    return root


def is_sound(read: Callable[[], Scan]) -> bool:
    """Read, and see that what comes out is a sound manifest or else one clear line."""
    try:
        scan = read()
        assert isinstance(scan, Scan)
        check(scan.manifest, scan.apart)
    except TokdError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert "\0" not in message
        message.encode()
        return False
    assert len(scan.manifest)
    assert not scan.manifest.isna().any().any()
    assert tuple(scan.manifest.columns[: len(COLUMNS)]) == COLUMNS
    scan.manifest.to_csv(io.StringIO())
    return True


VIDEOS = ("000", "001", "000_001")


def mostly(usual: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Draw what is usual, and now and then something else."""
    return st.integers(0, 39).flatmap(lambda n: NASTY if n == 0 else usual)


FRAMES = st.tuples(
    st.sampled_from("ab"), st.sampled_from("rf"), st.sampled_from(VIDEOS), st.integers(0, 9)
)


@st.composite
def tables(draw) -> bytes:
    """A table, now and then with cells, columns or bytes that do not belong."""
    optional = st.lists(st.sampled_from(["video", "quality", "frame", "target", "extra"]))
    names = list(dict.fromkeys(["path", "split", *draw(optional)]))
    names += draw(st.sampled_from([["label"], ["method"], ["method", "label"]]))
    names = draw(st.permutations(names))
    rows = []
    for side, kind, video, frame in draw(st.lists(FRAMES, unique=True, max_size=6)):
        cells = {
            "path": f"{side}/{kind}/{video}/{frame}.png",
            "split": "train" if side == "a" else "test",
            "label": draw(st.sampled_from(["0", "real"] if kind == "r" else ["1", "Fake"])),
            "method": "real" if kind == "r" else "FaceSwap",
            "video": f"{side}{video}",
            "frame": str(frame),
            "target": side,
        }
        rows.append([draw(mostly(st.just(cells.get(name, "")))) for name in names])
    text = io.StringIO()
    writer = csv.writer(text, delimiter=draw(st.sampled_from(",;\t")), lineterminator="\n")
    writer.writerow([draw(mostly(st.just(name))) for name in names])
    writer.writerows(rows)
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16"]))
    return spoilt(draw, text.getvalue().encode(encoding, "surrogatepass"))


def spoilt(draw, content: bytes) -> bytes:
    """Cut bytes out or put others in, one time in eight."""
    if draw(st.integers(0, 7)) == 0:
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, len(content)))
        content = content[:start] + draw(st.binary(max_size=4)) + content[end:]
    return content


def read_table(place: Path, content: bytes) -> bool:
    file = place / "list.csv"
    file.write_bytes(content)
    return is_sound(lambda: scan_table(file, place, None, 3))


def json_values(leaves: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        leaves | st.none() | st.booleans() | st.integers() | st.floats(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY, inner, max_size=4),
        max_leaves=8,
    )


PEOPLE = st.sampled_from([f"{i:03d}" for i in range(6)])


@st.composite
def split_files(draw) -> list[bytes]:
    """Three lists of pairs, of people who are there and who are not."""
    people = draw(st.permutations([f"{i:03d}" for i in range(6)]))
    files = []
    for i in range(3):
        pairs: object = [[draw(mostly(st.just(p))) for p in people[2 * i : 2 * i + 2]]]
        if draw(st.integers(0, 9)) == 0:
            pairs = draw(json_values(PEOPLE | NASTY))
        if draw(st.integers(0, 9)) == 0:
            pairs = [*(pairs if isinstance(pairs, list) else []), draw(json_values(PEOPLE))]
        files.append(spoilt(draw, json.dumps(pairs).encode()))
    return files


def read_splits(place: Path, files: list[bytes]) -> bool:
    folder = place / "splits"
    for name, content in zip(("train", "val", "test"), files, strict=True):
        (folder / f"{name}.json").write_bytes(content)
    return is_sound(lambda: read_any(place / "ffpp", None, 2, folder))


@st.composite
def lists_of_videos(draw) -> bytes:
    """A list like Celeb-DF's."""
    parts = {"Celeb-real": "1", "YouTube-real": "1", "Youtube-real": "1", "Celeb-synthesis": "0"}
    names = {
        "1": ["id0_0000", "id1_0000", "00000", "00001"],
        "0": ["id0_id1_0000", "id2_id3_0000", "id1_id0_0000"],
    }
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        part = draw(st.sampled_from(sorted(parts)))
        there = [n for n in names[parts[part]] if ("id" in n) == ("Celeb" in part)]
        name = draw(mostly(st.sampled_from(there)))
        label = draw(mostly(st.just(parts[part])))
        slash = draw(st.sampled_from(["/", "/", "/", "\\"]))
        lines.append(f"{label} {draw(mostly(st.just(part)))}{slash}{name}.mp4")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return spoilt(draw, end.join(lines).encode("utf-8", "surrogatepass"))


def read_test_list(place: Path, content: bytes) -> bool:
    file = place / "list.txt"
    file.write_bytes(content)
    return is_sound(lambda: read_any(place / "celebdf", None, 2, file))


@st.composite
def listings(draw) -> tuple[bytes, bool, float | None]:
    """A JSON like DeepfakeBench's, and how to read it."""
    content: dict = {}
    labels = ["FF-real", "FF-DF", "CelebDFv2_fake", "own_Fake", "DFDC_Real", "DFD_fake"]
    for label in draw(st.lists(mostly(st.sampled_from(labels)), unique=True, max_size=3)):
        dataset = draw(mostly(st.sampled_from(["FF", "S"])))
        for split in draw(st.lists(mostly(st.sampled_from(["train", "val", "test"])), max_size=2)):
            node = content.setdefault(dataset, {}).setdefault(label, {}).setdefault(split, {})
            if draw(st.booleans()):
                node = node.setdefault(draw(mostly(st.sampled_from(["c23", "c40"]))), {})
            for video in draw(st.lists(st.sampled_from(VIDEOS), unique=True, max_size=2)):
                side = f"{'a' if split == 'train' else 'b'}/{'r' if 'eal' in label else 'f'}"
                node[draw(mostly(st.just(video)))] = draw(entries(label, f"{side}/{video}"))
    merge = draw(st.booleans())
    fraction = draw(st.sampled_from([None, None, 0.1, 0.5])) if merge else None
    return spoilt(draw, json.dumps(content).encode()), merge, fraction


def entries(label: str, folder: str) -> st.SearchStrategy:
    """Draw a video of frames that are there, or anything at all."""
    names = st.integers(0, 9).map(lambda frame: f".\\sets\\{folder}/{frame}.png")
    paths = st.lists(mostly(names), unique=True, max_size=4)
    whole = st.fixed_dictionaries({"label": mostly(st.just(label)), "frames": paths})
    return st.integers(0, 19).flatmap(lambda n: json_values(NASTY) if n == 0 else whole)


def read_listing(place: Path, case: tuple[bytes, bool, float | None]) -> bool:
    content, merge, fraction = case
    file = place / "list.json"
    file.write_bytes(content)

    def read() -> Scan:
        scan = scan_deepfakebench(file, place, None, 2, merge)
        return scan if fraction is None else hold_out_validation(scan, fraction)

    return is_sound(read)


LISTS = {
    "table": (tables(), read_table),
    "split files": (split_files(), read_splits),
    "test list": (lists_of_videos(), read_test_list),
    "DeepfakeBench": (listings(), read_listing),
}


def outcomes(place: Path, kind: str, many: settings) -> Counter[bool]:
    """Count how often reading succeeded and failed."""
    cases, read = LISTS[kind]
    counted: Counter[bool] = Counter()

    @many
    @given(cases)
    def run(case) -> None:
        counted[read(place, case)] += 1

    run()
    return counted


@pytest.mark.thinned(4)
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_gives_a_sound_manifest_or_one_line(place, kind):
    assert sum(outcomes(place, kind, FEW).values()) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", LISTS)
def test_many_lists_give_a_sound_manifest_or_one_line(place, kind):
    counted = outcomes(place, kind, MANY)
    assert sum(counted.values()) >= 600
    # Only a mixture says something about both.
    assert min(counted[True], counted[False]) >= 60
