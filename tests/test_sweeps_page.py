"""The files of docs/sweeps.md, run as the page runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pages import ROOT, files
from test_cli import SMALL, TINY_TEACHER, TINY_TOKD, tokd

from tokd_lightning.loggers.run import OPTIONAL

PAGE = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
FILES = files(PAGE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recording(here, monkeypatch):
    """Put a ``tokd`` on the PATH that writes its command line and a metrics.json."""
    tokd = here / "bin" / "tokd"
    tokd.parent.mkdir()
    tokd.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "name = next(w[7:] for w in sys.argv if w.startswith('--name='))\n"
        "dim = next(w for w in sys.argv if w.startswith('--model.distiller.dim='))\n"
        "place = pathlib.Path('runs', name)\n"
        "place.mkdir(parents=True, exist_ok=True)\n"
        "auc = int(dim.partition('=')[2]) / 2048\n"
        "(place / 'metrics.json').write_text(json.dumps({'metrics': {'val/frame/auc': auc}}))\n"
        "print(json.dumps(sys.argv[1:]), file=open('said.txt', 'a'))\n"
    )
    tokd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tokd.parent}{os.pathsep}{os.environ['PATH']}")


def run(*words):
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_grid_gives_the_command_lines_of_wandb_s_agent(here, monkeypatch):
    from wandb.sdk.launch.sweeps import utils

    recording(here, monkeypatch)
    out = run("grid.py", "sweep.yaml", "--data.root=data")
    said = [json.loads(line) for line in (here / "said.txt").read_text().splitlines()]
    sweep = yaml.safe_load(FILES["sweep.yaml"])
    expected = []
    for alpha in (1.0, 10.0):
        for dim in (256, 1024):
            chosen = {"model.distiller.alpha_rgb": alpha, "model.distiller.dim": dim}
            assert all(value in sweep["parameters"][k]["values"] for k, value in chosen.items())
            arguments = {name: {"value": value} for name, value in chosen.items()}
            flags = utils.create_sweep_command_args({"args": arguments})["args"]
            words = utils.create_sweep_command(sweep["command"])
            at = words.index("${args}")
            expected.append([*words[1:at], *flags, *words[at + 1 :]])
    assert [words[: len(expected[0])] for words in said] == expected
    assert [words[-3:] for words in said] == [
        ["--data.root=data", f"--name=sweep_{n}", "--reuse"] for n in range(4)
    ]
    assert [line.split()[0] for line in out.splitlines()] == ["0.5000"] * 2 + ["0.1250"] * 2


def test_the_page_names_every_tracker():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `--log ")]
    assert {row.split("`")[1].removeprefix("--log ") for row in rows} == {*OPTIONAL, "none"}


@pytest.mark.slow
def test_the_grid_trains_offline_and_a_second_start_trains_nothing(here, tiny_ffpp, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert tokd("fit", "demo_teacher", tiny_ffpp, "teachers", *TINY_TEACHER) == 0
    [teacher] = here.glob("teachers/*/checkpoints/best.ckpt")
    sweep = yaml.safe_load(FILES["sweep.yaml"])
    sweep["command"][3] = "experiments/demo_tokd.yaml"
    sweep["parameters"]["model.distiller.dim"] = {"values": [16, 64]}  # of a tiny student
    (here / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    options = [*SMALL, *TINY_TOKD, f"--data.root={tiny_ffpp}", f"--model.teacher={teacher}"]
    options = [one for one in options if not one.startswith("--model.distiller.dim")]
    first = run("grid.py", "sweep.yaml", *options, "--log=wandb")
    best = [line for line in first.splitlines() if "'model.distiller.alpha_rgb'" in line]
    assert len(best) == 4
    runs = sorted((here / "runs").glob("sweep_*"))
    assert len(runs) == 4
    assert all(list(folder.glob("wandb/offline-run-*")) for folder in runs)
    times = [(folder / "metrics.json").stat().st_mtime_ns for folder in runs]
    run("grid.py", "sweep.yaml", *options, "--log=wandb")
    assert [(folder / "metrics.json").stat().st_mtime_ns for folder in runs] == times


@pytest.mark.slow
def test_optuna_searches_and_a_stopped_study_goes_on(here, monkeypatch):
    optuna = pytest.importorskip("optuna")
    recording(here, monkeypatch)
    run("study.py", 3, "--config", "experiments/ffpp_res18t.yaml")
    out = run("study.py", 2, "--config", "experiments/ffpp_res18t.yaml")
    study = optuna.load_study(study_name="tokd", storage="sqlite:///study.db")
    said = [json.loads(line) for line in (here / "said.txt").read_text().splitlines()]
    assert len(study.trials) == len(said) == 5
    for trial, words in zip(study.trials, said, strict=True):
        assert f"--name=study_{trial.number}" in words
        for branch in ("rgb", "frequency"):
            assert f"--model.distiller.alpha_{branch}={trial.params['alpha']}" in words
        assert trial.value == trial.params["dim"] / 2048
    assert out.startswith(f"{study.best_value} ")
