import json
from pathlib import Path

import pytest
from trees import make_celebdf

from tokd_lightning.data.layouts.celebdf import list_celebdf
from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.manifest import check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.errors import TokdError

FF = {
    "FF-real": ("real", "original_sequences/youtube"),
    "FF-DF": ("Deepfakes", "manipulated_sequences/Deepfakes"),
    "FF-F2F": ("Face2Face", "manipulated_sequences/Face2Face"),
    "FF-FS": ("FaceSwap", "manipulated_sequences/FaceSwap"),
    "FF-NT": ("NeuralTextures", "manipulated_sequences/NeuralTextures"),
    "FF-FH": ("FaceShifter", "manipulated_sequences/FaceShifter"),
}
PAIRS = {"train": ("000", "001"), "val": ("002", "003"), "test": ("004", "005")}


def video(root: Path, place: str, label: str, count: int = 3, prefix: str = "", slash: str = "/"):
    """Make a video's frames and the entry that lists them, in the disorder of a disk."""
    (root / place).mkdir(parents=True, exist_ok=True)
    names = [f"{i:03d}.png" for i in reversed(range(8, 8 + count))]
    names += ["Thumbs.db", "._008.png"]
    for name in names:
        (root / place / name).touch()
    return {"label": label, "frames": [(f"{prefix}{place}/{n}").replace("/", slash) for n in names]}


def ffpp(root: Path, qualities=("c23", "c40"), **how):
    """FaceForensics++.json as the authors' script writes it, of two people per split."""
    labels: dict = {}
    for label, (_, part) in FF.items():
        for split, (a, b) in PAIRS.items():
            for quality in qualities:
                names = (a, b) if label == "FF-real" else (f"{a}_{b}", f"{b}_{a}")
                labels.setdefault(label, {}).setdefault(split, {})[quality] = {
                    n: video(root, f"FaceForensics++/{part}/{quality}/frames/{n}", label, **how)
                    for n in names
                }
    return {"FaceForensics++": labels}


def celebdf(root: Path):
    """Celeb-DF-v2.json: training is everything, validation and test are the test list."""
    make_celebdf(root, frames=1, size=8)
    content: dict = {"Celeb-DF-v2": {}}
    for v in list_celebdf(root):
        label = "CelebDFv2_real" if v.method == "real" else "CelebDFv2_fake"
        splits = content["Celeb-DF-v2"].setdefault(label, {"train": {}, "val": {}, "test": {}})
        entry = {"label": label, "frames": [f"{v.place}/0000.png"]}
        for split in ("train", "val", "test") if v.split == "test" else ("train",):
            splits[split][v.name] = entry
    return content


def write(folder: Path, content) -> Path:
    file = folder / "list.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def read(folder: Path, content, **options):
    scan = scan_deepfakebench(write(folder, content), **options)
    check(scan.manifest, scan.apart)
    return scan.manifest


def test_labels_become_methods_and_names_people(tmp_path):
    rows = read(tmp_path, ffpp(tmp_path), quality="c23").drop_duplicates(["method", "video"])
    assert rows.groupby("split", sort=False).size().to_dict() == dict.fromkeys(PAIRS, 12)
    assert set(rows["dataset"]) == {"ffpp"}
    for method, part in FF.values():
        mine = rows[rows["method"] == method]
        assert mine["path"].str.contains(f"{part}/c23/").all()
        assert set(mine["label"]) == {int(method != "real")}
    one = rows[(rows["method"] == "FaceShifter") & (rows["video"] == "005_004")].iloc[0]
    assert one[["target", "source", "split", "quality"]].tolist() == ["005", "004", "test", "c23"]
    real = rows[rows["video"] == "003"].iloc[0]
    assert real[["target", "source", "split"]].tolist() == ["003", "", "val"]
    labels = rows["label"].tolist()
    assert all(len(set(labels[i : i + 7])) == 2 for i in range(len(labels) - 7))


def test_frames_are_sorted_by_number_and_only_images_count(tmp_path):
    content = {"own": {"real": {"train": {"a": video(tmp_path, "x/a", "real", 12)}}}}
    rows = read(tmp_path, content, frames_per_video=4)
    assert rows["frame"].tolist() == [9, 12, 15, 18]
    assert rows["path"].tolist()[0] == "x/a/009.png"
    assert rows["method"].tolist() == ["real"] * 4


def test_all_qualities_are_read_unless_one_is_named(tmp_path):
    content = ffpp(tmp_path, ("raw", "c40"))
    assert set(read(tmp_path, content)["quality"]) == {"raw", "c40"}
    assert set(read(tmp_path, content, quality="c40")["path"].str.contains("/c40/")) == {True}
    assert set(read(tmp_path, content, quality="c0")["quality"]) == {"c0"}
    with pytest.raises(TokdError, match=r"no videos of quality 'c23': choose from c40, raw"):
        read(tmp_path, content, quality="c23")


