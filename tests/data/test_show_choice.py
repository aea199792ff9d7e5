import numpy as np
import pytest
from PIL import Image, ImageFont

from tokd_lightning.data.manifest import build
from tokd_lightning.data.qualities import best_first
from tokd_lightning.errors import TokdError
from tokd_lightning.show import show
from tokd_lightning.show.choose import bands_of, in_order, keep, spread
from tokd_lightning.show.sheet import Band, Row, Sheet, Tile, draw, shorten


def rows_of(method, video, target="", source="", split="test", **other):
    about = {"dataset": "celebdf", "quality": "original", "frames": (0, 4, 9)} | other
    return [
        (
            f"{method}/{about['quality']}/{video}/{frame}.png",
            about["dataset"],
            method,
            video,
            target,
            source,
            about["quality"],
            frame,
            int(method != "real"),
            split,
        )
        for frame in about["frames"]
    ]


def celebdf():
    rows = []
    for number in range(3):
        rows += rows_of("real", f"id0_000{number}", "id0")
        for donor in ("id1", "id2", "id3", "id4"):
            rows += rows_of("Celeb-synthesis", f"id0_{donor}_000{number}", "id0", donor)
    rows += rows_of("real", "id9_0000", "id9")
    for number in range(5):
        rows += rows_of(
            "real", f"0000{number}", f"0000{number}", split="train" if number else "test"
        )
    return build(rows)


def names(row):
    return [tile and tile.path and tile.path.split("/")[2] for tile in row.tiles]


def test_a_real_video_of_celeb_df_stands_beside_fakes_by_three_donors():
    band = bands_of(celebdf(), 2)[0]
    assert band.columns == ("real", *["Celeb-synthesis"] * 3)
    assert [row.label for row in band.rows] == [("id0_0000", "original"), ("id0_0002", "original")]
    assert names(band.rows[0]) == ["id0_0000", "id0_id1_0000", "id0_id2_0000", "id0_id3_0000"]
    assert names(band.rows[1]) == ["id0_0002", "id0_id1_0002", "id0_id2_0002", "id0_id3_0002"]
    assert band.rows[0].tiles[1].caption == ("id0_id1_0000, frame 4",)


def test_videos_without_a_counterpart_follow_by_split():
    bands = bands_of(celebdf(), 2)
    assert [band.heading for band in bands[1:]] == [
        "train: of these no counterpart is known",
        "test: of these no counterpart is known",
    ]
    assert names(bands[1].rows[0]) == ["00001", "00004"]
    assert names(bands[2].rows[0]) == ["id9_0000", "00000"]


def test_videos_of_no_known_split_come_last():
    rows = rows_of("real", "a", split="") + rows_of("real", "b", split="val")
    assert [band.heading for band in bands_of(build(rows), 2)] == ["val", ""]


def test_every_video_is_shown_when_there_is_room():
    manifest = celebdf()
    bands = bands_of(manifest, 100)
    shown = {name for band in bands for row in band.rows for name in names(row) if name}
    everything = set(manifest["video"])
    assert everything - shown == {f"id0_id4_000{number}" for number in range(3)}


def test_a_scene_decides_among_the_real_videos_of_one_actor():
    rows = []
    for scene in ("exit_phone_room", "hugging_happy", "outside_talking"):
        rows += rows_of("real", f"01__{scene}", "01", dataset="dfd")
    rows += rows_of("DeepFakeDetection", "01_02__hugging_happy__A1", "01", "02", dataset="dfd")
    band = bands_of(build(rows), 4)[0]
    assert names(band.rows[0]) == ["01__hugging_happy", "01_02__hugging_happy__A1"]


def test_nothing_is_claimed_of_videos_whose_people_are_not_known():
    rows = []
    for split in ("train", "val", "test"):
        for number in range(3):
            rows += rows_of("real", f"{number}", split=split, dataset=split)
            rows += rows_of("fakes", f"{number}", split=split, dataset=split)
    manifest = build(rows).assign(dataset="flat")
    manifest["video"] = manifest["split"] + manifest["video"]
    bands = bands_of(manifest, 2)
    assert [band.heading for band in bands] == ["train", "val", "test"]
    assert [row.label for row in bands[2].rows] == [("real",), ("fakes",)]
    assert [tile.caption[0] for tile in bands[2].rows[1].tiles] == [
        "test0, frame 4",
        "test2, frame 4",
    ]


def test_identities_that_are_complete_come_first_and_others_leave_gaps():
    rows = []
    for target, source in (("000", "001"), ("001", "000"), ("002", "003")):
        rows += rows_of("real", target, target, dataset="ffpp")
        rows += rows_of("Deepfakes", f"{target}_{source}", target, source, dataset="ffpp")
        if target == "001":
            rows += rows_of("FaceSwap", f"{target}_{source}", target, source, dataset="ffpp")
    assert [row.label[0] for row in bands_of(build(rows), 3)[0].rows] == ["001"]
    without = bands_of(build([r for r in rows if not (r[2] == "FaceSwap" or r[3] == "001")]), 3)
    assert [row.label[0] for row in without[0].rows] == ["000", "002"]
    rows += rows_of("FaceSwap", "002_003", "002", "003", dataset="ffpp", quality="c40")
    band = bands_of(build(rows), 3)[0]
    labels = [("000", "original"), ("001", "original"), ("002", "original"), ("002", "c40")]
    assert [row.label for row in band.rows] == labels
    assert names(band.rows[0]) == ["000", "000_001", None]
    assert band.rows[0].tiles[2] == Tile(None)
    assert names(band.rows[3]) == [None, None, "002_003"]


