"""Runs whose images are not cropped, as those of FF++, Celeb-DF and one's own: `crop` is null."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from evaluated import OPTIONS, SHORT
from matplotlib.figure import Figure
from test_cli import ROOT, TINY_STUDENT

from tokd_lightning.cli import main
from tokd_lightning.data.target import parse_target
from tokd_lightning.evaluation import Options, open_run
from tokd_lightning.evaluation.evaluate import module_of
from tokd_lightning.explain.options import Options as Explain
from tokd_lightning.explain.options import frames_of
from tokd_lightning.runs.folder import Run


@pytest.fixture(scope="module")
def uncropped(tiny_ffpp, tmp_path_factory):
    """A run, tested, and the scores of its test."""
    runs = tmp_path_factory.mktemp("runs")
    for command in ("fit", "test"):
        given = [f"--config={ROOT}/experiments/demo_vanilla.yaml", f"--data.root={tiny_ffpp}"]
        given += [f"--runs={runs}", "--name=run", *OPTIONS, *TINY_STUDENT, *SHORT]
        assert main([command, *given, "--data.crop=null", "--data.size=48"]) == 0
    return runs / "run"


@pytest.fixture
def run(uncropped, tmp_path):
    """A run that a test may write into."""
    return shutil.copytree(uncropped, tmp_path / "run")


@pytest.mark.slow
def test_null_is_not_written_so_that_hashes_stay(run):
    assert "crop" not in yaml.safe_load((run / "fit.yaml").read_text())["data"]["init_args"]


@pytest.mark.slow
def test_evaluated_on_its_own_data_it_scores_what_its_test_scored(run, tiny_ffpp):
    assert main(["evaluate", str(run), "--on", f"synthetic=ffpp-c23:{tiny_ffpp}"]) == 0
    frames = run / "evaluations" / "synthetic-c23" / "frames.csv"
    assert frames.read_bytes() == (run / "test_frames.csv").read_bytes()
    record = Run(run).evaluations()["synthetic-c23"]
    assert (record["options"]["size"], record["options"]["crop"]) == (48, None)


@pytest.mark.slow
def test_it_is_explained_exported_and_shown(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda figure, page, **_: page.write(b"a page"))
    assert main(["explain", str(run), "--bands", "2", "--frames", "1", "--errors", "0"]) == 0
    bands = pd.read_csv(run / "explanations" / "bands.csv")
    tested = json.loads((run / "metrics.json").read_text())["metrics"]["test/frame/auc"]
    assert bands["auc"].iloc[0] == pytest.approx(tested, abs=1e-6)
    assert main(["export", str(run), "--format", "safetensors", "--out", str(tmp_path / "m")]) == 0
    fed = json.loads((tmp_path / "m" / "model.json").read_text())["input"]
    assert (fed["size"], fed["crop"]) == (48, 48)
    assert main(["show", str(run), "--out", str(tmp_path / "sheet.png")]) == 0


@pytest.mark.thinned(4)
@pytest.mark.parametrize("gone", ["on_error", "num_workers", "batch_size", "frames_per_video"])
def test_what_an_earlier_version_did_not_write_is_as_the_class_has_it(run, tiny_ffpp, gone):
    file = run / "fit.yaml"
    config = yaml.safe_load(file.read_text())
    del config["data"]["init_args"][gone]
    file.write_text(yaml.safe_dump(config))
    trained, target = open_run(run), parse_target(f"ffpp-c23:{tiny_ffpp}")
    default = {"on_error": "fail", "num_workers": 4, "batch_size": 64, "frames_per_video": 32}
    fed = module_of(trained, target, Options()), frames_of(trained, target, Explain())
    expected = min(default[gone], 2) if gone == "num_workers" else default[gone]
    for data in (*fed, frames_of(trained, None, Explain())):
        assert getattr(data, gone) in (expected, default[gone])


def test_a_data_module_that_is_not_there_any_more_does_not_stand_in_the_way(run, tiny_ffpp):
    file = run / "fit.yaml"
    config = yaml.safe_load(file.read_text())
    config["data"]["class_path"] = "elsewhere.MineDataModule"
    file.write_text(yaml.safe_dump(config))
    assert main(["evaluate", str(run), "--on", f"ffpp-c23:{tiny_ffpp}"]) == 0
