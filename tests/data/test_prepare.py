import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from tiny_videos import (
    DEEPFAKES,
    HEIGHT,
    IDS,
    YOUTUBE,
    contents,
    film,
    index_of,
    make_ffpp_videos,
    rows_of,
    write_boxes,
)

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.manifest import COLUMNS, check
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare

SMALL = {"frames": 3, "size": 32, "detector": "none", "workers": 1}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Do not write into it."""
    return make_ffpp_videos(tmp_path_factory.mktemp("ffpp"))


@pytest.fixture(scope="module")
def made(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert prepare("ffpp", tree, out, **SMALL, encoding="png") == 0
    return out


def read(file: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


def test_training_finds_the_faces(made):
    for quality in ("c23", "c40"):
        scan = scan_ffpp(made, quality, methods=("Deepfakes",), frames_per_video=3)
        assert len(scan.manifest) == 12 * 3
        assert not scan.empty


def test_manifest_lists_what_is_there(made):
    manifest = pd.read_csv(made / "manifest.csv", dtype=str, keep_default_na=False)
    how = ("encoding", "reencoded", "crf", "detector", "margin", "stored", "x", "y", "side")
    assert tuple(manifest.columns) == (*COLUMNS, *how)
    assert set(manifest["detector"] + manifest["margin"] + manifest["stored"]) == {"none1.332"}
    check(manifest.astype({"frame": int, "label": int}))
    on_disk = [p.relative_to(made).as_posix() for p in made.rglob("*.png")]
    assert sorted(manifest["path"]) == sorted(on_disk)
    assert len(manifest) == 2 * 12 * 3
    assert set(manifest["encoding"]) == {"png"}
    assert set(manifest["reencoded"]) == {""}
    for quality in ("c23", "c40"):
        found = manifest[manifest["quality"] == quality].drop(columns=list(manifest)[10:])
        scan = scan_ffpp(made, quality, methods=("Deepfakes",), frames_per_video=3).manifest
        assert found.values.tolist() == scan.astype(str).values.tolist()


def test_nothing_else_is_left(made):
    top = {path.name for path in made.iterdir()}
    files = {"manifest.csv", "problems.csv", "prepare.json", "groups.json", "splits"}
    assert top == files | {"original_sequences", "manipulated_sequences"}
    assert not list(made.rglob(".*"))
    assert (made / "problems.csv").read_text() == "dataset,method,video,quality,problem,detail\n"


def test_split_files_are_copied(made, tree):
    assert contents(made / "splits") == contents(tree / "splits")


def test_frames_are_the_evenly_spaced_ones_of_the_right_video(made):
    for name in IDS:
        files = sorted((made / YOUTUBE / "c23/faces" / name).iterdir())
        assert [file.name for file in files] == ["0001.png", "0003.png", "0005.png"]
        assert [index_of(read(file), int(name)) for file in files] == [1, 3, 5]
        for file in files:
            assert similarity(read(file), int(name)) > 0.9
            assert similarity(read(file), (int(name) + 1) % 6) < 0.5


def similarity(picture: np.ndarray, number: int) -> float:
    wanted = film(number, 1)[0][:, 16:80]
    wanted = cv2.resize(wanted, (32, 32), interpolation=cv2.INTER_AREA)
    return float(np.corrcoef(picture.ravel(), wanted.ravel())[0, 1])


def test_pairs_of_qualities_are_the_same_crops_without_a_shift(tree, tmp_path):
    boxes = write_boxes(
        tmp_path / "boxes.csv",
        *((name, frame, 5 + 6 * frame, 8 + frame, 30, 30) for name in IDS for frame in (0, 5)),
    )
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"detector": str(boxes), "size": 64})
    crops = {}
    for row in rows_of(tmp_path / "out" / "manifest.csv"):
        key = row["method"], row["target"], row["frame"], row["quality"]
        crops[key] = (int(row["x"]), int(row["y"]), int(row["side"])), row["path"]
    assert len({crop for crop, _ in crops.values()}) == 3
    for (method, target, frame, quality), (crop, path) in crops.items():
        assert crop[2] == round(1.3 * 30)
        assert crop == crops["real", target, frame, quality][0]
        other, twin = crops[method, target, frame, "c40"]
        assert crop == other
        pair = [read(tmp_path / "out" / p).mean(-1).astype(np.float64) for p in (path, twin)]
        assert shift_between(*pair) == (0, 0)


def shift_between(a: np.ndarray, b: np.ndarray) -> tuple[int, ...]:
    """Shift of the largest peak of the phase correlation, in pixels."""
    spectrum = np.fft.fft2(a - a.mean()) * np.fft.fft2(b - b.mean()).conj()
    correlation = np.fft.ifft2(spectrum / np.abs(spectrum).clip(1e-9)).real
    return tuple(int(i) for i in np.unravel_index(correlation.argmax(), a.shape))


def test_two_processes_write_the_same_bytes_as_one(tree, made, tmp_path):
    prepare("ffpp", tree, tmp_path / "out", **SMALL | {"workers": 2}, encoding="png")
    assert contents(tmp_path / "out") == contents(made)


def test_finished_output_is_reused(tree, made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert prepare("ffpp", tree, made, **SMALL, encoding="png") == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert capsys.readouterr().out == (f"{made}: prepared earlier with the same options, reused\n")


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"frames": 4}, "frames"),
        ({"margin": 1.4}, "margin"),
        ({"encoding": "jpeg"}, "encoding"),
        ({"detector": "haar"}, "detector"),
        ({"quality": ["c23"]}, "quality"),
        ({"reencode": 30}, "reencode"),
    ],
)
def test_other_options_are_refused_by_name(tree, made, other, name):
    with pytest.raises(TokdError, match=rf"prepared with another ([a-z, ]+, )?{name}\b"):
        prepare("ffpp", tree, made, **SMALL | {"encoding": "png"} | other)


def test_what_an_earlier_version_cut_otherwise_is_not_mixed_in(tree, made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    record = json.loads((out / "prepare.json").read_text())
    record["recipe"] -= 1
    del record["track"]
    (out / "prepare.json").write_text(json.dumps(record))
    with pytest.raises(TokdError, match="by another version, which follows faces otherwise"):
        prepare("ffpp", tree, out, **SMALL, encoding="png")


def test_tree_that_changed_is_refused(tree, made, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    shutil.rmtree(tmp_path / "tree" / YOUTUBE / "c40")
    shutil.rmtree(tmp_path / "tree" / DEEPFAKES / "c40")
    with pytest.raises(TokdError, match="another quality, videos, tree"):
        prepare("ffpp", tmp_path / "tree", made, **SMALL, encoding="png")


def test_foreign_folder_is_refused(tree, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(TokdError, match="not made by `tokd prepare`"):
        prepare("ffpp", tree, tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_pack_holds_the_pixels_of_the_png_files(tree, made, tmp_path):
    prepare("ffpp", tree, tmp_path / "out", **SMALL, pack=True)
    manifest = rows_of(tmp_path / "out" / "manifest.csv")
    assert {row["encoding"] for row in manifest} == {"pack"}
    for row, png in zip(manifest, rows_of(made / "manifest.csv"), strict=True):
        file, _, record = row["path"].partition("#")
        pack = np.load(tmp_path / "out" / file, mmap_mode="r")
        assert pack["frame"][int(record)] == int(png["frame"]) == int(row["frame"])
        picture = read(made / png["path"])
        np.testing.assert_array_equal(pack["image"][int(record)], picture.transpose(2, 0, 1))
    assert not list((tmp_path / "out").rglob(".*"))
    scan = scan_ffpp(tmp_path / "out", "c23", methods=("Deepfakes",), frames_per_video=3)
    assert len(scan.manifest) == 12 * 3


def test_fake_of_another_size_is_searched_itself(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    for quality in ("c23", "c40"):
        place = root / DEEPFAKES / quality / "videos/000_001.mp4"
        encode(film(100, 6, (64, 48)), place, quality)
    shutil.copytree(root / DEEPFAKES, root / "manipulated_sequences/NeuralTextures")
    for quality in ("c23", "c40"):
        whole = root / "manipulated_sequences/NeuralTextures" / quality / "videos"
        shutil.copy(whole / "002_003.mp4", whole / "000_001.mp4")
    boxes = [(name, 0, 10, 10, 40, 40) for name in IDS]
    file = write_boxes(tmp_path / "boxes.csv", *boxes, ("000_001", 0, 30, 20, 20, 20))
    prepare("ffpp", root, tmp_path / "out", **SMALL | {"detector": str(file)})
    rows = rows_of(tmp_path / "out/manifest.csv")
    sides = {(r["method"], r["video"]): r["side"] for r in rows}
    assert sides.pop(("Deepfakes", "000_001")) == "26"
    assert set(sides.values()) == {"52"}


def test_only_named_qualities_and_methods_are_taken(tree, tmp_path):
    prepare("ffpp", tree, tmp_path / "a", **SMALL, quality=["c40"])
    assert {r["quality"] for r in rows_of(tmp_path / "a/manifest.csv")} == {"c40"}
    assert json.loads((tmp_path / "a/prepare.json").read_text())["quality"] == ["c40"]
    prepare("ffpp", tree, tmp_path / "b", **SMALL, quality=["c40"], methods=[])
    assert {r["method"] for r in rows_of(tmp_path / "b/manifest.csv")} == {"real"}
    with pytest.raises(TokdError, match="no method 'FaceSwap': choose from Deepfakes"):
        prepare("ffpp", tree, tmp_path / "c", **SMALL, methods=["FaceSwap"])
    with pytest.raises(TokdError, match="no quality 'c51'"):
        prepare("ffpp", tree, tmp_path / "c", **SMALL, quality=["c51"])


def test_twin_is_made_from_the_best_quality(tree, tmp_path):
    prepare("ffpp", tree, tmp_path / "out", **SMALL, reencode=45)
    manifest = pd.read_csv(tmp_path / "out/manifest.csv", dtype=str, keep_default_na=False)
    assert dict(zip(manifest["quality"], manifest["reencoded"], strict=True)) == {
        "c23": "",
        "c40": "",
        "c45": "45",
    }
    same = ["dataset", "method", "video", "frame", "x", "y", "side", "split"]
    c23, c45 = (manifest[manifest["quality"] == q][same].values.tolist() for q in ("c23", "c45"))
    assert c23 == c45
    assert (tmp_path / "out" / YOUTUBE / "c45/faces/000/0001.jpg").is_file()
    with pytest.raises(TokdError, match="has the quality c40 already: leave out --reencode 40"):
        prepare("ffpp", tree, tmp_path / "c", **SMALL, reencode=40)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "--frames 0"),
        ({"size": 8}, "--size 8"),
        ({"margin": 0.0}, "--margin"),
        ({"margin": float("nan")}, "--margin nan"),
        ({"jpeg_quality": 101}, "--jpeg-quality 101"),
        ({"encoding": "gif"}, "--encoding gif"),
        ({"reencode": 52}, "--reencode 52"),
        ({"workers": 0}, "--workers 0"),
        ({"pack": True, "encoding": "png"}, "--pack"),
        ({"detector": "eyes"}, "no detector 'eyes'"),
        ({"detector": "none.csv"}, "cannot read none.csv"),
    ],
)
def test_wrong_options_are_named(tree, tmp_path, wrong, message):
    with pytest.raises(TokdError, match=message):
        prepare("ffpp", tree, tmp_path / "out", **SMALL | wrong)
    assert not (tmp_path / "out").exists()


def test_other_layout_than_said_is_refused(tree, tmp_path):
    right = rf"is not a Celeb-DF tree but a FF\+\+ one: tokd prepare ffpp {tree}$"
    with pytest.raises(TokdError, match=right):
        prepare("celebdf", tree, tmp_path / "out", **SMALL)
    with pytest.raises(TokdError, match="no layout 'wild'"):
        prepare("wild", tree, tmp_path / "out", **SMALL)


def test_whole_picture_is_its_middle_square(made):
    crops = {(r["x"], r["y"], r["side"]) for r in rows_of(made / "manifest.csv")}
    assert crops == {("16", "0", str(HEIGHT))}


def test_synthetic_data_stays_marked_as_such(tree, tmp_path):
    marked = shutil.copytree(tree, tmp_path / "tree")
    (marked / "SYNTHETIC.txt").write_text("This is a mini-FF++")
    out = tmp_path / "out"
    assert prepare("ffpp", marked, out, **SMALL, quality=["c40"]) == 0
    assert (out / "SYNTHETIC.txt").read_text() == "This is a mini-FF++"