def test_several_data_sets_have_a_band_each():
    rows = rows_of("real", "000", "000", dataset="ffpp")
    rows += rows_of("Face2Face", "000_001", "000", "001", dataset="ffpp")
    rows += rows_of("real", "a", dataset="mine", split="train")
    assert [band.heading for band in bands_of(build(rows), 3)] == ["ffpp", "mine, train"]


def test_the_same_video_name_in_two_data_sets_is_two_videos():
    rows = []
    for dataset in ("a", "b"):
        rows += [(f"{dataset}/{r[0]}", *r[1:]) for r in rows_of("real", "1", "1", dataset=dataset)]
    rows += rows_of("Face2Face", "1_2", "1", "2", dataset="b")
    paired, alone = bands_of(build(rows), 3)[::-1]
    assert (alone.heading, paired.heading) == ("a, test", "b")
    assert paired.rows[0].tiles[0] == Tile("b/real/original/1/4.png")


@pytest.mark.parametrize(("frames", "middle"), [((7,), 7), ((1, 2), 2), ((30, 4, 5, 100, 6), 6)])
def test_a_video_is_shown_by_the_middle_one_of_its_frames(frames, middle):
    manifest = build(rows_of("real", "v", frames=frames))
    assert bands_of(manifest, 1)[0].rows[0].tiles[0].path == f"real/original/v/{middle}.png"


def test_real_rows_stay_beside_the_methods_asked_for():
    rows = rows_of("real", "0") + rows_of("a", "1") + rows_of("b", "2")
    manifest = build(rows)
    assert set(keep(manifest, None, ["a"], None)["method"]) == {"real", "a"}
    assert set(keep(manifest, None, ["real"], None)["method"]) == {"real"}
    assert len(keep(manifest, None, None, None)) == len(manifest)
    with pytest.raises(TokdError, match="no frames of method 'c': choose from real, a, b"):
        keep(manifest, None, ["a", "c"], None)


def test_methods_and_qualities_stand_in_their_usual_order():
    methods = ["mine", "NeuralTextures", "FaceSwap", "real", "Deepfakes"]
    assert in_order(methods) == ["real", "Deepfakes", "FaceSwap", "NeuralTextures", "mine"]
    assert sorted(["unknown", "c40", "raw", "c5", "c23"], key=best_first) == [
        "raw",
        "c5",
        "c23",
        "c40",
        "unknown",
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 10, 11])
@pytest.mark.parametrize("seed", [None, 3])
def test_spread_names_are_different_and_in_order(count, seed):
    every = [f"{i:02d}" for i in range(10)]
    chosen = spread(every, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, 10)
    assert chosen == sorted(chosen)
    if seed is None:
        assert chosen[0] == "00"
        assert count == 1 or chosen[-1] == "09"


def test_numbers_in_names_count_as_numbers():
    assert spread(["id10_0", "id2_0", "id1_0"], 3) == ["id1_0", "id2_0", "id10_0"]


def test_long_names_keep_both_ends():
    font = ImageFont.load_default(12)
    text = "a" * 40 + "b" * 40
    short = shorten(text, font, 100)
    assert font.getlength(short) <= 100
    assert short[0] == "a"
    assert short[-1] == "b"
    assert "…" in short
    assert shorten("short", font, 100) == "short"


@pytest.mark.parametrize("columns", [1, 2, 7])
def test_no_text_leaves_the_sheet_or_runs_into_its_neighbour(tmp_path, columns):
    Image.new("RGB", (30, 30), (0, 0, 200)).save(tmp_path / "a.png")
    long = "a_rather_long_name_of_something_" * 5
    tile = Tile("a.png", (long, long))
    rows = (Row((long, "c23"), (tile,) * columns),) * 2
    sheet = Sheet(long, ["word " * 60], [Band(long, (long,) * columns, rows)], tmp_path)
    (tmp_path / "sheet.png").write_bytes(draw(sheet, 100, 0.33).png)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()
    side = 128
    assert pixels.shape[1] == max(560, side + columns * 212)
    for column in range(columns):
        right = side + (column + 1) * 212
        assert (pixels[-(2 * 142) - 24 :, right - 6 : right - 1] == 255).all()
    assert (pixels[-(2 * 142) :, side - 4 : side - 1] == 255).all()


def test_tiles_that_cannot_be_read_say_why_and_others_are_drawn(tmp_path):
    Image.new("RGB", (30, 30), (0, 0, 200)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("text")
    rows = (Row(("x",), (Tile("a.png"), Tile("b.png"), Tile("c.png"))),)
    drawn = draw(Sheet("", [], [Band("", (), rows)], tmp_path), 50, 0.33)
    assert drawn.unreadable == {"b.png": "not an image", "c.png": "No such file or directory"}
    broken = Sheet("", [], [Band("", (), (Row((), (Tile("b.png"),)),))], tmp_path, None, "look up")
    with pytest.raises(TokdError, match=r"b\.png cannot be read: not an image; look up"):
        draw(broken, 50, 0.33)
    with pytest.raises(TokdError, match="has no frames to show"):
        draw(Sheet("", [], [], tmp_path), 50, 0.33)


def test_another_picture_format_is_refused(tmp_path):
    with pytest.raises(TokdError, match=r"does not end in \.png"):
        show(tmp_path, tmp_path / "sheet.jpg")
