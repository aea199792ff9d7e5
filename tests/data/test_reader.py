import json
import shutil
from pathlib import Path

import pytest
from trees import make_celebdf, make_ffpp

from tokd_lightning.data.layouts.celebdf import scan_celebdf
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.manifest import check
from tokd_lightning.data.reader import list_any, read_any, root_of
from tokd_lightning.errors import TokdError


def rows(path: Path, **options):
    scan = read_any(path, **options)
    check(scan.manifest, scan.apart)
    files = scan.manifest["path"].str.split("#").str[0]
    root = root_of(path, options.get("root"))
    assert all((root / file).is_file() for file in files)
    return scan.manifest


@pytest.fixture
def ffpp(tmp_path: Path) -> Path:
    return make_ffpp(tmp_path / "ff", ids=6, frames=2, size=8, qualities=("c40", "c23"))


def test_ffpp_is_read_at_all_its_qualities(ffpp):
    found = rows(ffpp)
    assert found["quality"].unique().tolist() == ["c23", "c40"]
    for quality in ("c23", "c40"):
        mine = found[found["quality"] == quality].reset_index(drop=True)
        assert mine.equals(scan_ffpp(ffpp, quality).manifest)
        assert rows(ffpp, quality=quality).equals(mine)


def test_methods_that_are_there_are_taken(ffpp):
    fakes = ffpp / "manipulated_sequences"
    (fakes / "FaceSwap").rename(fakes / "FaceShifter")
    shutil.rmtree(fakes / "Deepfakes/c23")
    found = rows(ffpp)
    methods = found.groupby("quality")["method"].agg(set).to_dict()
    rest = {"real", "Face2Face", "NeuralTextures", "FaceShifter"}
    assert methods == {"c23": rest, "c40": rest | {"Deepfakes"}}


def test_the_actors_are_a_data_set_of_their_own(ffpp):
    source = ffpp / "original_sequences/youtube/c23/faces/000"
    for part, name in (
        ("original_sequences/actors", "01__a"),
        ("DeepFakeDetection", "01_02__a__X"),
    ):
        place = part if "/" in part else f"manipulated_sequences/{part}"
        shutil.copytree(source, ffpp / place / "c23/faces" / name)
    found = rows(ffpp)
    assert set(found.loc[found["dataset"] == "dfd", "method"]) == {"real", "DeepFakeDetection"}
    shutil.rmtree(ffpp / "original_sequences/youtube")
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        shutil.rmtree(ffpp / "manipulated_sequences" / method)
    assert set(rows(ffpp)["dataset"]) == {"dfd"}


def test_missing_videos_of_a_tree_are_listed_as_empty(ffpp):
    place = "manipulated_sequences/FaceSwap/c23/faces/000_001"
    shutil.rmtree(ffpp / place)
    scan = read_any(ffpp, "c23")
    assert scan.empty == [place]
    assert len(scan.manifest) == (6 * 5 - 1) * 2


def test_raw_and_c0_are_one_quality(ffpp):
    for part in ffpp.glob("*_sequences/*"):
        (part / "c40").rename(part / ("c0" if part.name == "FaceSwap" else "raw"))
    assert set(rows(ffpp)["quality"]) == {"raw", "c23"}
    assert set(rows(ffpp, quality="c0")["method"]) == {
        "real",
        "Deepfakes",
        "Face2Face",
        "FaceSwap",
        "NeuralTextures",
    }


def test_celebdf_is_read_at_all_its_qualities(tmp_path):
    make_celebdf(tmp_path, frames=2, size=8, inner="faces")
    make_celebdf(tmp_path, frames=2, size=8, inner="c40/faces")
    found = rows(tmp_path)
    assert found["quality"].unique().tolist() == ["original", "c40"]
    for quality in ("original", "c40"):
        mine = found[found["quality"] == quality].reset_index(drop=True)
        assert mine.equals(scan_celebdf(tmp_path, quality).manifest)
    assert set(rows(tmp_path, quality="c40")["quality"]) == {"c40"}
    assert read_any(tmp_path).dropped


