"""Every shipped experiment from its fit to the report, with image size and length cut alone."""

import json
from pathlib import Path

import pandas as pd
import pytest
from whole_way import ON, ROOT, tokd

EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


def go_all_the_way(run: Path, formats: str) -> None:
    """Test, evaluate, explain, show, export and detect; a teacher is not exported."""
    tokd("test", run)
    for on in ON:
        tokd("evaluate", run, "--on", on)
    tokd("explain", run, "--frames", 2, "--errors", 1, "--bands", 3)
    results = json.loads((run / "metrics.json").read_text())
    records = [json.loads(path.read_text()) for path in run.glob("evaluations/*/evaluation.json")]
    assert len(records) == len(ON)
    own = [r for r in records if r["hashes"]["data"] == results["hashes"]["data"]]
    for record in own:  # an evaluation of its own test is its test
        tested = {k: v for k, v in results["metrics"].items() if k.startswith("test/")}
        assert record["metrics"] == tested
    assert {"bands.png", "gradcam.png"} <= {path.name for path in run.glob("explanations/*")}
    if results["cell"]["role"] == "teacher":
        return
    model = Path("models") / run.name
    tokd("export", run, "--out", model, "--format", formats)
    tokd("detect", model, "pictures", "--csv")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_goes_the_whole_way(stocked, experiment):
    run = stocked.fit(experiment)
    go_all_the_way(run, "onnx,safetensors")
    for path in run.glob("checkpoints/last.ckpt"):
        path.unlink()  # of 42 M parameters with Adam's moments: 500 MB


@pytest.mark.slow
def test_they_are_reported_together(stocked):
    runs = [stocked.fit(experiment) for experiment in EXPERIMENTS]
    tokd("report", "--dataset", "ffpp", "celebdf")
    assert Path("runs/report/report.html").is_file()
    tokd("compare", *runs)
    assert len(pd.read_csv("runs/compare/compare.csv")) >= len(EXPERIMENTS)
