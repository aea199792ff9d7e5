"""Every shipped experiment from its fit to the report, with image size and length cut alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from whole_way import ON, ROOT, tokd

HERE = "--data.num_workers=0"  # where decoding goes on
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


def go_all_the_way(run: Path, formats: str, targets: Sequence[str] = ON) -> None:
    """Test, evaluate, explain, show, export and detect; a teacher is not exported."""
    tokd("test", run)
    for on in targets:
        tokd("evaluate", run, "--on", on)
    if targets is ON:
        tokd("explain", run, "--frames", 2, "--errors", 1, "--bands", 3)
        assert {"bands.png", "gradcam.png"} <= {p.name for p in run.glob("explanations/*")}
    results = json.loads((run / "metrics.json").read_text())
    records = [json.loads(path.read_text()) for path in run.glob("evaluations/*/evaluation.json")]
    assert len(records) == len(targets)
    own = [r for r in records if r["hashes"]["data"] == results["hashes"]["data"]]
    for record in own:  # an evaluation of its own test is its test
        tested = {k: v for k, v in results["metrics"].items() if k.startswith("test/")}
        assert record["metrics"] == tested
    if results["cell"]["role"] == "teacher":
        return
    model = Path("models") / run.name
    tokd("export", run, "--out", model, "--format", formats)
    backend = ["--backend", "onnx" if "onnx" in formats else "torch"]
    tokd("detect", model, "pictures", "--csv", *backend)


def test_a_student_goes_from_fit_to_detect(place, monkeypatch):
    """In a few seconds, its teacher of a small backbone; the rest is slow."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, page, **_: page.write(b"a page"))
    small = ["--model.backbone=test_resnet", "--model.pretrained=false"]
    place.fit("celebdf_teacher", *small, HERE)
    run = place.fit("celebdf_res18t", HERE)
    go_all_the_way(run, "safetensors", ON[1:2])


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_goes_the_whole_way(stocked, experiment):
    stocked.need("ffpp", "celebdf", "own")
    run = stocked.fit(experiment)
    go_all_the_way(run, "onnx,safetensors")
    for path in run.glob("checkpoints/last.ckpt"):
        path.unlink()  # of 42 M parameters with Adam's moments: 500 MB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "its"),
    [("modern_teacher_vit_dinov3", ()), ("modern_teacher_clip", ("mean", "std"))],
)
def test_each_other_modern_teacher_is_distilled_into_resnet18t(stocked, teacher, its):
    """As docs/beyond.md says: CLIP's has one branch and another normalisation."""
    best = stocked.fit(teacher) / "checkpoints" / "best.ckpt"
    data = yaml.safe_load((ROOT / f"experiments/{teacher}.yaml").read_text())["data"]["init_args"]
    options = [f"--data.{key}={data[key]}" for key in its]
    options += ["--model.distiller.branches=rgb"] if its else []
    run = stocked.fit("modern_res18t", f"--model.teacher={best}", *options, name=f"of_{teacher}")
    columns = pd.read_csv(run / "metrics.csv").columns
    assert ("train/frequency" in columns) == (not its)
    go_all_the_way(run, "onnx")


@pytest.mark.slow
def test_they_are_reported_together(stocked):
    runs = [stocked.fit(experiment) for experiment in EXPERIMENTS]
    tokd("report", "--dataset", "ffpp", "celebdf")
    assert Path("runs/report/report.html").is_file()
    tokd("compare", *runs)
    assert len(pd.read_csv("runs/compare/compare.csv")) >= len(EXPERIMENTS)
