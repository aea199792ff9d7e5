import random
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tokd_lightning.data.layouts.ffpp import scan_ffpp
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import COLUMNS, check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.errors import TokdError

LEAST = "path,label,split\n"


def read(folder: Path, text: str | bytes, **options):
    """Read a table of files that are all there; nothing is made above the folder."""
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "list.csv").write_bytes(content)
    (folder / "a/000").mkdir(parents=True, exist_ok=True)
    for name in ("a/000/0001.png", "b.png"):
        (folder / name).touch()
    scan = scan_table(folder / "list.csv", **options)
    check(scan.manifest, scan.apart)
    return scan.manifest


def test_three_columns_are_enough(tmp_path):
    rows = read(tmp_path, LEAST + "a/000/0001.png,0,train\na/000_003/x_12.png,1,valid\n")
    assert tuple(rows.columns) == COLUMNS
    assert rows.iloc[0].to_dict() == {
        "path": "a/000/0001.png",
        "dataset": "manifest",
        "method": "real",
        "video": "000",
        "target": "",
        "source": "",
        "quality": "unknown",
        "frame": 1,
        "label": 0,
        "split": "train",
    }
    assert rows.iloc[1][["method", "video", "frame", "split"]].tolist() == [
        "fake",
        "000_003",
        12,
        "val",
    ]


def test_a_method_stands_for_the_label(tmp_path):
    text = "split,method,path\ntrain,Real,a/000/0001.png\ntest,FaceSwap,a/1/1.png\n"
    rows = read(tmp_path, text, dataset="own", quality="c23")
    assert rows["label"].tolist() == [0, 1]
    assert rows["method"].tolist() == ["real", "FaceSwap"]
    assert set(rows["dataset"]) == {"own"}
    assert set(rows["quality"]) == {"c23"}


def test_texts_stay_as_they_are(tmp_path):
    header = "path,label,split,video,target,source,quality,dataset,note\n"
    rows = read(tmp_path, header + "a/000/0001.png,1,train,000,007,NA,1e5,null,nan\n")
    assert rows.iloc[0][["video", "target", "source", "quality", "dataset", "note"]].tolist() == [
        "000",
        "007",
        "NA",
        "1e5",
        "null",
        "nan",
    ]
    assert not rows.isna().any().any()


def test_a_manifest_written_and_read_again_is_the_same(tiny_ffpp, tmp_path):
    manifest = scan_ffpp(tiny_ffpp, "c23").manifest.assign(encoding="jpeg95", x="1")
    manifest.to_csv(tmp_path / "m.csv", index=False)
    again = scan_table(tmp_path / "m.csv", tiny_ffpp).manifest
    pd.testing.assert_frame_equal(again, manifest)


def test_what_a_run_adds_is_not_an_extra_column(tmp_path):
    rows = read(tmp_path, "path,label,split,p_fake,mine,loss,teacher_path\nb.png,0,test,.1,x,2,c\n")
    assert tuple(rows.columns) == (*COLUMNS, "mine")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_all_systems_are_read(tmp_path, delimiter, end):
    lines = ["\ufeffPath ,LABEL, split", "a\\000\\0001.png,Fake,TRAIN", "", ",,", "b.png,real,test"]
    text = (end.join(lines) + end).replace(",", delimiter)
    rows = read(tmp_path, text)
    assert rows["path"].tolist() == ["a/000/0001.png", "b.png"]
    assert rows["label"].tolist() == [1, 0]


def test_names_with_spaces_commas_and_other_letters_are_read(tmp_path):
    rows = read(tmp_path, LEAST + 'b.png,0,test\n"ein Ä, zwei/人 1.png",1,test\n')
    assert rows["path"].tolist() == ["b.png", "ein Ä, zwei/人 1.png"]
    assert rows["video"].tolist() == ["b", "ein Ä, zwei"]


def test_an_index_column_of_pandas_is_left_out(tmp_path):
    pd.DataFrame({"path": ["b.png"], "label": [0], "split": ["test"]}).to_csv(tmp_path / "p.csv")
    rows = read(tmp_path, (tmp_path / "p.csv").read_text())
    assert tuple(rows.columns) == COLUMNS


