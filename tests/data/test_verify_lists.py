import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_deepfakebench_layout import celebdf as celebdf_json
from test_verify import findings
from test_verify_trees import picture
from trees import make_celebdf

from tokd_lightning.data.layouts.celebdf import scan_celebdf
from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.verify import verify

LIST = "List_of_testing_videos.txt"


@pytest.fixture
def table(tiny_ffpp: Path, tmp_path: Path) -> pd.DataFrame:
    shutil.copytree(tiny_ffpp, tmp_path / "tree")
    return scan_ffpp(tiny_ffpp, "c23").manifest


def of_table(table: pd.DataFrame, tmp_path: Path, **options) -> dict[str, list[str]]:
    file = tmp_path / "tree" / "own.csv"
    table.to_csv(file, index=False)
    return findings(file, **options)


def test_a_sound_manifest_gives_nothing(table, tmp_path):
    assert of_table(table, tmp_path) == {}


def test_a_manifest_may_name_another_root(table, tmp_path):
    table.to_csv(tmp_path / "own.csv", index=False)
    assert findings(tmp_path / "own.csv", root=tmp_path / "tree") == {}


def test_faults_of_a_manifest_are_found_beside_each_other(table, tmp_path):
    real = table["method"] == "real"
    table.loc[real & (table["video"] == "000"), "path"] = table["path"].str.replace("/", "\\")
    table.loc[(table["method"] == "FaceSwap") & (table["video"] == "001_000"), "source"] = "009"
    table.loc[real & (table["video"] == "002") & (table["frame"] == 3), "split"] = "test"
    row = table.index[real & (table["video"] == "004")]
    table.loc[row[0], "path"] = "nowhere/0000.png"
    table.loc[row[1], "label"] = 1
    table.loc[row[2], "frame"] = 9
    found = of_table(table, tmp_path)
    lines = [f"own.csv, line {n + 2}" for n in table.index[real & (table["video"] == "000")]]
    assert found == {
        "leaked-donor": ["ffpp/FaceSwap/001_000"],
        "video-in-two-splits": ["ffpp/real/002"],
        "missing-file": ["nowhere/0000.png"],
        "wrong-label": [f"own.csv, line {row[1] + 2}"],
        "same-frame": [table["path"][row[3]]],
        "windows-path": sorted(lines),
    }


def test_numbers_that_pandas_has_made_floats_are_no_fault(table, tmp_path):
    floats = table.astype({"label": float, "frame": float})
    assert of_table(floats, tmp_path) == {}


def test_a_person_on_screen_in_two_splits_is_found(table, tmp_path):
    table.loc[table["video"] == "000", "split"] = "test"
    found = of_table(table, tmp_path)
    assert found.pop("identity-in-two-splits") == ["ffpp/000"]
    assert set(found) == {"leaked-donor"}


@pytest.mark.parametrize("column", ["path", "split"])
def test_what_is_no_manifest_is_refused(table, tmp_path, column):
    with pytest.raises(TokdError, match=f"lacks the columns {column}"):
        of_table(table.drop(columns=column), tmp_path)


def test_a_json_of_deepfakebench_is_verified_with_its_back_slashes(table, tmp_path):
    real = table[table["method"] == "real"]
    content: dict = {"train": {}, "test": {}}
    for video, rows in real.groupby("video"):
        split = "test" if video in ("008", "009") else "train"
        paths = rows["path"].tolist()
        content[split].setdefault("c23", {})[video] = {"label": "FF-real", "frames": paths}
    file = tmp_path / "tree" / "ffpp.json"
    file.write_text(json.dumps({"FaceForensics++": {"FF-real": content}}))
    assert findings(file) == {"not-for-training": ["c23"]}  # all real
    (tmp_path / "tree" / real["path"].iloc[0]).write_text("no picture")
    file.write_text(file.read_text().replace("/", "\\\\"))
    assert findings(file) == {
        "unreadable-frame": [real["path"].iloc[0]],
        "windows-path": ["ffpp.json"],
    }


@pytest.fixture
def celebdf(tmp_path: Path) -> Path:
    """A tiny Celeb-DF as downloaded: six real videos, two others, three fakes."""
    root = tmp_path / "celebdf"
    videos = {
        "Celeb-real": ["id0_0000", "id0_0001", "id1_0000", "id1_0001", "id2_0000", "id2_0001"],
        "Youtube-real": ["00001", "00002"],
        "Celeb-synthesis": ["id0_id1_0000", "id1_id0_0000", "id2_id0_0001"],
    }
    number = 0
    for part, names in videos.items():
        (root / part).mkdir(parents=True)
        for name in names:
            number += 1
            noise = np.random.default_rng(number).integers(0, 255, (3, 32, 32, 3), np.uint8)
            encode(noise, root / part / f"{name}.mp4", "c23")
    (root / LIST).write_text(
        "1 Celeb-real/id2_0001.mp4\n1 YouTube-real/00002.mp4\n0 Celeb-synthesis/id2_id0_0001.mp4"
    )
    return root


def test_a_sound_celebdf_gives_nothing(celebdf):
    assert findings(celebdf) == {}


def test_faults_of_celebdf_are_found(celebdf):
    (celebdf / "Celeb-real/id1_0000.mp4").unlink()
    (celebdf / "Celeb-real/id2_0001.mp4").unlink()
    assert findings(celebdf) == {
        "missing-video": ["Celeb-real/id2_0001.mp4"],
        "missing-real": ["Celeb-synthesis/id1_id0_0000.mp4"],
    }


