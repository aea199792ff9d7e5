"""LMDBs as DeepfakeBench's script writes them, read in place."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from trees import make_ffpp

from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.verify import verify

LABELS = {"real": "FF-real", "Deepfakes": "FF-DF", "FaceSwap": "FF-FS"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """An FF++ tree in DeepfakeBench's form, and its JSON."""
    place = tmp_path_factory.mktemp("bench")
    root = place / "rgb/FaceForensics++"
    make_ffpp(root, ids=6, frames=3, size=16, folder="frames", methods=["Deepfakes", "FaceSwap"])
    shutil.rmtree(root / "splits")
    content = {}
    for folder in sorted(root.glob("*/*/c23/frames/*")):
        kind = "real" if "original" in folder.as_posix() else folder.parts[-4]
        split = {"0": "train", "2": "val", "4": "test"}[str(int(folder.name[:3]) // 2 * 2)]
        frames = [
            ".\\datasets\\rgb\\" + str(file.relative_to(place / "rgb")).replace("/", "\\")
            for file in sorted(folder.iterdir())
        ]
        label = LABELS[kind]
        videos = content.setdefault(label, {}).setdefault(split, {}).setdefault("c23", {})
        videos[folder.name] = {"label": label, "frames": frames}
    (place / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": content}))
    return place


def pack(tree, out, separator):
    """Write every file under its key, as the script does on Linux ("/") or Windows."""
    lmdb = pytest.importorskip("lmdb")
    source, name = tree / "rgb/FaceForensics++", "FaceForensics++"
    out.mkdir(parents=True, exist_ok=True)
    database = lmdb.open(str(out / f"{name}_lmdb"), map_size=1 << 26)
    with database.begin(write=True) as transaction:
        for path in filter(Path.is_file, source.rglob("*")):
            relative = path.relative_to(source).as_posix().replace("/", separator)
            transaction.put(f"{name}\\{relative}".encode(), path.read_bytes())
    database.close()
    return out


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_the_same_rows_and_images_as_from_files(tree, tmp_path, separator):
    root = pack(tree, tmp_path / "lmdb", separator)
    file = tree / "FaceForensics++.json"
    own = {"quality": "c23", "size": 16, "batch_size": 5, "frames_per_video": 2}
    packed = ManifestDataModule(root, file, num_workers=2, **own)
    plain = ManifestDataModule(tree / "rgb", file, num_workers=0, **own)
    for split in ("train", "val", "test"):
        ours, theirs = packed.table(split), plain.table(split)
        assert ours.drop(columns="path").equals(theirs.drop(columns="path"))
        assert ours["path"].str.startswith("FaceForensics++_lmdb/data.mdb#FaceForensics++\\").all()
    for ours, theirs in zip(packed.test_dataloader(), plain.test_dataloader(), strict=True):
        assert ours["image"].equal(theirs["image"])
    assert packed.data_hash() != plain.data_hash()
    again = ManifestDataModule(root / "FaceForensics++_lmdb", file, num_workers=0, **own)
    batch = next(iter(again.test_dataloader()))
    assert batch["image"].equal(next(iter(plain.test_dataloader()))["image"])


def test_a_frame_that_is_not_in_the_database_is_one_line(tree, tmp_path):
    root = pack(tree, tmp_path, "/")
    content = json.loads((tree / "FaceForensics++.json").read_text())
    videos = content["FaceForensics++"]["FF-DF"]["train"]["c23"]
    videos["000_001"]["frames"] = [".\\datasets\\rgb\\FaceForensics++\\nowhere\\000.png"]
    file = tmp_path / "FaceForensics++.json"
    file.write_text(json.dumps(content))
    with pytest.raises(TokdError, match="lists 1 of 18 videos whose frames are not below"):
        scan_deepfakebench(file, root)
    with pytest.raises(TokdError, match="is an LMDB, of which tokd verify reads nothing"):
        verify(file, root=root)


def test_a_broken_database_is_one_line(tree, tmp_path):
    pytest.importorskip("lmdb")
    (tmp_path / "FaceForensics++_lmdb").mkdir()
    (tmp_path / "FaceForensics++_lmdb/data.mdb").write_bytes(b"nothing" * 3000)
    with pytest.raises(TokdError, match="is not an LMDB that can be read"):
        scan_deepfakebench(tree / "FaceForensics++.json", tmp_path)


def test_without_the_package_its_extra_is_named(tree, tmp_path, monkeypatch):
    (tmp_path / "FaceForensics++_lmdb").mkdir()
    (tmp_path / "FaceForensics++_lmdb/data.mdb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.setattr("tokd_lightning.data.lmdb_frames.find_spec", lambda name: None)
    with pytest.raises(TokdError, match=r"pip install .*\[lmdb\]"):
        scan_deepfakebench(tree / "FaceForensics++.json", tmp_path)