@pytest.mark.parametrize("inner", ["", "original/frames", "c40/images"])
def test_celebdf_of_one_quality_is_read(tmp_path, inner):
    make_celebdf(tmp_path, frames=1, size=8, inner=inner)
    assert set(rows(tmp_path)["quality"]) == {"c40" if "c40" in inner else "original"}


def test_a_flat_tree_a_table_and_a_json_are_read(tmp_path):
    for place in ("train/real/a", "test/fake/NT/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").touch()
    flat = rows(tmp_path, quality="c23")
    assert flat[["method", "quality"]].to_numpy().tolist() == [["real", "c23"], ["NT", "c23"]]
    flat.to_csv(tmp_path / "manifest.csv", index=False)
    assert rows(tmp_path / "manifest.csv").equals(flat)
    content = {"own": {"own_fake": {"test": {"b": {"frames": ["test/fake/NT/b/0.png"]}}}}}
    (tmp_path / "own.JSON").write_text(json.dumps(content))
    assert rows(tmp_path / "own.JSON")["video"].tolist() == ["b"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "own.JSON").rename(tmp_path / "lists/own.json")
    assert rows(tmp_path / "lists/own.json", root=tmp_path)["video"].tolist() == ["b"]
    for split in ("train", "test"):
        (tmp_path / split).rename(tmp_path / f"{split}ing")
    table = tmp_path / "manifest.csv"
    table.write_text(table.read_text().replace("train/", "training/").replace("test/", "testing/"))
    assert rows(tmp_path)["split"].tolist() == ["train", "test"]


def test_video_files_of_every_tree_are_listed(tmp_path, ffpp):
    for part in ffpp.glob("*_sequences/*/*"):
        names = [place.name for place in (part / "faces").iterdir()]
        (part / "videos").mkdir()
        for name in names:
            (part / "videos" / f"{name}.mp4").touch()
    found = list_any(ffpp)
    assert [v.quality for v in found] == ["c23"] * 30 + ["c40"] * 30
    assert all((ffpp / v.place).is_file() for v in found)
    assert len(list_any(ffpp, "c40")) == 30
    gone = next(ffpp.glob("**/000.mp4"))
    gone.unlink()
    with pytest.raises(TokdError, match="1 videos that are not in"):
        list_any(ffpp)
    assert len(list_any(ffpp, strict=False)) == 60
    celebdf = make_celebdf(tmp_path / "celeb", frames=0)
    assert {v.quality for v in list_any(celebdf)} == {"original"}
    assert all(v.place.endswith(".mp4") for v in list_any(celebdf))
    (tmp_path / "flat/train/real").mkdir(parents=True)
    (tmp_path / "flat/train/real/a.mp4").touch()
    assert [v.place for v in list_any(tmp_path / "flat")] == ["train/real/a.mp4"]


def test_a_list_of_frames_is_not_one_of_videos(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(TokdError, match="lists frames, not video files"):
        list_any(tmp_path / "a.csv")


def test_what_is_no_data_set_says_what_was_looked_for(tmp_path):
    (tmp_path / "x.txt").touch()
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(TokdError, match=r"not a data set.*FF.*Celeb-DF.*flat.*manifest.csv"):
            read_any(path)
    with pytest.raises(TokdError, match=r"there is no .*none"):
        read_any(tmp_path / "none")
    (tmp_path / "original_sequences/youtube/c23/frames").mkdir(parents=True)
    with pytest.raises(TokdError, match=r"has no faces or frames or images in manipulated_seq"):
        read_any(tmp_path)


def test_a_flat_tree_without_splits_is_told_how_to_have_them(tmp_path):
    (tmp_path / "Real").mkdir()
    (tmp_path / "fake").mkdir()
    with pytest.raises(TokdError, match="has real/ and fake/ but no splits: move both below train"):
        read_any(tmp_path)


def test_an_unknown_quality_is_named(ffpp):
    with pytest.raises(TokdError, match=r"has no quality 'c99': choose from c23, c40"):
        read_any(ffpp, "c99")