def test_what_pandas_writes_beside_an_empty_cell_is_read(tmp_path):
    table = pd.DataFrame(
        {
            "path": [f"v/{frame}.png" for frame in range(3)],
            "label": [1, 1, None],
            "method": ["fake", "fake", "fake"],
            "split": "test",
            "video": "v",
            "frame": [8, 9, None],
        }
    )
    table.to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "v").mkdir()
    (tmp_path / "v/0.png").touch()
    assert "1.0,fake,test,v,8.0" in (tmp_path / "p.csv").read_text()
    rows = read(tmp_path, (tmp_path / "p.csv").read_text())
    assert rows["label"].tolist() == [1, 1, 1]
    assert {8, 9} < set(rows["frame"])


def test_paths_are_relative_to_the_file_or_to_the_root(tmp_path):
    here = tmp_path / "root"
    (here / "deep").mkdir(parents=True)
    (here / "deep/1.png").touch()
    (tmp_path / "list.csv").write_text(LEAST + f"{here}/deep/../deep//1.png,0,test\n")
    for path, place in (("deep/1.png", here), ("root/deep/1.png", None), ("1.png", here / "deep")):
        assert scan_table(tmp_path / "list.csv", place).manifest["path"].tolist() == [path]
    linked = tmp_path / "link"
    linked.symlink_to(here)
    assert scan_table(tmp_path / "list.csv", linked).manifest["path"].tolist() == ["deep/1.png"]


def test_frames_of_a_video_are_spread_evenly_and_put_in_order(tmp_path):
    lines = [f"a/{v:03d}/f{i}.png,{v % 2},test" for v in range(3) for i in range(20)]
    random.Random(0).shuffle(lines)
    first = [line.split("/")[1] for line in lines]
    rows = read(tmp_path, LEAST + "b.png,0,train\n" + "\n".join(lines), frames_per_video=5)
    assert rows["video"].drop_duplicates().tolist() == ["b", *dict.fromkeys(first)]
    assert rows[rows["video"] == "001"]["frame"].tolist() == [2, 6, 10, 14, 18]
    assert len(rows) == 16


def test_names_without_numbers_are_numbered_by_their_order(tmp_path):
    text = "path,label,split,video\nb.png,0,train,\na/v/y.png,1,test,v\na/v/x.png,1,test,v\n"
    rows = read(tmp_path, text)
    assert rows["path"].tolist() == ["b.png", "a/v/x.png", "a/v/y.png"]
    assert rows["frame"].tolist() == [0, 0, 1]


def test_an_absurdly_long_number_is_no_frame(tmp_path):
    rows = read(tmp_path, LEAST + f"b.png,0,train\na/v/{'9' * 5000}.png,1,test\n")
    assert rows["frame"].tolist() == [0, 0]


def test_records_of_packs_are_frames(tmp_path):
    (tmp_path / "v/000.npy").parent.mkdir()
    (tmp_path / "v/000.npy").touch()
    rows = read(tmp_path, LEAST + "v/000.npy#0,0,test\nv/000.npy#10,0,test\nv/000.npy#2,0,test\n")
    assert set(rows["video"]) == {"000"}
    assert rows["frame"].tolist() == [0, 2, 10]


def test_the_quality_chooses_rows(tmp_path):
    text = "path,label,split,quality\nb.png,0,test,c23\na/000/0001.png,0,train,c40\nc/1.png,0,test,"
    assert read(tmp_path, text, quality="c40")["path"].tolist() == ["a/000/0001.png"]
    assert read(tmp_path, text)["quality"].tolist() == ["c23", "c40", "unknown"]
    with pytest.raises(TokdError, match=r"no rows of quality 'raw': choose from c23, c40, unknown"):
        read(tmp_path, text, quality="raw")


