"""The benchmarks of the GPU half, on the CPU and tiny: do they run and say what they should?"""

import json
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