@pytest.mark.parametrize("text", [None, "0 Celeb-real/id2_0001.mp4", "nonsense", ""])
def test_a_spoiled_test_list_does_not_stop_the_rest(celebdf, text):
    (celebdf / LIST).unlink() if text is None else (celebdf / LIST).write_text(text)
    (celebdf / "Youtube-real/00001.mp4").write_bytes(b"")
    assert findings(celebdf) == {
        "split-file": [LIST],
        "empty-file": ["Youtube-real/00001.mp4"],
    }


def test_frames_and_twins_of_celebdf_are_verified_too(celebdf):
    for number, video in enumerate(sorted(celebdf.glob("*/*.mp4"))):
        for quality in ("original", "c40"):
            for frame in range(2):
                image = (
                    celebdf / video.parent.name / quality / "faces" / video.stem / f"{frame}.png"
                )
                picture(image, 100 * number + 10 * frame + (quality == "c40"))
        twin = celebdf / video.parent.name / "c40/videos" / video.name
        twin.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number + 50).integers(0, 255, (3, 32, 32, 3), np.uint8)
        encode(noise, twin, "c40")
    assert findings(celebdf) == {}
    shutil.copy(celebdf / "Celeb-real/id0_0000.mp4", celebdf / "Celeb-real/c40/videos")
    (celebdf / "Celeb-synthesis/c40/faces/id0_id1_0000/1.png").write_bytes(b"")
    assert findings(celebdf) == {
        "wrong-crf": ["Celeb-real/c40/videos/id0_0000.mp4"],
        "empty-file": ["Celeb-synthesis/c40/faces/id0_id1_0000/1.png"],
    }


def test_a_flat_tree_is_verified(tmp_path):
    root = tmp_path / "flat"
    for number, folder in enumerate(
        (
            "train/real/a b",
            "train/fake/Swap/ä",
            "valid/real/c",
            "valid/fake/f",
            "test/Fake/d",
            "test/real/e",
        )
    ):
        for frame in range(3):
            picture(root / folder / f"{frame}.jpg", 10 * number + frame)
    assert findings(root) == {}
    shutil.copy(root / "train/real/a b/0.jpg", root / "test/real/e/0.jpg")
    (root / "test/Fake/d/2.jpg").unlink()
    assert findings(root) == {
        "duplicate-across-splits": ["test/real/e = train/real/a b"],
        "short-video": ["test/Fake/d"],
    }


def test_a_video_of_one_name_in_two_splits_of_a_flat_tree_is_found(tmp_path):
    for number, folder in enumerate(
        ("train/real/a", "test/real/a", "test/fake/Swap/a", "train/fake/Swap/b")
    ):
        picture(tmp_path / folder / "0.png", number)
    assert findings(tmp_path) == {"video-in-two-splits": ["flat/real/a"]}


@pytest.mark.slow
def test_celebdf_as_deepfakebench_lists_it_is_verified_to_its_end(tmp_path, capsys):
    content = celebdf_json(tmp_path)
    file = tmp_path / "list.json"
    real = content["Celeb-DF-v2"]["CelebDFv2_real"]
    twice = {f"celebdf/real/{name}" for name in real["test"]}
    twice |= {
        f"celebdf/Celeb-synthesis/{name}"
        for name in content["Celeb-DF-v2"]["CelebDFv2_fake"]["test"]
    }
    file.write_text(json.dumps(content))
    assert findings(file, quick=True) == {"video-in-two-splits": sorted(twice)}
    capsys.readouterr()
    assert verify(file, json=True, quick=True) == 1
    told = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    detail = finding["details"][min(twice)]
    assert detail.startswith("train and val and test; ")
    assert "--data.val_fraction" in detail
    assert sum(c["videos"] for c in told["counts"] if c["split"] == "test") == len(twice)
    assert not [c for c in told["counts"] if c["split"] == "val"]


def test_faults_of_a_json_are_found_beside_each_other(table, tmp_path):
    real = table[table["method"] == "real"]
    videos = {
        video: {"label": "FF-real", "frames": rows["path"].tolist()}
        for video, rows in real.groupby("video")
    }
    videos["000"]["label"] = "FF-DF"
    videos["001"]["frames"].append(twice := videos["001"]["frames"][0])
    videos["002"]["frames"] = [3]
    gone = tmp_path / "tree" / videos["003"]["frames"][1]
    gone.unlink()
    content = {"FaceForensics++": {"FF-real": {"train": {"c23": videos}, "later": {}}}}
    file = tmp_path / "tree" / "list.json"
    file.write_text(json.dumps(content))
    where = "FaceForensics++/FF-real/train/c23"
    assert findings(file) == {
        "wrong-label": [f"{where}/000"],
        "same-frame": [twice],
        "not-listed": [f"{where}/002", "list.json"],
        "missing-file": [gone.relative_to(tmp_path / "tree").as_posix()],
        "empty-video": [f"{where}/002"],
    }


def test_the_manifest_of_a_celebdf_tree_is_held_to_training_and_validation_alone(tmp_path):
    make_celebdf(tmp_path, frames=1, size=8)
    rows = scan_celebdf(tmp_path, frames_per_video=1).manifest
    homes = rows.groupby("target")["split"].agg(set)
    assert any({"train", "test"} <= splits for splits in homes)  # else this would prove nothing
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    leaks = {"identity-in-two-splits", "leaked-donor", "video-in-two-splits"}
    assert not leaks & set(findings(tmp_path / "manifest.csv"))
    assert not leaks & set(findings(tmp_path))
    train = rows[(rows["split"] == "train") & (rows["method"] == "real")]
    video = train[train["target"].duplicated()].iloc[0]
    rows.loc[(rows["video"] == video["video"]) & (rows["method"] == "real"), "split"] = "val"
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    for path in (tmp_path, tmp_path / "manifest.csv"):
        assert f"celebdf/{video['target']}" in findings(path)["identity-in-two-splits"]
