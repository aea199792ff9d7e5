"""`tokd inputs` and `tokd probe`: what the runner of the tables asks of a fit."""

import json

import pytest
from test_cli import ROOT, SMALL, TINY_STUDENT, folder, tokd

from tokd_lightning.cli import main
from tokd_lightning.modules.checkpoint import state_hash


@pytest.fixture(scope="module")
def runs(tiny_ffpp, tmp_path_factory):
    """A vanilla student."""
    runs = tmp_path_factory.mktemp("runs")
    assert tokd("fit", "demo_vanilla", tiny_ffpp, runs, *TINY_STUDENT) == 0
    return runs


def arguments(experiment, root, *options):
    small = [option for option in SMALL if not option.startswith("--log=")]
    return [
        f"--config={ROOT}/experiments/{experiment}.yaml",
        f"--data.root={root}",
        *small,
        *options,
    ]


@pytest.mark.slow
def test_inputs_are_the_hashes_that_a_fit_records(tiny_ffpp, small_teacher, runs, capsys):
    capsys.readouterr()
    assert main(["inputs", *arguments("demo_vanilla", tiny_ffpp, *TINY_STUDENT)]) == 0
    recorded = json.loads((folder(runs, "vanilla") / "inputs.json").read_text())
    of_data = {key: recorded[key] for key in ("data", "rows")}
    assert json.loads(capsys.readouterr().out) == of_data
    options = arguments("demo_tokd", tiny_ffpp, f"--model.teacher={small_teacher}")
    assert main(["inputs", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == of_data | {"teacher": state_hash(small_teacher)}
    made = json.loads((small_teacher.parents[1] / "metrics.json").read_text())
    assert made["hashes"]["weights"] == found["teacher"]


def test_inputs_of_data_that_are_not_there_are_one_line(tmp_path, capsys):
    assert main(["inputs", *arguments("demo_vanilla", tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_probe_times_a_few_batches_and_keeps_nothing_but_its_run(tiny_ffpp, tmp_path, capsys):
    out = tmp_path / "probe.json"
    options = arguments("demo_vanilla", tiny_ffpp, *TINY_STUDENT, f"--runs={tmp_path / 'runs'}")
    options += ["--data.samples_per_epoch=400", "--trainer.max_epochs=7"]
    options += ["--model.lr_scheduler.total_steps=350"]
    assert main(["probe", *options, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["epochs"] == 7
    assert found["precision"] == "32-true"
    assert found["batches"]["train"] == 50
    assert found["seconds_per_step"] > 0
    steps = 7 * 50 * found["seconds_per_step"]
    scored = 7 * found["batches"]["val"] + found["batches"]["test"]
    assert found["seconds"] >= steps + scored * found["seconds_per_evaluated_batch"] - 0.1
    assert 0.1 < found["memory"] < 24
    assert found["teacher"] == 0  # Vanilla has none
    assert 0 < found["kept"] < 0.1  # a few hundred thousand parameters with Adam's moments
    assert found["device"] == "cpu"
    [run] = (tmp_path / "runs/.probes").iterdir()
    rows = (run / "metrics.csv").read_text().splitlines()
    assert len(rows) < 12
    assert (run / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_a_probe_leaves_the_run_of_its_configuration_alone(tiny_ffpp, runs, tmp_path):
    trained, out = folder(runs, "vanilla"), f"--out={tmp_path / 'probe.json'}"
    before = {path: path.stat().st_mtime_ns for path in sorted(trained.rglob("*"))}
    others = sorted(runs.glob("*"))
    for _ in range(2):
        assert main(["probe", str(trained), f"--data.root={tiny_ffpp}", out]) == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(trained.rglob("*"))} == before
    assert sorted(runs.glob("*")) == sorted([*others, runs / ".probes"])
    assert [path.name for path in (runs / ".probes").iterdir()] == [trained.name]


def test_a_probe_of_what_cannot_be_fitted_is_one_line(tmp_path, capsys):
    assert main(["probe", *arguments("demo_vanilla", tmp_path), "--out", str(tmp_path / "p")]) == 2
    assert not (tmp_path / "p").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_probe_says_what_of_a_fit_is_the_teacher_s(tiny_ffpp, small_teacher, tmp_path):
    out = tmp_path / "probe.json"
    options = arguments("demo_tokd", tiny_ffpp, *TINY_STUDENT, f"--model.teacher={small_teacher}")
    options += [
        "--model.distiller=at",
        "--data.samples_per_epoch=400",
        "--model.lr_scheduler.total_steps=50",
    ]
    assert main(["probe", *options, f"--runs={tmp_path / 'runs'}", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert 0 < found["teacher"] < found["batches"]["train"] * found["seconds_per_step"]