@pytest.mark.parametrize(
    ("prefix", "slash"),
    [
        ("", "/"),
        ("./datasets/rgb/", "\\"),
        ("/another/machine/", "/"),
        ("D:/sets/", "\\"),
        ("../../", "/"),
        ("{root}/", "/"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_paths_of_other_machines_find_their_frames(tmp_path, prefix, slash, inside):
    content = ffpp(tmp_path, ("c23",), prefix=prefix.format(root=tmp_path), slash=slash)
    root = tmp_path / "FaceForensics++" if inside else tmp_path
    file = write(tmp_path, content)
    paths = scan_deepfakebench(file, root).manifest["path"]
    assert len(paths) == 36 * 3
    assert all((root / path).is_file() for path in paths)
    assert paths.str.startswith("original" if inside else "FaceForensics++/").any()


def test_a_root_too_deep_never_takes_one_method_for_another(tmp_path):
    file = write(tmp_path, ffpp(tmp_path, ("c23",)))
    root = tmp_path / "FaceForensics++/manipulated_sequences/FaceSwap/c23/frames"
    with pytest.raises(TokdError, match=r"lists 6 of 36 videos whose frames are not below"):
        # The names of all fakes exist there: only the real videos' do not.
        scan_deepfakebench(file, root)


def test_as_few_leading_folders_as_possible_are_left_off(tmp_path):
    content = {"own": {"real": {"train": {"v": video(tmp_path, "a/v", "real", 1, "x/y/")}}}}
    (tmp_path / "v").mkdir()
    (tmp_path / "v/008.png").touch()
    assert read(tmp_path, content)["path"].tolist() == ["a/v/008.png"]


def test_videos_that_are_not_there_are_counted(tmp_path):
    content = ffpp(tmp_path, ("c23",))
    folder = tmp_path / "FaceForensics++/original_sequences/youtube/c23/frames/000"
    folder.rename(folder.with_name("999"))
    with pytest.raises(TokdError, match=r"lists 1 of 36 videos .*000/.*\(--data.root\)"):
        read(tmp_path, content)
    with pytest.raises(TokdError, match=r"lists 36 of 36 videos"):
        read(tmp_path, content, root=tmp_path / "elsewhere")


def test_a_video_without_frames_is_reported(tmp_path):
    content = ffpp(tmp_path, ("c23",))
    content["FaceForensics++"]["FF-real"]["test"]["c23"]["004"]["frames"] = []
    scan = scan_deepfakebench(write(tmp_path, content))
    assert scan.empty == ["FaceForensics++/FF-real/test/c23/004"]
    assert len(scan.manifest) == 35 * 3


def test_celebdf_lists_its_test_videos_three_times(tmp_path):
    content = celebdf(tmp_path)
    with pytest.raises(TokdError, match=r"lists \d+ videos in more than one split \(train, val, t"):
        read(tmp_path, content)
    rows = read(tmp_path, content, merge=True)
    listed = {v.name: v for v in list_celebdf(tmp_path)}
    assert set(rows["video"]) == set(listed)
    assert set(rows["quality"]) == {"original"}
    for row in rows.itertuples():
        v = listed[row.video]
        assert (row.method, row.target, row.source) == (v.method, v.target, v.source)
        assert (row.split == "test") == (v.split == "test")


def test_validation_held_out_of_celebdf_is_that_of_its_own_module(tmp_path):
    file = write(tmp_path, celebdf(tmp_path))
    data = ManifestDataModule(tmp_path, file, quality="original", val_fraction=0.4, val_seed=3)
    listed = {v.name: v.split for v in list_celebdf(tmp_path, val_fraction=0.4, val_seed=3)}
    splits = dict(zip(data.manifest["video"], data.manifest["split"], strict=True))
    assert splits.items() <= listed.items()
    assert set(data.table("val")["label"]) == {0, 1}
    dropped = {name for name in listed if name not in splits}
    assert dropped
    assert all(name.count("_") == 2 for name in dropped)


def test_a_merged_video_has_the_frames_of_the_test(tmp_path):
    splits = {
        split: {"a": video(tmp_path, f"{split}/a", "real", 1)} for split in ("train", "val", "test")
    }
    rows = read(tmp_path, {"own": {"own_real": splits}}, merge=True)
    assert rows["path"].tolist() == ["test/a/008.png"]
    del splits["test"]
    assert read(tmp_path, {"own": {"own_real": splits}}, merge=True)["split"].tolist() == ["train"]


def test_a_set_whose_splits_are_all_alike_becomes_a_test_set(tmp_path):
    labels: dict = {}
    for label, name in (("DFD_real", "01__kitchen"), ("DFD_fake", "01_02__kitchen__X")):
        entry = video(tmp_path, f"{label}/{name}", label)
        labels[label] = {split: {"c23": {name: entry}} for split in ("train", "test", "val")}
    rows = read(tmp_path, {"DeepFakeDetection": labels}, merge=True)
    assert set(rows["split"]) == {"test"}
    assert set(rows["dataset"]) == {"dfd"}
    fake = rows[rows["label"] == 1].iloc[0]
    assert fake[["method", "target", "source"]].tolist() == ["DeepFakeDetection", "01", "02"]
    assert set(rows[rows["label"] == 0]["target"]) == {"01"}


def test_other_data_sets_keep_their_labels(tmp_path):
    labels = {
        label: {"test": {name: video(tmp_path, f"{label}/{name}", label)}}
        for label, name in (("DFDCP_Real", "a"), ("DFDCP_FakeA", "a"), ("simswap_fake", "b"))
    }
    rows = read(tmp_path, {"DFDCP": labels}).drop_duplicates("method")
    assert rows[["dataset", "method", "label", "target"]].to_numpy().tolist() == [
        ["DFDCP", "real", 0, ""],
        ["DFDCP", "DFDCP_FakeA", 1, ""],
        ["DFDCP", "simswap_fake", 1, ""],
    ]


def test_one_video_in_place_of_many_is_named_after_its_folder(tmp_path):
    labels = {"DFDC_Real": {"val": video(tmp_path, "frames/abc", "DFDC_Real")}}
    assert set(read(tmp_path, {"DFDC": labels})["video"]) == {"abc"}


def change(*keys):
    """Put a value where the keys lead in a sound file of one video."""

    def apply(content):
        *path, last, value = keys
        for key in path:
            content = content[key]
        content[last] = value

    return apply


VIDEO = ("S", "FF-DF", "train", "c23", "000_001")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("S", []), r"'S' is \[\] where an object should be"),
        (change("S", "FF-DF", None), "'S/FF-DF' is None where an object"),
        (change("S", "Deepfakez", {}), "label 'Deepfakez' says neither real nor fake"),
        (change("S", "unrealistic", {}), "label 'unrealistic' says neither"),
        (change("S", "FF-DF", "dev", {}), "'S/FF-DF/dev' stands where a split"),
        (change("S", "FF-DF", "train", 7), "'S/FF-DF/train' is 7 where an object"),
        (change("S", "FF-DF", "train", "c40", 7), "'S/FF-DF/train/c40' is 7 where"),
        (change("S", "FF-DF", "train", "c40", {"x": 7}), "c40/x' is not a video with its frames"),
        (change("S", "FF-DF", "train", {"frames": []}), "train' is one video without a name"),
        (change(*VIDEO, "frames", "a.png"), "000_001' has 'a.png' where a list of frames"),
        (change(*VIDEO, "frames", [1]), "000_001' has 1 where a path should be"),
        (change(*VIDEO, "frames", ["a\0.png"]), r"has 'a\\x00.png' where a path"),
        (change(*VIDEO, "frames", ["a\ud800.png"]), r"has 'a\\ud800.png' where a path"),
        (change(*VIDEO, "frames", ["x" * 5000 + ".png"]), "not below .*xxx…: name the folder"),
        (change(*VIDEO, "frames", []), "lists 1 videos, but none with a frame"),
        (change(*VIDEO, "label", "FF-real"), "000_001' is labelled 'FF-real'"),
        (change(*VIDEO, "label", 1), "000_001' has the label 1"),
        (change("S", "FF-DF", "train", "c23", "a\nb", {}), r"has the unusable key 'a\\nb'"),
        (change("S", "FF-DF", "train", "c23", {}), "lists no videos"),
        (
            change("FF-DF", {"FF-DF": {"train": {"c23": {"000_001": {"frames": []}}}}}),
            "second time",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, spoil, message):
    content = {"S": {"FF-DF": {"train": {"c23": {"000_001": video(tmp_path, "v", "FF-DF")}}}}}
    assert len(read(tmp_path, content)) == 3
    spoil(content)
    with pytest.raises(TokdError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not a readable JSON file"),
        (b"{", "not a readable JSON file"),
        (b"\xff\xfe{}", "not a readable JSON file"),
        (b"[" * 100_000, "not a readable JSON file"),
        (b"1" * 5000, "not a readable JSON file"),
        (b"[]", r"all of it is \[\] where an object should be"),
        (b"{}", "lists no videos"),
    ],
)
def test_what_is_no_json_of_this_kind_is_one_line(tmp_path, text, message):
    (tmp_path / "list.json").write_bytes(text)
    with pytest.raises(TokdError, match=message) as caught:
        scan_deepfakebench(tmp_path / "list.json")
    assert str(caught.value).isprintable()
    with pytest.raises(TokdError, match=r"cannot read .*none.json: No such file"):
        scan_deepfakebench(tmp_path / "none.json")


def test_the_module_points_to_held_out_validation(tmp_path):
    file = write(tmp_path, celebdf(tmp_path))
    with pytest.raises(TokdError, match=r"pass --data.val_fraction 0.1"):
        _ = ManifestDataModule(tmp_path, file, quality="original").manifest
    with pytest.raises(TokdError, match=r"val_fraction must be between 0 and 1, not 1.5"):
        _ = ManifestDataModule(tmp_path, file, quality="original", val_fraction=1.5).manifest
