"""`tokd audit --data`: faults planted in small trees are found, a clean tree has none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from planted_audit import plant
from trees import make_ffpp

from tokd_lightning.audit.measure import difference_hash, examine
from tokd_lightning.audit.measured import category_scores
from tokd_lightning.cli import main
from tokd_lightning.data.ffpp import FFPPDataModule

FAKES = "manipulated_sequences"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of 20 identities in JPEG; copy it to spoil it."""
    root = tmp_path_factory.mktemp("clean") / "data"
    return make_ffpp(root, ids=20, frames=2, size=24, suffix=".jpg")


def plant_run(runs: Path, root: Path, **options) -> Path:
    """A run that was tested on a tree, with planted scores."""
    data = FFPPDataModule(root, name="ffpp", quality="c23", size=48, **options)
    table = data.scan("c23").manifest
    table = table[table["split"] == "test"].reset_index(drop=True)
    rng = np.random.default_rng(0)
    logit = 3 * table["label"] - 1 + rng.standard_normal(len(table))
    scored = table.assign(p_fake=1 / (1 + np.exp(-logit)))
    return plant(runs, test=scored, data={"size": 48, **options})


def audit(run: Path, root: Path, capsys, *options: str):
    """Audit a run through the command; returns exit code, checks by name, document."""
    code = main(["audit", str(run), "--data", str(root), "--json", *options])
    [document] = json.loads(capsys.readouterr().out)
    return code, {check["name"]: check for check in document["checks"]}, document


