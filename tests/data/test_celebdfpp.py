"""Celeb-DF++: fakes by scenario and method, as its authors lay it out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.layouts.celebdf import list_celebdf
from tokd_lightning.data.layouts.celebdf_tree import people_of, read_test_list
from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import prepare
from tokd_lightning.verify import verify

# Folders of the authors' page (github.com/OUC-VAS/Celeb-DF-PP), and how videos are named in each.
METHODS = {
    "FaceSwap/Celeb-DF": "id{a}_id{b}_{n:04d}",
    "FaceSwap/BlendFace": "id{a}_id{b}_{n:04d}",
    "FaceReenact/DaGAN": "id{a}_id{b}_{n:04d}",
    "TalkingFace/IP_LAP": "id{a}_{n:04d}_test_{b:05d}",
}
IDS = 6


def names() -> dict[str, list[str]]:
    people = range(IDS)
    found = {
        "Celeb-real": [f"id{a}_{n:04d}" for a in people for n in range(2)],
        "YouTube-real": [f"{n:05d}" for n in range(6)],
    }
    for method, form in METHODS.items():
        found[f"Celeb-synthesis/{method}"] = [
            form.format(a=a, b=b, n=n) for a in people for b in people if a != b for n in range(2)
        ]
    return found


TEST = [
    "1 Celeb-real/id0_0000.mp4",
    "1 YouTube-real/00000.mp4",
    "0 Celeb-synthesis/FaceSwap/Celeb-DF/id0_id1_0000.mp4",
    "0 Celeb-synthesis/FaceSwap/BlendFace/id0_id1_0000.mp4",
    "0 Celeb-synthesis/FaceReenact/DaGAN/id3_id2_0001.mp4",
    "0 Celeb-synthesis/TalkingFace/IP_LAP/id1_0001_test_00003.mp4",
]


def frames(root: Path, inner: str = "") -> Path:
    first = root / "first.png"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(first)
    for part, videos in names().items():
        for video in videos:
            folder = root / part / inner / video
            folder.mkdir(parents=True)
            (folder / "0000.png").hardlink_to(first)
    first.unlink()
    (root / "List_of_testing_videos.txt").write_text("\n".join(TEST))
    return root


@pytest.mark.parametrize("inner", ["", "frames", "original/faces"])
def test_frames_are_read_by_method(tmp_path, inner):
    root = frames(tmp_path / "pp", inner)
    data = CelebDFDataModule(root, size=8, num_workers=0, val_fraction=0.34)
    rows = data.manifest
    assert set(rows["method"]) == {"real", "Celeb-DF", "BlendFace", "DaGAN", "IP_LAP"}
    test = data.table("test")
    assert sorted(test["method"].tolist()) == [
        "BlendFace", "Celeb-DF", "DaGAN", "IP_LAP", "real", "real"
    ]  # fmt: skip
    talking = rows[rows["method"] == "IP_LAP"]
    assert set(talking["target"]) <= {f"id{n}" for n in range(IDS)}
    assert set(talking["source"]) == {""}
    held_out = set(rows[(rows["split"] == "val") & (rows["label"] == 0)]["target"])
    assert set(talking[talking["split"] == "val"]["target"]) <= held_out
    assert not set(talking[talking["split"] == "train"]["target"]) & held_out
    assert data.partial == {}


def test_names_tell_people():
    assert people_of("id3_id28_0001") == ("id3", "id28")
    assert people_of("id1_0001_test_00003") == ("id1", "")
    assert people_of("id1_0007") == ("id1", "")


def test_methods_that_are_not_there_are_left_out_and_counted(tmp_path):
    root = frames(tmp_path / "pp")
    shutil.rmtree(root / "Celeb-synthesis/TalkingFace")
    data = CelebDFDataModule(root, size=8, num_workers=0)
    assert len(data.table("test")) == 5
    assert data.partial["test"] == (5, 6)


def test_a_list_of_another_version_is_refused(tmp_path):
    root = frames(tmp_path / "pp")
    (root / "List_of_testing_videos.txt").write_text("0 Celeb-synthesis/id0_id1_0000.mp4\n")
    with pytest.raises(TokdError, match="use the list that came with the data"):
        list_celebdf(root)


def test_videos_are_prepared_to_what_training_reads_and_verify_knows(tmp_path):
    root = tmp_path / "pp"
    pixels = np.random.default_rng(0)
    lines = []
    for part, videos in names().items():
        for video in videos[:: 1 if "real" in part else 4]:
            file = root / part / f"{video}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            encode(pixels.integers(0, 255, (2, 32, 32, 3), "uint8"), file, "c23")
        first = f"{part}/{videos[0]}.mp4"
        lines.append(f"{int('synthesis' not in part)} {first}")
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines))
    assert read_test_list(root) >= {("Celeb-synthesis/FaceReenact/DaGAN", "id0_id1_0000")}
    told = tmp_path / "told.json"
    verify(root, json=told, workers=1, quick=True)
    found = json.loads(told.read_text())
    assert {c["method"] for c in found["counts"]} == {
        "real",
        "Celeb-DF",
        "BlendFace",
        "DaGAN",
        "IP_LAP",
    }
    bad = {f["code"] for f in found["findings"] if f["severity"] == "error"}
    assert not bad
    prepare("celebdf", root, tmp_path / "out", frames=1, size=16, detector="none", workers=1)
    place = tmp_path / "out/Celeb-synthesis/FaceReenact/DaGAN/original/faces/id0_id1_0000"
    assert any(place.iterdir())
    data = CelebDFDataModule(tmp_path / "out", size=16, val_fraction=0, num_workers=0)
    assert len(data.table("test")) == 6


def test_deepfakebenchs_list_of_it_is_read(tmp_path):
    # As the authors' rearrange.py writes Celeb-DF-v3.json: the method between split and video.
    frames(tmp_path / "Celeb-DF-v3", "frames")
    content = {"CelebDFv3_real": {}, "CelebDFv3_fake": {}}
    for split in ("train", "val", "test"):
        part = content["CelebDFv3_fake"][split] = {}
        for method, form in METHODS.items():
            video = form.format(a=0, b=1, n=split != "train")
            place = f"/data/rgb/Celeb-DF-v3/Celeb-synthesis/{method}/frames/{video}/0000.png"
            label = {"label": "CelebDFv3_fake", "frames": [place]}
            part[method.split("/")[1]] = {video: label}
        video = f"id2_000{int(split != 'train')}"
        place = f"/data/rgb/Celeb-DF-v3/Celeb-real/frames/{video}/0000.png"
        real = {"label": "CelebDFv3_real", "frames": [place]}
        content["CelebDFv3_real"][split] = {video: real}
    file = tmp_path / "Celeb-DF-v3.json"
    file.write_text(json.dumps({"Celeb-DF-v3": content}))
    rows = scan_deepfakebench(file, merge=True).manifest
    assert set(rows["method"]) == {"real", "Celeb-DF", "BlendFace", "DaGAN", "IP_LAP"}
    assert set(rows["quality"]) == {"original"}
    assert rows[rows["method"] == "IP_LAP"]["target"].tolist() == ["id0", "id0"]
    assert set(rows["dataset"]) == {"celebdf"}
