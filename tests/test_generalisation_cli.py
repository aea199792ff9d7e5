"""`tokd fit` and `tokd test` with paired batches, a forgery left out, and degraded images."""

import json

import pandas as pd
import pytest
import yaml
from evaluated import SHORT, fit_and_test
from sklearn.metrics import roc_auc_score
from test_cli import ROOT, TINY_STUDENT, TINY_TEACHER
from trees import make_celebdf, make_ffpp

from tokd_lightning.cli import main

OPTIONS = [
    "--data.balance=paired",
    "--data.leave_out=[Deepfakes]",
    "--data.degrade=[jpeg, blur]",
    "--data.degrade_options={share: 0.5}",
]


@pytest.fixture(scope="module")
def runs(tiny_ffpp, tmp_path_factory):
    place = tmp_path_factory.mktemp("general")
    fit_and_test("demo_vanilla", tiny_ffpp, place, *TINY_STUDENT, *SHORT, *OPTIONS)
    return place


@pytest.mark.slow
def test_a_left_out_forgery_is_reported_apart(runs, capsys):
    [run] = runs.iterdir()
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    frames = pd.read_csv(run / "test_frames.csv")
    for name, held in (("seen", False), ("unseen", True)):
        rows = frames[(frames["label"] == 0) | ((frames["method"] == "Deepfakes") == held)]
        expected = roc_auc_score(rows["label"], rows["p_fake"])
        assert metrics[f"test/{name}/frame/auc"] == pytest.approx(expected, abs=1e-6)
    assert "Deepfakes" in set(frames["method"])
    assert not any(key.startswith("val/unseen") for key in metrics)
    assert main(["test", str(run), "--log=none"]) == 0
    said = capsys.readouterr().out
    assert "unseen" in said
    assert "balanced_acc " in said
    value = metrics["test/unseen/frame/auc"]
    [line] = [line for line in said.splitlines() if line.startswith("│ auc ")]
    assert line.split("│")[6].strip() == f"{value:.4f}"


@pytest.mark.slow
def test_a_teacher_that_had_the_forgery_is_told_of(tiny_ffpp, tmp_path, capsys):
    fit_and_test("demo_teacher", tiny_ffpp, tmp_path, *TINY_TEACHER, *SHORT)
    best = next(tmp_path.glob("*teacher*")) / "checkpoints/best.ckpt"
    options = [*TINY_STUDENT, *SHORT, *OPTIONS, "--data.degrade_for=student"]
    with pytest.warns(UserWarning, match="teacher's training may have had Deepfakes"):
        fit_and_test(
            "demo_tokd",
            tiny_ffpp,
            tmp_path,
            *options,
            f"--model.teacher={best}",
            "--model.distiller.dim=16",
            "--model.distiller.teacher_projectors=frozen",
            "--model.rotation_scheduler.total_steps=2",
        )
    assert "paired with the real frame" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--data.leave_out=[Deepfake]", "no fake of that method; choose from Deepfakes"),
        ("--data.degrade=haze", "no perturbation 'haze'"),
        ("--data.balance=pairs", "--data.balance"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_line(tiny_ffpp, tmp_path, capsys, option, says):
    config = f"--config={ROOT / 'experiments/demo_vanilla.yaml'}"
    given = [config, f"--data.root={tiny_ffpp}", f"--runs={tmp_path / 'r'}", "--log=none", option]
    assert main(["fit", *given]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_several_data_sets_are_fitted_and_tested_as_one(tmp_path, capsys):
    make_ffpp(tmp_path / "data/ff", ids=10, frames=2, size=32)
    make_celebdf(tmp_path / "data/celeb", frames=2, size=32)
    config = yaml.safe_load((ROOT / "experiments/demo_vanilla.yaml").read_text())
    kept = {"balance", "batch_size", "augmentation"}
    given = {key: value for key, value in config["data"]["init_args"].items() if key in kept}
    sets = [
        {"data": "ffpp-c23:ff", "weight": 3},
        {"data": "celebdf:celeb", "weight": 1, "options": {"val_fraction": 0.4}},
    ]
    given |= {"root": str(tmp_path / "data"), "sets": sets, "size": 32, "num_workers": 0}
    given |= {"batch_size": 8, "samples_per_epoch": 16}
    config["data"] = {"class_path": "MixedDataModule", "init_args": given}
    file = tmp_path / "mixed.yaml"
    file.write_text(yaml.safe_dump(config))
    options = [*TINY_STUDENT, "--model.lr_scheduler.total_steps=4", "--log=none"]
    options += [f"--runs={tmp_path / 'runs'}", "--trainer.max_epochs=2"]
    assert main(["fit", f"--config={file}", *options]) == 0
    said = capsys.readouterr().out
    assert "each batch of 8 has 6 of ffpp, 2 of celebdf, on average" in said
    [run] = (tmp_path / "runs").glob("mixed-mixed_*")
    assert main(["test", str(run), "--log=none"]) == 0
    frames = pd.read_csv(run / "test_frames.csv")
    assert set(frames["dataset"]) == {"ffpp", "celebdf"}
    assert main(["fit", f"--config={file}", *options]) == 2
    assert "is finished" in capsys.readouterr().err
