"""DFDC's metadata.json, and that of its preview."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokd_lightning.data.layouts.dfdc import find_metadata, list_dfdc
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.reader import read_any
from tokd_lightning.data.target import parse_target
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare
from tokd_lightning.verify import verify

# The form of dfdc_train_part_*/metadata.json: fakes name their original, all is for training.
REALS = ("vudstovrck", "jdubbvfswz", "atvmxvwyns", "qzimuostzz")


def part(root: Path, media: str = "frames") -> Path:
    root.mkdir(parents=True)
    metadata = {}
    for n, real in enumerate(REALS):
        fakes = [f"fake{n}{k}" for k in "ab"]
        for fake in fakes:
            metadata[f"{fake}.mp4"] = {"label": "FAKE", "split": "train", "original": f"{real}.mp4"}
        metadata[f"{real}.mp4"] = {"label": "REAL", "split": "train"}
        for k, name in enumerate((real, *fakes)):
            pixels = np.random.default_rng([n, k]).integers(0, 255, (2, 32, 32, 3), np.uint8)
            if media == "videos":
                encode(pixels, root / f"{name}.mp4", "c23")
                continue
            for i, image in enumerate(pixels):
                file = root / "frames" / name / f"{i:03d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
    (root / "metadata.json").write_text(json.dumps(metadata))
    return root


def test_frames_beside_the_list_are_read_with_fakes_beside_their_original(tmp_path):
    root = part(tmp_path / "dfdc_train_part_0")
    module = ManifestDataModule(
        root, root / "metadata.json", size=16, num_workers=0, val_fraction=0.25
    )
    rows = module.manifest.drop_duplicates("video").set_index("video")
    assert rows["label"].sum() == 8
    assert len(rows) == 12
    for n, real in enumerate(REALS):
        splits = set(rows.loc[[real, f"fake{n}a", f"fake{n}b"], "split"])
        assert len(splits) == 1
    assert set(rows["split"]) == {"train", "val"}
    told = tmp_path / "told.json"
    assert verify(root, json=told, workers=1) == 0
    assert verify(root / "metadata.json", json=told, workers=1) == 0
    assert verify(root.parent, json=told, workers=1) == 0
    codes = {f["code"] for f in json.loads(told.read_text())["findings"]}
    assert codes == {"not-for-training"}  # the list itself is no stray file


def test_all_parts_in_a_folder_are_one_data_set(tmp_path):
    part(tmp_path / "dfdc/dfdc_train_part_0")
    other = part(tmp_path / "dfdc/dfdc_train_part_1")
    text = (other / "metadata.json").read_text()
    with pytest.raises(TokdError, match="which is listed before"):
        read_any(tmp_path / "dfdc")
    for name in (*REALS, *(f"fake{n}{k}" for n in range(4) for k in "ab")):
        text = text.replace(name, f"{name}1")
        (other / "frames" / name).rename(other / "frames" / f"{name}1")
    (other / "metadata.json").write_text(text)
    assert read_any(tmp_path / "dfdc").manifest["video"].nunique() == 24


def test_videos_are_prepared_as_a_flat_tree_is(tmp_path):
    root = part(tmp_path / "part", "videos")
    prepare("folder", root, tmp_path / "out", frames=1, size=16, detector="none", workers=1)
    assert "passed_over" not in (tmp_path / "out" / "problems.csv").read_text()
    data = ManifestDataModule(tmp_path / "out", size=16, num_workers=0, val_fraction=0.25)
    assert len(data.manifest) == 12
    assert set(data.manifest["dataset"]) == {"dfdc"}
    with pytest.raises(TokdError, match=r"none has frames .* as `tokd prepare folder` does"):
        read_any(root)


def test_the_preview_and_the_test_set_are_read(tmp_path):
    preview = {
        "method_A/1/1_A_001.mp4": {"label": "fake", "set": "train", "swapped_id": 2},
        "original_videos/2/2_A_000.mp4": {"label": "real", "set": "test"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(preview))
    videos = list_dfdc(tmp_path, find_metadata(tmp_path))
    assert [(v.method, v.name, v.split) for v in videos] == [
        ("fake", "1_A_001", "train"),
        ("real", "2_A_000", "test"),
    ]
    (tmp_path / "t").mkdir()
    (tmp_path / "t/metadata.json").write_text(
        '{"aalscayrfi.mp4": {"augmenter": "x", "is_fake": 1}}'
    )
    (video,) = list_dfdc(tmp_path, [tmp_path / "t/metadata.json"])
    assert video[:7] == ("dfdc", "fake", "aalscayrfi", "aalscayrfi", "", "unknown", "test")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"label": "MAYBE"}, "has the label 'MAYBE', not REAL or FAKE"),
        ({"label": "REAL", "split": "dev"}, "has the split 'dev'"),
        ([], r"is \[\] where a video should be described"),
    ],
)
def test_what_is_wrong_with_it_is_said(tmp_path, about, message):
    (tmp_path / "metadata.json").write_text(
        json.dumps({"a.mp4": {"label": "REAL"}, "b.mp4": about})
    )
    with pytest.raises(TokdError, match=message):
        read_any(tmp_path / "metadata.json")


def test_it_is_evaluated_on(tmp_path):
    root = part(tmp_path / "part")
    file = root / "metadata.json"
    file.write_text(file.read_text().replace('"train"', '"test"'))
    data = parse_target(f"own:{file}").module("test", num_workers=0, size=16)
    assert len(data.table("test")) == 24
