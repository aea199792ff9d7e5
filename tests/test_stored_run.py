"""A run folder of an earlier version can be tested, evaluated, exported and reported.

``stored/run_95cddb5.zip`` was made at that commit with a tiny tree (``trees.make_ffpp``): one epoch
of two batches of TOKD from a thin teacher. Optimizer states and last.ckpt were dropped, and all but
a few weights of each layer set to zero, so that the folder is small.
"""

import json
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tokd_lightning.cli import main
from tokd_lightning.runs.folder import Run

STORED = Path(__file__).parent / "stored" / "run_95cddb5.zip"
NAME = "synthetic-c23_resnet18_thin_tokd-both_s0"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(tmp_path / "runs")
    return tmp_path / "runs"


def class_paths(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["class_path"]] if "class_path" in value else []
        return own + [path for inner in value.values() for path in class_paths(inner)]
    items = value if isinstance(value, list) else []
    return [path for inner in items for path in class_paths(inner)]


def test_every_class_named_in_its_configuration_can_be_imported(runs: Path):
    found = class_paths(yaml.safe_load((runs / NAME / "fit.yaml").read_text()))
    assert {"tokd_lightning.modules.DistillModule", "tokd_lightning.distillation.TOKD"} <= set(
        found
    )
    for path in found:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path


def test_its_record_is_read_in_full(runs: Path):
    record = Run(runs / NAME).results()
    assert record is not None
    assert (record.cell.method, record.cell.branches, record.seed) == ("tokd", "both", 0)
    assert record.is_tested
    assert record.parameters > 2_000_000
    assert record.fit_seconds > 0
    assert record.other == {}


@pytest.mark.slow
def test_it_is_tested_evaluated_exported_and_reported(runs: Path, tiny_ffpp: Path, capsys):
    folder = runs / NAME
    before = json.loads((folder / "metrics.json").read_text())["metrics"]
    options = [f"--data.root={tiny_ffpp}", "--data.num_workers=0", "--log=none", "--pictures=0"]
    assert main(["test", str(folder), *options]) == 0
    assert "is left as it is" not in capsys.readouterr().out
    after = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert after == pytest.approx(before, abs=1e-6)
    on = ["--on", f"synthetic=ffpp-c23:{tiny_ffpp}", "--workers", "0"]
    assert main(["evaluate", str(folder), *on]) == 0
    scores = (folder / "evaluations" / "synthetic-c23" / "frames.csv").read_bytes()
    assert scores == (folder / "test_frames.csv").read_bytes()
    out = runs.parent / "exported"
    given = ["--format", "safetensors", "--out", str(out), "--data", str(tiny_ffpp)]
    assert main(["export", str(folder), *given]) == 0
    about = json.loads((out / "model.json").read_text())
    assert about["trained"]["hashes"]["weights"] == Run(folder).results().hashes["weights"]
    assert main(["report", "--runs", str(runs), "--dataset", "demo", "--table", "3"]) == 0
    written = (runs / "report" / "report.csv").read_text()
    assert NAME in written
    assert f"{after['test/frame/acc']}" in written