def test_celebdf_may_share_people_between_training_and_test(tmp_path):
    text = (
        "path,method,target,split\n"
        "Celeb-real/id0_0000/1.png,real,id0,test\nCeleb-real/id0_0001/1.png,real,id0,train\n"
    )
    (tmp_path / "Celeb-real/id0_0000").mkdir(parents=True)
    (tmp_path / "Celeb-real/id0_0000/1.png").touch()
    assert len(read(tmp_path, text)) == 2
    with pytest.raises(TokdError, match="identities in more than one split"):
        read(tmp_path, text.replace("Celeb-real", "a") + "b.png,real,id1,test\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv is empty"),
        ("\n\n", "list.csv is empty"),
        (LEAST, "has a header but no rows"),
        ("path,label\nb.png,0\n", "lacks the columns split; it has 'path, label'"),
        ("label,method\n0,real\n", "lacks the columns path, split"),
        ("path,split\nb.png,test\n", "neither a column label nor a column method"),
        ("path,label,split,label\n", "line 1: two columns are named 'label'"),
        (LEAST + "b.png,0\n", "line 2: 2 cells where the header has 3"),
        (LEAST + "b.png,0,test\n\nx.png,0,test,9\n", "line 4: 4 cells where the header has 3"),
        (LEAST + "b.png,0,dev\n", "line 2: split 'dev' is not train, val or test"),
        (LEAST + "b.png,2,test\n", r"line 2: label '2' is neither 0 \(real\) nor 1 \(fake\)"),
        (LEAST + "b.png,,test\n", "line 2: neither a label nor a method"),
        ("path,method,split\nb.png,original,test\n", "line 2: the method 'original' has no label"),
        (
            "path,method,label,split\nb.png,FaceSwap,0,test\n",
            "line 2: label 0 does not go with the method 'FaceSwap'",
        ),
        ("path,method,label,split\nb.png,real,1,test\n", "line 2: label 1 does not go with"),
        ("path,frame,label,split\nb.png,-1,0,test\n", "line 2: frame '-1' is not a number"),
        ("path,frame,label,split\nb.png,1.5,0,test\n", "line 2: frame '1.5' is not a number"),
        ("path,frame,label,split\nb.png,²,0,test\n", "line 2: frame '²' is not a number"),
        (f"path,frame,label,split\nb.png,{10**30},0,test\n", "line 2: frame '1000.*not a number"),
        (LEAST + ",0,test\n", "line 2: path '' names no file"),
        (LEAST + "a/..,0,test\n", r"line 2: path 'a/..' names no file"),
        (LEAST + "a/../../b.png,0,test\n", r"line 2: path 'a/../../b.png' leads out of"),
        (LEAST + "b.png,0,test\n..\\c.png,0,test\n", "line 3: path .* leads out of"),
        (
            LEAST + "/elsewhere/b.png,0,test\n",
            "line 2: path '/elsewhere/b.png' is absolute and not",
        ),
        (LEAST + "C:\\b.png,0,test\n", "line 2: path .* is absolute and not in"),
        (LEAST + "c.png,0,test\n", r"names files that are not in .*c.png.*\(--data.root\)"),
        (LEAST + f"{'c' * 300}.png,0,test\n", "names files that are not in"),
        (LEAST + "b.png,0,test\n./b.png,0,test\n", "line 3: the same file as in line 2"),
        (
            LEAST + "a/1.png,0,test\na/1.jpg,0,test\n",
            "line 3: the same frame as in line 2; a column video or frame would tell them apart",
        ),
        (
            LEAST + "train/v/1.png,0,train\ntest/v/2.png,0,test\n",
            "line 3: video 'v' is in test here and in train before; a column video would",
        ),
        (
            "path,label,split,quality,video\na.png,0,train,c23,v\nb.png,0,test,c40,v\n",
            "line 3: video 'v' is in test here and in train before$",
        ),
        (LEAST + "b\0.png,0,test\n", r"line 2: the character '\\x00' has no place"),
        (LEAST + "b.png,0,test\nx\u2028.png,0,test\n", r"line 3: the character '\\u2028'"),
        (LEAST + '"b\n.png",0,test\n', "line 2: a quoted cell goes on over the end"),
        (LEAST + '"b.png,0,test\n', "line 2: .*quote"),
        (LEAST + '"b"c.png,0,test\n', "line 2: .*quotes enclose whole cells"),
        (LEAST.encode() + b"b.png,0,test\n\xff,0,test\n", "line 3: not UTF-8 text"),
        ((LEAST + "b.png,0,test\n").encode("utf-16"), "line 1: not UTF-8 text"),
        (LEAST + "x" * 200_000 + ",0,test\n", "line 2: field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(TokdError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + 2 * len(str(tmp_path))


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(TokdError, match=r"cannot read .*none.csv: No such file"):
        scan_table(tmp_path / "none.csv")


def tree(root: Path) -> Path:
    """Three splits with a real and a fake video of two frames each, listed in manifest.csv."""
    lines = ["path,method,target,split,quality"]
    for number, split in enumerate(("train", "val", "test")):
        for method in ("real", "FaceSwap"):
            for quality in ("c23", "c40"):
                for frame in range(2):
                    path = root / split / method / quality / f"{number:03d}" / f"{frame}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (8, 8), (number, frame, len(method))).save(path)
                    place = path.relative_to(root).as_posix()
                    lines.append(f"{place},{method},{number:03d},{split},{quality}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def module(root: Path, **options) -> ManifestDataModule:
    defaults = {"quality": "c40", "size": 8, "num_workers": 0, "batch_size": 4}
    return ManifestDataModule(root, **(defaults | options))


def test_the_module_reads_the_manifest_in_its_root(tmp_path):
    data = module(tree(tmp_path), name="own", frames_per_video=1)
    assert data.table("train")["path"].tolist() == [
        "train/real/c40/000/1.png",
        "train/FaceSwap/c40/000/1.png",
    ]
    assert set(data.manifest["dataset"]) == {"own"}
    batch = next(iter(data.test_dataloader()))
    assert batch["label"].tolist() == [0, 1]
    assert batch["image"][0, :2, 0, 0].tolist() == [2, 1]


def test_the_module_needs_to_be_told_the_quality(tmp_path):
    data = ManifestDataModule(tree(tmp_path), num_workers=0)
    with pytest.raises(TokdError, match=r"no rows of quality 'unknown': choose from c23, c40"):
        _ = data.manifest


def test_the_module_reads_a_list_that_lies_elsewhere(tmp_path):
    root = tree(tmp_path / "root")
    (root / "manifest.csv").rename(tmp_path / "mine.csv")
    assert len(module(root, manifest=tmp_path / "mine.csv").manifest) == 12


def test_shared_people_are_refused_unless_allowed(tmp_path):
    file = tree(tmp_path) / "manifest.csv"
    file.write_text(file.read_text().replace(",001,", ",000,"))
    with pytest.raises(TokdError, match=r"identities in more than one split.*: 000"):
        _ = module(tmp_path).manifest
    assert len(module(tmp_path, apart=["val", "test"]).manifest) == 12
    with pytest.raises(TokdError, match="apart names splits, train, val, test, not 'dev'"):
        module(tmp_path, apart=["dev"])


def test_validation_is_held_out_of_training_by_person(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    lines = ["path,method,video,target,source,split"]
    for a, b in ((i, i ^ 1) for i in range(20)):
        split = "test" if a < 4 else "train"
        lines += [
            f"v/{a}r.png,real,{a:02d},{a:02d},,{split}",
            f"v/{a}f.png,FaceSwap,{a:02d}_{b:02d},{a:02d},{b:02d},{split}",
        ]
        (folder / f"{a}r.png").touch()
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    data = module(tmp_path, quality="unknown", val_fraction=0.25)
    assert data.manifest.groupby("split").size().to_dict() == {"test": 8, "train": 24, "val": 8}
    people = {split: set(data.table(split)["target"]) for split in ("train", "val")}
    assert not people["train"] & people["val"]
    again = module(tmp_path, quality="unknown", val_fraction=0.25)
    assert again.manifest.equals(data.manifest)
    others = [module(tmp_path, quality="unknown", val_fraction=0.25, val_seed=s) for s in range(5)]
    assert any(set(o.table("val")["target"]) != people["val"] for o in others)


def test_a_root_without_anything_says_what_is_missing(tmp_path):
    with pytest.raises(TokdError, match=r"neither a manifest.csv nor train/real"):
        _ = module(tmp_path).manifest


def test_a_list_without_qualities_cannot_give_two(tmp_path):
    file = tree(tmp_path) / "manifest.csv"
    file.write_text(file.read_text().replace(",quality", ",level"))
    file.write_text("\n".join(line for line in file.read_text().split("\n") if "/c23/" not in line))
    data = module(tmp_path, teacher_quality="c23")
    with pytest.raises(TokdError, match="does not say which frames are c23 and which c40"):
        _ = data.manifest
