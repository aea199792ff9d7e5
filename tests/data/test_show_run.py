import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tokd_lightning.data.manifest import COLUMNS
from tokd_lightning.errors import TokdError
from tokd_lightning.show import show
from tokd_lightning.show.run import confident_errors, errors_by_method, read_run, read_scores

TILE = 40


def score(method, video, frame, p_fake, **other):
    row = {
        "path": f"{method}/{video}/{frame}.png",
        "dataset": "mini",
        "method": method,
        "video": video,
        "target": video,
        "source": "",
        "quality": "c23",
        "frame": frame,
        "label": int(method != "real"),
        "split": "test",
        "p_fake": p_fake,
    }
    return row | other


SCORES = [
    score("real", "000", 0, 0.90),
    score("real", "000", 5, 0.95),
    score("real", "000", 9, 0.10),
    score("real", "001", 0, 0.70),
    score("real", "001", 5, 0.60),
    score("real", "002", 0, 0.50),
    score("FaceSwap", "000_001", 0, 0.49),
    score("FaceSwap", "000_001", 5, 0.50),
    score("FaceSwap", "001_000", 0, 0.51),
    score("Deepfakes", "000_001", 0, 0.20),
    score("Deepfakes", "000_001", 5, 0.01),
    score("Deepfakes", "001_000", 0, 0.99),
]


@pytest.fixture
def run(tmp_path):
    """A tested run: every frame is 16 px wide, has a colour of its own and a white border."""
    data = tmp_path / "data"
    for number, row in enumerate(SCORES):
        pixels = np.full((16, 16, 3), 255, np.uint8)
        pixels[2:-2, 2:-2] = colour_of(number)
        (data / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / row["path"])
    folder = tmp_path / "runs" / "mini-c23_small_tokd-both_s0"
    folder.mkdir(parents=True)
    pd.DataFrame(SCORES).to_csv(folder / "test_frames.csv", index=False)
    configure(folder, data)
    return folder


def configure(folder, root, stage="fit", **options):
    arguments = {"root": str(root), "size": 16, "crop": 12} | options
    text = yaml.safe_dump({"data": {"class_path": "mini", "init_args": arguments}})
    (folder / f"{stage}.yaml").write_text(text)


def colour_of(number):
    return (20 + 15 * number, 200 - 15 * number, 60)


def tile_at(sheet, row, rows=2):
    """The tiles of a sheet whose bands have one row each."""
    below = (rows - 1 - row) * (34 + TILE + 4 + 2 * 17 + 4)
    top = len(sheet) - below - (TILE + 4 + 2 * 17 + 4)
    return [sheet[top : top + TILE, left : left + TILE] for left in 8 + 92 * np.arange(4)]


def drawn(out, run, **options):
    show(run, out, identities=1, tile=TILE, **options)
    return np.asarray(Image.open(out).convert("RGB"))


def frames(errors):
    return list(zip(errors["video"], errors["frame"], strict=True))


def test_the_surest_errors_come_first_and_each_video_once_before_any_twice():
    scores = pd.DataFrame(SCORES)
    assert frames(confident_errors(scores, 0, 9)) == [
        ("000", 5),
        ("001", 0),
        ("000", 0),
        ("001", 5),
    ]
    assert frames(confident_errors(scores, 0, 2)) == [("000", 5), ("001", 0)]
    assert frames(confident_errors(scores, 1, 9)) == [
        ("000_001", 5),
        ("000_001", 0),
        ("000_001", 0),
        ("000_001", 5),
    ]
    assert list(confident_errors(scores, 1, 9)["method"]) == [
        *("Deepfakes", "FaceSwap", "Deepfakes", "FaceSwap")
    ]


def test_equals_come_in_the_order_of_their_names_whatever_the_order_of_the_file():
    rows = [score("real", f"{v:03d}", f, 0.75) for v in range(5) for f in (2, 10)]
    wanted = [(f"{v:03d}", f) for f in (2, 10) for v in range(5)]
    for seed in range(3):
        scores = pd.DataFrame(rows).sample(frac=1, random_state=seed)
        assert frames(confident_errors(scores, 0, 20)) == wanted


def test_videos_of_one_name_but_of_other_methods_qualities_or_data_sets_are_other_videos():
    rows = [
        score(method, "v", 0, 0.1, quality=quality, dataset=dataset)
        for method in ("a", "b")
        for quality in ("c23", "c40")
        for dataset in ("x", "y")
    ]
    rows.append(score("a", "v", 1, 0.0, dataset="x"))
    errors = confident_errors(pd.DataFrame(rows), 1, 8)
    assert len(errors[["method", "quality", "dataset"]].drop_duplicates()) == 8
    assert list(errors["frame"]) == [1] + [0] * 7


def test_errors_are_counted_per_method_and_a_tie_is_called_real():
    counted = errors_by_method(pd.DataFrame(SCORES))
    assert counted == {"real": (6, 4), "Deepfakes": (3, 2), "FaceSwap": (3, 2)}
    assert list(counted) == ["real", "Deepfakes", "FaceSwap"]


def test_errors_are_drawn_in_order_as_the_network_saw_them(run, tmp_path, capsys):
    sheet = drawn(tmp_path / "sheet.png", run)
    real, fake = tile_at(sheet, 0), tile_at(sheet, 1)
    for pieces, numbers in ((real, (1, 3, 0, 4)), (fake, (10, 6, 9, 7))):
        for piece, number in zip(pieces, numbers, strict=True):
            assert (piece == colour_of(number)).all()  # the crop leaves the white border out
    words = capsys.readouterr().out
    assert "│ Deepfakes │      3 │      2 │ 66.7% │     2 │" in words


