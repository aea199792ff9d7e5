"""The benchmarks of the GPU half, on the CPU and tiny: do they run and say what they should?"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture
def device(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import device

    return device


@pytest.mark.slow
def test_filters_rotations_and_the_naive_loop_are_measured(device, tmp_path, capsys):
    device.run(CPU, device.TINY, tmp_path / "b.json", ["filters", "rotations", "peers"])
    results = json.loads((tmp_path / "b.json").read_text())["results"]
    assert "failed" not in capsys.readouterr().out
    assert len(results) == 3 * 4 + 4 + 4
    for result in results:
        assert 0 < result["low"] <= result["median"] <= result["high"]


@pytest.mark.slow
def test_teachers_steps_and_feeding_are_measured(device, tmp_path, capsys):
    device.run(CPU, device.TINY, tmp_path / "b.json", ["teachers", "fed", "steps"])
    results = json.loads((tmp_path / "b.json").read_text())["results"]
    assert "failed" not in capsys.readouterr().out
    assert sum(result["what"].startswith("step / lower bound") for result in results) == 9


@pytest.mark.slow
def test_a_profile_names_the_parts_of_a_step(device):
    from benchmarks import profiling

    found = profiling.step(CPU, 2, 64, 64, "32-true", "test_resnet", steps=1, rows=3)
    for part in ("teacher", "student", "distiller", "backward", "rotation"):
        assert f"\n  {part} " in found
    assert "aten::" in profiling.rotations(CPU, 64, 4, 3)


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_in_small(tmp_path):
    done = subprocess.run(
        ["bash", str(Path(__file__).parents[1] / "benchmarks/gpu_check.sh")],
        env={**os.environ, "TINY": "1", "OUT": str(tmp_path),
             "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()]
    assert rows == ["part", "---", "tests", "steps", "compiled", "cohort"]
    assert "exit code" not in done.stdout.replace("exit code 5", "")  # no test is marked for a CPU
    assert "student-images a second" in done.stdout


@pytest.mark.slow
def test_a_cohort_costs_less_than_each_fit_alone(device, tmp_path):
    from benchmarks import cohort

    at = argparse.Namespace(
        size=64, batch=4, teacher="resnet18_thin", student="resnet18_thin", steps=[1, 2],
        columns=["vanilla", "TOKD both"], accelerator="cpu", precision="32-true", workers=0,
        sequential=False, live=True, out=tmp_path / "cohort.json",
    )  # fmt: skip
    found = cohort.measure(at)
    assert json.loads(at.out.read_text())["2"] == found["2"]
    alone = sum(it["cpu"] for it in found["1"]["alone"].values())
    assert found["1"]["cohort"]["cpu"] < alone
    largest = max(it["live"] for it in found["1"]["alone"].values())
    assert largest < found["1"]["cohort"]["live"] < 2 * largest
    assert len(cohort.summary(found, at)) == 6
