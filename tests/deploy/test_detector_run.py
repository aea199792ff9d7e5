"""A run of a detector goes through every command that follows a fit."""

import json
from pathlib import Path

import pandas as pd
import pytest
import wandb_log
from evaluated import LONG, OPTIONS, SHORT
from test_cli import ROOT, folder

from tokd_lightning.cli import main
from tokd_lightning.models.detectors import DETECTORS

pytestmark = pytest.mark.slow
SETTINGS = [*OPTIONS[:-1], *LONG, "--model.detector.backbone=test_resnet"]


@pytest.fixture(scope="module")
def spsl(data, tmp_path_factory):
    """SPSL, trained and tested, with an offline W&B run."""
    runs = tmp_path_factory.mktemp("runs")
    config = ROOT / "experiments/demo_spsl.yaml"
    given = [f"--config={config}", f"--data.root={data}", f"--runs={runs}", *SETTINGS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for command in ("fit", "test"):
            assert main([command, *given, "--log=wandb"]) == 0
    return folder(runs, "spsl")


@pytest.fixture(scope="module")
def exported(spsl, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    given = ["export", str(spsl), "--format", "onnx,safetensors", "--out", str(out)]
    assert main([*given, "--detector", "haar"]) == 0
    return out


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_an_exported_detector_detects_what_it_learned(exported, mixed, backend, capsys):
    assert main(["detect", str(exported), str(mixed), "--backend", backend, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = {row["path"]: row["p_fake"] for row in found["files"] if row["p_fake"] is not None}
    bright = [p for name, p in scores.items() if "bright" in Path(name).name]
    dark = [p for name, p in scores.items() if "dark" in Path(name).name]
    assert len(bright) >= 4
    assert min(bright) > max(dark)


def test_wandb_has_the_run_of_a_detector(spsl):
    logged = wandb_log.read(spsl)
    assert logged.run.display_name == spsl.name
    assert {"spsl", "seed 0", "synthetic-c23"} <= set(logged.run.tags)
    results = json.loads((spsl / "metrics.json").read_text())["metrics"]
    assert logged.summary["test/frame/auc"] == results["test/frame/auc"]
    assert any("train/ce" in row for row in logged.history)


def test_compare_and_report_show_the_detector(spsl, tmp_path, capsys):
    assert main(["compare", str(spsl), "--out", str(tmp_path)]) == 0
    table = (tmp_path / "compare.md").read_text()
    auc = 100 * json.loads((spsl / "metrics.json").read_text())["metrics"]["test/frame/auc"]
    assert "spsl" in table
    assert f"{auc:.2f}" in table
    changed = [option.removeprefix("--") for option in SETTINGS]
    given = ["report", "--runs", str(spsl.parent), "--table", "2", "--dataset", "demo-c23"]
    assert main([*given, "--set", *changed, "--out", str(tmp_path / "report")]) == 0
    [found] = (tmp_path / "report").rglob("report.csv")
    rows = pd.read_csv(found).astype(str)
    assert f"{auc:.2f}"[:4] in rows.to_csv()


def test_evaluate_and_explain_take_the_detector(spsl, data, tmp_path, capsys):
    assert main(["evaluate", str(spsl), "--on", f"ffpp-c23:{data}", "--split", "val"]) == 0
    assert list(spsl.glob("evaluations/*/frames.csv"))
    assert main(["explain", str(spsl), "--frames", "2", "--errors", "1", "--bands", "2"]) == 0
    assert (spsl / "explanations/gradcam.png").is_file()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("multiatt", ["--model.detector.backbone=resnet18_thin"]),
        ("multitask", ["--model.loss.segmentation=0"]),
    ],
)
def test_explain_adds_the_maps_of_a_detector(data, tmp_path, monkeypatch, name, options):
    titles = []
    panels = DETECTORS[name].panels

    def noted(self, output):
        found = panels(self, output)
        titles.extend(found)
        return found

    monkeypatch.setattr(DETECTORS[name], "panels", noted)
    config = ROOT / f"experiments/demo_{name}.yaml"
    given = [f"--config={config}", f"--data.root={data}", f"--runs={tmp_path}", *OPTIONS, *SHORT]
    assert main(["fit", *given, *options]) == 0
    run = folder(tmp_path, name)
    assert main(["explain", str(run), "--frames", "2", "--errors", "1", "--bands", "2"]) == 0
    assert (run / "explanations/gradcam.png").is_file()
    assert (
        set(titles) == {"mask"}
        if name == "multitask"
        else {"attention 1", "attention 4"} <= {*titles}
    )