def test_without_a_crop_the_whole_frame_is_shown(run, tmp_path):
    configure(run, tmp_path / "data", crop=None)
    pixels = tile_at(drawn(tmp_path / "sheet.png", run), 0)[0]
    assert (pixels[0] == 255).all()
    assert (pixels[TILE // 2, TILE // 2] == colour_of(1)).all()


def test_the_place_that_the_test_used_counts_before_that_of_the_fit(run, tmp_path):
    configure(run, tmp_path / "elsewhere")
    configure(run, tmp_path / "data", stage="test", size=32, crop=20)
    assert read_run(run)[:] == (tmp_path / "data", 32, 20)
    assert (tile_at(drawn(tmp_path / "sheet.png", run), 0)[0] == colour_of(1)).all()


def test_data_that_have_moved_are_found_by_their_new_root(run, tmp_path):
    before = drawn(tmp_path / "before.png", run)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(TokdError, match=r"no folder .*data, where the run found .*--root"):
        drawn(tmp_path / "sheet.png", run)
    assert np.array_equal(before, drawn(tmp_path / "after.png", run, root=tmp_path / "moved"))
    (tmp_path / "other").mkdir()
    with pytest.raises(TokdError, match=r"5\.png cannot be read: No such file.*--root"):
        drawn(tmp_path / "sheet.png", run, root=tmp_path / "other")
    with pytest.raises(TokdError, match=r"no folder .*nowhere$"):
        drawn(tmp_path / "sheet.png", run, root=tmp_path / "nowhere")


def test_a_missing_frame_is_crossed_out(run, tmp_path, capsys):
    (tmp_path / "data" / SCORES[3]["path"]).unlink()
    sheet = drawn(tmp_path / "sheet.png", run)
    first, second, *_ = tile_at(sheet, 0)
    assert (first == colour_of(1)).all()
    assert not (second == colour_of(3)).all()
    assert "real/001/0.png cannot be read: No such file or directory" in capsys.readouterr().out


def test_methods_can_be_asked_for(run, tmp_path):
    sheet = drawn(tmp_path / "sheet.png", run, method=["FaceSwap"])
    pieces = tile_at(sheet, 1)
    for piece, number in zip(pieces[:2], (6, 7), strict=True):
        assert (piece == colour_of(number)).all()
    assert (pieces[2] == 255).all()


def test_a_quality_can_be_asked_for(run, tmp_path):
    rows = [row | {"quality": "c40"} if row["video"] == "000" else row for row in SCORES]
    pd.DataFrame(rows).to_csv(run / "test_frames.csv", index=False)
    sheet = drawn(tmp_path / "sheet.png", run, quality="c23")
    assert (tile_at(sheet, 0)[0] == colour_of(3)).all()


def test_a_kind_without_errors_is_said_to_have_none(run, tmp_path):
    rows = [row for row in SCORES if row["method"] == "real" or row["p_fake"] > 0.5]
    pd.DataFrame(rows).to_csv(run / "test_frames.csv", index=False)
    sheet = drawn(tmp_path / "sheet.png", run)
    top = len(sheet) - 34 - (TILE + 4 + 2 * 17 + 4)
    assert (sheet[top : top + TILE, 8 : 8 + TILE] == colour_of(1)).all()
    assert (sheet[-34:] < 100).any()


def test_a_run_without_errors_has_nothing_to_show(run, tmp_path):
    pd.DataFrame([SCORES[2], SCORES[8]]).to_csv(run / "test_frames.csv", index=False)
    with pytest.raises(TokdError, match="all 2 frames were judged rightly: no errors to show"):
        drawn(tmp_path / "sheet.png", run)


def test_a_run_that_was_not_tested_says_how(run, tmp_path):
    (run / "test_frames.csv").unlink()
    with pytest.raises(TokdError, match=r"run tokd test .*_s0$"):
        drawn(tmp_path / "sheet.png", run)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "No columns"),
        ("\0\0\n1,2,3\n", "not what tokd test writes"),
        ("path,method\na,b\n", "it lacks the columns dataset, video, quality"),
        ("nan", "p_fake is not a number in 2 rows"),
    ],
)
def test_scores_that_are_none_are_named(run, tmp_path, content, says):
    if content == "nan":
        table = pd.DataFrame(SCORES).astype({"p_fake": object})
        table.loc[[1, 4], "p_fake"] = ["nan", "?"]
        content = table.to_csv(index=False)
    (run / "test_frames.csv").write_text(content)
    with pytest.raises(TokdError, match=says) as error:
        drawn(tmp_path / "sheet.png", run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "data: 3", "data: {init_args: {root: a, size: big}}", "data: [", "- a"]
)
def test_a_configuration_that_is_none_is_named(run, tmp_path, content):
    (run / "fit.yaml").write_text(content)
    with pytest.raises(TokdError, match=r"fit\.yaml is not the configuration of a run"):
        drawn(tmp_path / "sheet.png", run)


def test_names_that_look_like_numbers_or_nothing_stay_as_they_are(run):
    pd.DataFrame(SCORES[:6]).to_csv(run / "test_frames.csv", index=False)
    scores = read_scores(run)
    assert set(COLUMNS) <= set(scores.columns)
    assert scores["video"].iloc[0] == "000"
    assert scores["source"].iloc[0] == ""