def spoiled(tmp_path: Path, clean: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def test_a_clean_tree_has_no_fault_and_needs_no_data_again(tmp_path: Path, clean: Path, capsys):
    run = plant_run(tmp_path / "runs", clean)
    code, checks, document = audit(run, clean, capsys)
    assert code == 0
    for name in ("labels", "leaks", "duplicates", "shortcuts"):
        assert checks[name]["outcome"] == "passed", checks[name]
    rows = {row["name"]: row for row in document["shortcuts"]["rows"]}
    assert rows["size (pixels)"]["said"] == "real 24, fake 24"
    assert rows["size (pixels)"]["auc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert rows["encoder"]["real"] == 20
    assert rows["encoder"]["fake"] == 80
    assert main(["audit", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [document]


def test_a_class_dependent_size_is_found(tmp_path: Path, clean: Path, capsys):
    root = spoiled(tmp_path, clean)
    for file in (root / FAKES).rglob("*.jpg"):
        Image.open(file).resize((26, 24)).save(file)
    code, checks, _ = audit(plant_run(tmp_path / "runs", root), root, capsys)
    assert code == 1
    assert checks["shortcuts"]["outcome"] == "failed"
    assert "size (pixels): AUC 100.0" in checks["shortcuts"]["said"]
    assert "aspect: AUC 100.0" in checks["shortcuts"]["said"]
    assert "encoder" not in checks["shortcuts"]["said"]


def test_a_class_dependent_encoder_is_found(tmp_path: Path, clean: Path, capsys):
    root = spoiled(tmp_path, clean)
    for file in (root / FAKES).rglob("*.jpg"):
        Image.open(file).save(file, quality=90)
    code, checks, document = audit(plant_run(tmp_path / "runs", root), root, capsys)
    assert code == 1
    assert checks["shortcuts"]["said"].startswith("encoder: AUC 100.0")
    assert document["verdict"]["text"] == "Do not trust these numbers: shortcuts."


@pytest.mark.parametrize("role", ["target", "source"])
def test_a_leak_of_one_identity_is_found(tmp_path: Path, clean: Path, capsys, role: str):
    """A person of the test is on screen, or the donor, in one training fake of a list."""
    root = spoiled(tmp_path, clean)
    table = FFPPDataModule(root, name="ffpp", quality="c23", size=48).scan("c23").manifest
    listed = {"class_path": "tokd_lightning.data.manifest_table.ManifestDataModule"}
    run = plant_run(tmp_path / "runs", root)
    config = yaml.safe_load((run / "fit.yaml").read_text())
    config["data"] |= listed
    (run / "fit.yaml").write_text(yaml.safe_dump(config))
    table.to_csv(root / "manifest.csv", index=False)
    code, checks, _ = audit(run, root, capsys)
    assert (code, checks["leaks"]["outcome"]) == (0, "passed")
    leaked = table.loc[table["split"] == "test", "target"].iloc[0]
    fakes = table[(table["split"] == "train") & (table["method"] == "FaceSwap")]
    table.loc[table["video"] == fakes["video"].iloc[0], role] = leaked
    table.to_csv(root / "manifest.csv", index=False)
    code, checks, document = audit(run, root, capsys)
    assert code == 1
    assert checks["leaks"]["said"] == f"1 people: ffpp/{leaked}"
    assert document["verdict"]["text"] == "Do not trust these numbers: leaks."


@pytest.mark.slow
def test_a_leak_that_the_splits_of_ffpp_admit_is_refused_in_one_line(tmp_path, clean, capsys):
    root = spoiled(tmp_path, clean)
    run = plant_run(tmp_path / "runs", root)
    train = json.loads((root / "splits/train.json").read_text())
    (root / "splits/train.json").write_text(json.dumps([*train, ["000", "016"]]))
    assert main(["audit", str(run), "--data", str(root)]) == 2
    assert "is in both train.json and" in capsys.readouterr().err


def test_a_training_video_again_in_the_test_is_found_by_its_look(tmp_path, clean, capsys):
    root = spoiled(tmp_path, clean)
    splits = {name: json.loads((root / f"splits/{name}.json").read_text())
              for name in ("train", "test")}  # fmt: skip
    videos = root / "original_sequences/youtube/c23/faces"
    a, b = splits["train"][0][0], splits["test"][0][0]
    for file in (videos / b).iterdir():
        Image.open(videos / a / file.name).save(file, quality=75)
    code, _, document = audit(plant_run(tmp_path / "runs", root), root, capsys)
    assert code == 1
    [pair] = document["leaks"]["near_copies"]
    assert f"/{a}/" in pair
    assert f"/{b}/" in pair
    assert document["leaks"]["people"] == []


@pytest.mark.slow
def test_one_content_in_both_classes_is_found(tmp_path: Path, clean: Path, capsys):
    root = spoiled(tmp_path, clean)
    fake = root / FAKES / "FaceSwap/c23/faces/000_001/0000.jpg"
    shutil.copy(root / "original_sequences/youtube/c23/faces/000/0000.jpg", fake)
    code, checks, _ = audit(plant_run(tmp_path / "runs", root), root, capsys)
    assert code == 1
    assert checks["duplicates"]["outcome"] == "failed"
    assert "000_001/0000.jpg" in checks["duplicates"]["said"]


@pytest.mark.slow
def test_faces_missed_in_one_class_and_shorter_videos_are_found(tmp_path, clean, capsys):
    root = spoiled(tmp_path, clean)
    (root / "prepare.json").write_text('{"no_face": {"real": [2, 40], "fake": [90, 160]}}')
    for folder in (root / FAKES).glob("*/c23/faces/*"):
        (folder / "0003.jpg").unlink()
    _, checks, document = audit(plant_run(tmp_path / "runs", root), root, capsys)
    said = checks["shortcuts"]["said"]
    missed = next(row for row in document["shortcuts"]["rows"] if row["name"] == "no face found")
    assert missed["auc"]["value"] == pytest.approx(0.5 + (90 / 160 - 2 / 40) / 2, abs=1e-6)
    assert "no face found" in said
    frames = next(r for r in document["shortcuts"]["rows"] if r["name"] == "frames of a video")
    assert frames["said"] == "real 2, fake 1"


@pytest.mark.slow
def test_columns_of_a_prepared_tree_are_measures_too(tmp_path: Path, clean: Path, capsys):
    root = spoiled(tmp_path, clean)
    files = sorted(root.rglob("*.jpg"))
    table = pd.DataFrame({"path": [f.relative_to(root).as_posix() for f in files]})
    fake = table["path"].str.startswith(FAKES)
    table["side"], table["crf"] = np.where(fake, 120, 200), np.where(fake, "23", "")
    run = plant_run(tmp_path / "runs", root)
    table.to_csv(root / "manifest.csv", index=False)
    _, checks, _ = audit(run, root, capsys)
    assert "size before the crop: AUC 0.0" in checks["shortcuts"]["said"]
    assert "video encoder (CRF): AUC 100.0" in checks["shortcuts"]["said"]


@pytest.mark.slow
def test_what_prepare_wrote_of_each_data_set_of_several_is_measured(tmp_path, clean, capsys):
    root = spoiled(tmp_path / "all", clean)
    run = plant_run(tmp_path / "runs", root)
    table = pd.DataFrame({"path": [f.relative_to(root).as_posix() for f in root.rglob("*.jpg")]})
    table["side"] = np.where(table["path"].str.startswith(FAKES), 120, 200)
    table.to_csv(root / "manifest.csv", index=False)
    (root / "prepare.json").write_text('{"no_face": {"real": [2, 40], "fake": [90, 160]}}')
    sets = {"root": str(root.parent), "sets": [{"data": "ffpp-c23:data"}], "size": 48}
    data = {"class_path": "tokd_lightning.data.mixed.MixedDataModule", "init_args": sets}
    config = yaml.safe_load((run / "fit.yaml").read_text()) | {"data": data}
    (run / "fit.yaml").write_text(yaml.safe_dump(config))
    frames = pd.read_csv(run / "test_frames.csv", dtype=str)
    frames.assign(path="data/" + frames["path"]).to_csv(run / "test_frames.csv", index=False)
    _, checks, document = audit(run, root.parent, capsys)
    assert "size before the crop: AUC 0.0" in checks["shortcuts"]["said"]
    missed = next(row for row in document["shortcuts"]["rows"] if row["name"] == "no face found")
    assert missed["auc"]["value"] == pytest.approx(0.5 + (90 / 160 - 2 / 40) / 2, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run, root: shutil.rmtree(root / "original_sequences"), "Sequences|sequences"),
        (lambda run, root: (run / "fit.yaml").unlink(), "has no fit.yaml"),
        (lambda run, root: (run / "test_frames.csv").unlink(), "has no stored scores"),
        (lambda run, root: shutil.rmtree(root), "does not exist"),
    ],
)
def test_data_that_cannot_be_measured_end_in_one_line(tmp_path, clean, capsys, change, words):
    root = spoiled(tmp_path, clean)
    run = plant_run(tmp_path / "runs", root)
    change(run, root)
    assert main(["audit", str(run), "--data", str(root)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (run / "audit").exists()


@pytest.mark.slow
def test_other_data_are_refused_and_a_later_test_makes_a_measurement_stale(tmp_path, clean, capsys):
    root = spoiled(tmp_path, clean)
    run = plant_run(tmp_path / "runs", root)
    other = make_ffpp(tmp_path / "other", ids=10, frames=1, size=24, suffix=".jpg")
    assert main(["audit", str(run), "--data", str(other)]) == 2
    assert "is not what run was tested on" in capsys.readouterr().err
    assert main(["audit", str(run), "--data", str(root)]) == 0
    table = pd.read_csv(run / "test_frames.csv", dtype=str).iloc[1:]
    table.to_csv(run / "test_frames.csv", index=False)
    record = json.loads((run / "metrics.json").read_text())
    record["metrics"].pop("test/frame/acc")
    (run / "metrics.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["audit", str(run), "--json"]) == 0
    [document] = json.loads(capsys.readouterr().out)
    assert document["leaks"]["said"].startswith("the data were measured for another test")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"), [("measured.json", "{"), ("files.csv", "{"), ("files.csv", "a,b\n")]
)
def test_a_corrupt_measurement_ends_in_one_line(tmp_path, clean, capsys, name, content):
    run = plant_run(tmp_path / "runs", clean)
    assert main(["audit", str(run), "--data", str(clean)]) == 0
    (run / "audit" / name).write_text(content)
    capsys.readouterr()
    assert main(["audit", str(run)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is not what tokd audit writes" in line


def test_facts_of_files_are_those_of_pillow(tmp_path: Path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    facts = {}
    for name, options in {
        "a.jpg": {"quality": 80, "subsampling": 0},
        "b.jpg": {"quality": 81, "subsampling": 0},
        "c.jpg": {"quality": 80, "subsampling": 2},
        "d.png": {},
        "e.jpg": {"quality": 80, "subsampling": 0, "progressive": True},
    }.items():
        picture.save(tmp_path / name, **options)
        facts[name] = examine(tmp_path, name)
        assert (facts[name]["width"], facts[name]["height"]) == (30, 20)
        assert facts[name]["bytes"] == (tmp_path / name).stat().st_size
    encoders = {name: fact["encoder"] for name, fact in facts.items()}
    assert len(set(encoders.values())) == 5
    assert encoders["a.jpg"].startswith("JPEG 4:4:4")
    assert encoders["c.jpg"].startswith("JPEG 4:2:0")
    assert encoders["d.png"] == "PNG RGB"
    (tmp_path / "no.png").write_bytes(b"no picture")
    assert examine(tmp_path, "no.png")["width"] == 0


def test_the_look_survives_compression_and_tells_pictures_apart():
    rng = np.random.default_rng(0)
    smooth = [Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize((96, 96), 2)
              for _ in range(2)]  # fmt: skip
    small = smooth[0].resize((80, 80), 2)
    looks = [bytes.fromhex(difference_hash(image)) for image in (*smooth, small)]
    bits = [np.unpackbits(np.frombuffer(look, np.uint8)) for look in looks]
    assert (bits[0] != bits[2]).sum() <= 8
    assert (bits[0] != bits[1]).sum() > 40
    assert difference_hash(Image.new("RGB", (40, 40), "grey")) == ""


def test_categories_are_scored_by_the_other_half_alone():
    """A category of each video's own says nothing of it, and one category of all is 0."""
    fake = np.arange(40) % 2 == 0
    keys = [f"video {i}" for i in range(40)]
    assert not category_scores(pd.Series(keys), fake, keys).any()
    assert not category_scores(pd.Series(["a"] * 40), fake, keys).round(6).any()
    told = category_scores(pd.Series(np.where(fake, "x", "y")), fake, keys)
    assert told[fake].min() > told[~fake].max()
