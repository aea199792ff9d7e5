"""Lists of several data sets, each by its own rules."""

import json

import pandas as pd
import pytest

from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.target import parse_target
from tokd_lightning.errors import TokdError
from tokd_lightning.verify import verify

HEADER = "path,label,split,video,target,source,dataset\n"
# FF++: identity 000 is on screen in train and in test. Celeb-DF: id0 is, as published.
LEAK = "youtube/000/1.png,0,train,000,000,,{ff}\nyoutube/x/1.png,1,test,000_009,000,009,{ff}\n"
CELEB = (
    "Celeb-real/id0_0000/1.png,0,train,id0_0000,id0,,{cd}\n"
    "Celeb-synthesis/id0_id1_0000/1.png,1,test,id0_id1_0000,id0,id1,{cd}\n"
)


def table(folder, text):
    (folder / "list.csv").write_text(HEADER + text)
    for line in text.splitlines():
        file = folder / line.split(",")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder / "list.csv"


@pytest.mark.parametrize("names", [("ffpp", "celebdf"), ("", ""), ("mine", "mine")])
def test_celebdf_rows_do_not_switch_off_the_check_of_others(tmp_path, names):
    ff, cd = names
    scan = scan_table(table(tmp_path, CELEB.format(cd=cd)))
    check(scan.manifest, scan.apart)
    scan = scan_table(table(tmp_path, (LEAK + CELEB).format(ff=ff, cd=cd)))
    with pytest.raises(TokdError, match=r"identities in more than one split .*: 000$"):
        check(scan.manifest, scan.apart)


def test_verify_goes_by_the_same_rules(tmp_path):
    told = tmp_path / "told.json"
    verify(table(tmp_path, (LEAK + CELEB).format(ff="", cd="")), json=told, workers=1, quick=True)
    found = {f["code"]: f["items"] for f in json.loads(told.read_text())["findings"]}
    assert found["identity-in-two-splits"] == ["manifest/000"]
    assert "leaked-donor" not in found


@pytest.mark.parametrize("name", ["celebdf", "Celeb-DF-v2", "celeb_df", "CelebDFv1", "Celeb-DF++"])
def test_celebdf_is_known_by_its_name_wherever_it_is(tmp_path, name):
    rows = pd.DataFrame(
        {
            "path": ["a/1.png", "b/1.png"],
            "dataset": name,
            "method": ["real", "x"],
            "video": ["a", "b"],
            "target": "id0",
            "source": "",
            "quality": "q",
            "frame": 1,
            "label": [0, 1],
            "split": ["train", "test"],
        }
    )
    check(rows)
    with pytest.raises(TokdError, match="id0"):
        check(rows.assign(split=["train", "val"]))
    with pytest.raises(TokdError, match="id0"):
        check(rows.assign(dataset="mine"))
    with pytest.raises(TokdError, match="id0"):
        check(rows, ("train", "test"))


def test_a_foreign_list_is_evaluated_whoever_is_in_its_splits(tmp_path):
    file = table(tmp_path, LEAK.format(ff="dfd"))
    target = parse_target(f"own:{file}")
    assert len(target.module("test", num_workers=0).table("test")) == 1
    with pytest.raises(TokdError, match="identities in more than one split"):
        ManifestDataModule(tmp_path, file).table("test")  # what is trained on it


def test_the_one_quality_of_a_list_is_taken(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    text = "path,label,split,quality\na.png,0,train,c23\nb.png,1,test,{}\n"
    (tmp_path / "list.csv").write_text(text.format("c23"))
    module = ManifestDataModule(tmp_path, tmp_path / "list.csv")
    assert module.manifest["quality"].tolist() == ["c23", "c23"]
    with pytest.raises(TokdError, match=r"'c40': choose from c23 \(--data.quality\)"):
        ManifestDataModule(tmp_path, tmp_path / "list.csv", quality="c40").table("train")
    (tmp_path / "list.csv").write_text(text.format("c40"))
    with pytest.raises(TokdError, match="choose from c23, c40"):
        ManifestDataModule(tmp_path, tmp_path / "list.csv").table("train")


def test_the_one_quality_of_a_json_is_taken(tmp_path):
    # As DeepfakeBench's rearrange.py writes FaceForensics++.json on Windows, frames 000, 014, ….
    base = "T:\\Study Material\\DeepfakeBench\\datasets\\rgb\\FaceForensics++\\original_sequences"
    names = ["000", "014", "029", "044"]
    for n in names:
        place = tmp_path / "FaceForensics++/original_sequences/youtube/c23/frames/001"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{n}.png").touch()
    frames = [f"{base}\\youtube\\c23\\frames\\001\\{n}.png" for n in names]
    content = {"c23": {"001": {"label": "FF-real", "frames": frames}}}
    file = tmp_path / "FaceForensics++.json"
    file.write_text(json.dumps({"FaceForensics++": {"FF-real": {"train": content}}}))
    scan = scan_deepfakebench(file, quality="unknown")
    assert scan.manifest["quality"].unique().tolist() == ["c23"]
    assert scan.manifest["frame"].tolist() == [0, 14, 29, 44]
    assert scan.manifest["path"][0].startswith("FaceForensics++/original_sequences/youtube/c23")
