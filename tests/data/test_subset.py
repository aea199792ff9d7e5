"""A part of the published videos: prepared without empty folders, and said to be one."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_videos import DEEPFAKES, PAIRS, YOUTUBE, film, make_ffpp_videos
from trees import make_celebdf

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.layouts.celebdf_tree import read_test_list
from tokd_lightning.data.layouts.ffpp import list_ffpp, read_splits
from tokd_lightning.data.layouts.subset import trim_ffpp
from tokd_lightning.data.reader import list_any
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare
from tokd_lightning.verify import verify

HOW = {"frames": 2, "size": 16, "detector": "none", "workers": 1}
OFFICIAL = Path(__file__).parents[3] / "shared/splits"


def official(tree: Path) -> Path:
    """Give a tree of three pairs split files of 360, 70 and 70 pairs, as FF++ has them."""
    whole = {
        split: [*pairs, *([f"{split}{n}a", f"{split}{n}b"] for n in range(size - len(pairs)))]
        for (split, pairs), size in zip(PAIRS.items(), (360, 70, 70), strict=True)
    }
    for split, pairs in whole.items():
        (tree / f"splits/{split}.json").write_text(json.dumps(pairs))
    return tree


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An FF++ download of a few videos, with masks and models, and what is prepared of it."""
    tmp = tmp_path_factory.mktemp("subset")
    tree = official(make_ffpp_videos(tmp / "ffpp", ("c23",), 4))
    for name in ("masks", "models"):
        place = tree / DEEPFAKES / name / "videos/000_001.mp4"
        place.parent.mkdir(parents=True)
        encode(film(1, 4), place, "c23")
    (tree / DEEPFAKES / "c23/videos/003_002.mp4").unlink()  # the pair of the validation
    prepare("ffpp", tree, tmp / "out", subset=True, **HOW)
    return tmp


def module(root: Path, **options) -> FFPPDataModule:
    options = {"quality": "c23", "methods": ["Deepfakes"], "size": 16, "num_workers": 0} | options
    return FFPPDataModule(root, **options)


def test_masks_and_models_are_no_qualities(made):
    assert {v.quality for v in list_any(made / "ffpp", strict=False)} == {"c23"}
    told = made / "told.json"
    verify(made / "ffpp", json=told, workers=1, quick=True)
    found = json.loads(told.read_text())
    assert {c["quality"] for c in found["counts"]} == {"c23"}
    assert not {"missing-method", "stray-file"} & {f["code"] for f in found["findings"]}


def test_split_files_are_trimmed_to_whole_pairs_and_no_folder_is_empty(made):
    kept = {split: [tuple(p) for p in pairs] for split, pairs in PAIRS.items()} | {"val": []}
    assert read_splits(made / "out") == kept
    folders = [p for p in (made / "out").rglob("faces/*") if p.is_dir()]
    assert len(folders) == 8
    assert all(any(folder.iterdir()) for folder in folders)
    problems = (made / "out/problems.csv").read_text()
    assert "missing" not in problems


def test_a_part_is_said_to_be_one_of_how_many(made, capsys):
    data = module(made / "out")
    pairs = len(PAIRS["test"])
    assert data.partial["test"] == (4 * pairs, 70 * 4)
    data.setup("test")
    out = capsys.readouterr().out
    assert f"only a part of test: {4 * pairs} of 280 videos" in out
    assert "only a part of val: 0 of 280 videos" in out
    told = made / "told.json"
    verify(made / "out", json=told, workers=1, quick=True)
    assert "subset" in {f["code"] for f in json.loads(told.read_text())["findings"]}


def test_without_subset_the_missing_are_counted_and_the_way_is_shown(made, tmp_path, capsys):
    prepare("ffpp", made / "ffpp", tmp_path / "out", **HOW)
    assert "--subset takes those that are" in capsys.readouterr().out
    assert module(tmp_path / "out").partial["test"] == (4, 280)


def test_a_refusal_names_the_helper(made, tmp_path):
    tree = shutil.copytree(made / "out", tmp_path / "tree")
    official(tree)
    with pytest.raises(TokdError, match="tokd prepare ffpp --subset does"):
        module(tree).table("test")


def test_a_subset_without_a_whole_pair_is_refused(made, tmp_path):
    tree = shutil.copytree(made / "ffpp", tmp_path / "tree")
    shutil.rmtree(tree / YOUTUBE)
    (tree / YOUTUBE / "c23/videos").mkdir(parents=True)
    with pytest.raises(TokdError, match="no pair of the split files is whole"):
        prepare("ffpp", tree, tmp_path / "out", subset=True, **HOW)
    assert not (tmp_path / "out").exists()
    with pytest.raises(TokdError, match="leave out --subset"):
        prepare("folder", flat(tmp_path / "flat"), tmp_path / "out", subset=True, **HOW)


def flat(root: Path) -> Path:
    for split, part in (("train", "real/a"), ("train", "fake/b")):
        place = root / split / f"{part}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        encode(film(1, 3), place, "c23")
    return root


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official split files are not here")
def test_of_the_official_split_files_the_test_is_700_videos(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / "splits").mkdir(exist_ok=True)
        shutil.copy(OFFICIAL / f"ffpp_{split}.json", tmp_path / f"splits/{split}.json")
    methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    a, b = json.loads((tmp_path / "splits/test.json").read_text())[0]
    parts = {"original_sequences/youtube": (a, b)}
    parts |= {f"manipulated_sequences/{m}": (f"{a}_{b}", f"{b}_{a}") for m in methods}
    for part, names in parts.items():
        for name in names:
            folder = tmp_path / part / "c40/videos"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.mp4").touch()
            frame = tmp_path / part / "c40/faces" / name / "0001.png"
            frame.parent.mkdir(parents=True)
            frame.touch()
    subset = trim_ffpp(tmp_path, list_ffpp(tmp_path, "c40", None, "videos", strict=False))
    assert len(subset.videos) == 10
    for name, text in subset.files.items():
        (tmp_path / name).write_text(text)
    assert FFPPDataModule(tmp_path).partial == {
        "train": (0, 3600), "val": (0, 700), "test": (10, 700)
    }  # fmt: skip


def test_celebdfs_list_is_trimmed(tmp_path):
    tree = make_celebdf(tmp_path / "celebdf", ids=6, clips=3, frames=0)
    for number, file in enumerate(sorted(tree.glob("*/*.mp4"))):
        encode(
            film(number % 90, 3), file, "c23"
        ) if "_0000" in file.stem or number % 3 == 0 else file.unlink()
    there = {f.stem for f in tree.glob("*/*.mp4")}
    before = read_test_list(tree)
    (tree / "Celeb-synthesis/id0_id1_0000.mp4").unlink()
    prepare("celebdf", tree, tmp_path / "out", subset=True, **HOW)
    after = read_test_list(tmp_path / "out")
    assert after == {v for v in before if v[1] in there - {"id0_id1_0000"}}
    data = CelebDFDataModule(tmp_path / "out", size=16, val_fraction=0, num_workers=0)
    assert data.partial["test"] == (len(after), len(before))
