import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tokd_lightning.errors import TokdError
from tokd_lightning.show import show
from tokd_lightning.show.report import title_of

TILE = 32
ACROSS = 2 * TILE + 12


def fill(folder, *colours, first=0):
    """Write a video whose frames are of one colour each."""
    folder.mkdir(parents=True)
    for number, colour in enumerate(colours, first):
        Image.new("RGB", (20, 20), colour).save(folder / f"{number:04d}.png")


def colour_of(number):
    return (250 - 10 * number, 40 + 9 * number, 30)


def columns_of(path, colours):
    """Say in which column of the sheet, and at which height, each colour is drawn whole."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    found = {}
    for name, colour in colours.items():
        rows, columns = np.nonzero((sheet == colour).all(-1))
        if len(rows):
            assert len(rows) == TILE * TILE, name
            assert (np.ptp(rows), np.ptp(columns)) == (TILE - 1, TILE - 1), name
            found[name] = (int(rows.min()), int(columns.min()))
    return found


def in_lines(found):
    """Read the tiles of a sheet line by line, from left to right."""
    tops = sorted({top for top, _ in found.values()})
    lines = [[n for n, (y, _) in found.items() if y == top] for top in tops]
    return [sorted(line, key=lambda name: found[name][1]) for line in lines]


@pytest.fixture
def celebdf(tmp_path):
    root = tmp_path / "Celeb-DF"
    real = [f"Celeb-real/id{person}_0000" for person in range(6)]
    fakes = [f"Celeb-synthesis/id{p}_id{d}_0000" for p in range(6) for d in (p ^ 1, p ^ 2) if d < 6]
    names = [*real, *fakes, "YouTube-real/00000"]
    colours = {name: colour_of(number) for number, name in enumerate(names)}
    for name, colour in colours.items():
        fill(root / name, (0, 0, 0), colour, (0, 0, 0))
    listed = ["1 YouTube-real/00000.mp4", "1 Celeb-real/id0_0000.mp4", "1 Celeb-real/id1_0000.mp4"]
    listed += [f"0 {n}.mp4" for n in fakes if n.split("/")[1].startswith(("id0_", "id1_"))]
    (root / "List_of_testing_videos.txt").write_text("\n".join(listed))
    return root, colours


def test_celeb_df_shows_people_beside_their_fakes_and_youtube_below(celebdf, tmp_path):
    root, colours = celebdf
    show(root, tmp_path / "sheet.png", split="test", identities=2, tile=TILE)
    assert in_lines(columns_of(tmp_path / "sheet.png", colours)) == [
        [
            "Celeb-real/id0_0000",
            "Celeb-synthesis/id0_id1_0000",
            "Celeb-synthesis/id0_id2_0000",
        ],
        [
            "Celeb-real/id1_0000",
            "Celeb-synthesis/id1_id0_0000",
            "Celeb-synthesis/id1_id3_0000",
        ],
        ["YouTube-real/00000"],
    ]


def test_a_flat_tree_shows_samples_of_each_method_by_split(tmp_path):
    colours = {}
    for split in ("train", "valid", "test"):
        for method in ("real", "fake/mine", "fake/Deepfakes"):
            for number in range(2):
                name = f"{split}/{method}/{split} {number} größer"
                colours[name] = colour_of(len(colours))
                fill(tmp_path / "tree" / name, colours[name])
    show(tmp_path / "tree", tmp_path / "sheet.png", tile=TILE)
    assert in_lines(columns_of(tmp_path / "sheet.png", colours)) == [
        [f"{split}/{method}/{split} {number} größer" for number in range(2)]
        for split in ("train", "valid", "test")
        for method in ("real", "fake/Deepfakes", "fake/mine")
    ]


@pytest.fixture
def listed(tmp_path):
    """Two people and a fake of each, and a list of their frames in another folder."""
    colours = {name: colour_of(i) for i, name in enumerate(("a", "b", "a_b", "b_a"))}
    (tmp_path / "lists").mkdir()
    with (tmp_path / "lists" / "mine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "method", "video", "target", "source", "split"])
        for name, colour in colours.items():
            fill(tmp_path / "data" / name, (0, 0, 0), (0, 0, 0), colour, (0, 0, 0))
            target, _, source = name.partition("_")
            method = "mine" if source else "real"
            for number in range(4):
                path = f"{name}/{number:04d}.png"
                table.writerow([path, method, name, target, source, "test"])
    return tmp_path / "lists" / "mine.csv", colours


def test_a_manifest_is_shown_like_a_tree(listed, tmp_path):
    file, colours = listed
    show(file, tmp_path / "sheet.png", root=tmp_path / "data", tile=TILE)
    lines = in_lines(columns_of(tmp_path / "sheet.png", colours))
    assert lines == [["a", "a_b"], ["b", "b_a"]]
    moved = file.rename(tmp_path / "data" / "manifest.csv")
    for path in (moved, moved.parent):
        show(path, tmp_path / "sheet.png", tile=TILE)
        assert in_lines(columns_of(tmp_path / "sheet.png", colours)) == lines


def test_a_list_of_deepfakebench_is_shown(tmp_path):
    colours, entries = {}, {"FF-real": {}, "FF-F2F": {}}
    for kind, name in (("FF-real", "000"), ("FF-F2F", "000_003"), ("FF-F2F", "003_000")):
        colours[name] = colour_of(len(colours))
        fill(tmp_path / "FaceForensics++" / kind / name, colours[name])
        frames = [f"FaceForensics++\\{kind}\\{name}\\0000.png"]
        entries[kind][name] = {"label": kind, "frames": frames}
    splits = {
        k: {s: {"c23": v if s == "test" else {}} for s in ("train", "val", "test")}
        for k, v in entries.items()
    }
    (tmp_path / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": splits}))
    show(tmp_path / "FaceForensics++.json", tmp_path / "sheet.png", tile=TILE)
    lines = in_lines(columns_of(tmp_path / "sheet.png", colours))
    assert lines == [["000", "000_003"], ["003_000"]]


def test_the_title_names_data_qualities_and_place_as_far_as_known(tmp_path):
    columns = {"dataset": ["celebdf", "mine"], "quality": ["c40", "original"]}
    title = title_of(pd.DataFrame(columns), tmp_path / "a.csv", tmp_path)
    assert title == "Celeb-DF, mine (original, c40): a.csv"
    unknown = pd.DataFrame({"dataset": ["flat"], "quality": ["unknown"]})
    assert title_of(unknown, tmp_path / "tree", tmp_path) == "flat: tree"


def test_what_is_no_data_set_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(TokdError, match="is not a data set of a known layout"):
            show(path, tmp_path / "sheet.png")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"identities": 0}, "identities must be at least 1, not 0"),
        ({"tile": 0}, "tile must be at least 1, not 0"),
        ({"cutoff": 2.5}, "cutoff must be between 0 and 2, not 2.5"),
        ({"quality": "c40"}, "no frames of quality 'c40': choose from c23"),
        (
            {"method": ["FaceShifter"]},
            "no frames of method 'FaceShifter': choose from real, Deepfakes",
        ),
        ({"seed": -1}, "seed must not be negative, not -1"),
        ({"split": "valid"}, "no frames of split 'valid': choose from test, train, val"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(tiny_ffpp, tmp_path, options, says):
    with pytest.raises(TokdError, match=says) as error:
        show(tiny_ffpp, tmp_path / "sheet.png", **options)
    assert "\n" not in str(error.value)
