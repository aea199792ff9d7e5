"""Memory stays flat over a run of many epochs."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EPOCHS, WINDOW = 300, 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_three_hundred_epochs_take_no_more_memory_than_thirty(tiny_ffpp, teacher, tmp_path):
    script = str(Path(__file__).with_name("soak.py"))
    command = [sys.executable, script, str(tiny_ffpp), str(teacher), str(tmp_path), str(EPOCHS)]
    subprocess.run(command, check=True, capture_output=True, timeout=3600)
    memory = json.loads((tmp_path / "memory.json").read_text())
    assert len(memory) == EPOCHS
    early = statistics.median(memory[30 - WINDOW // 2 : 30 + WINDOW // 2])
    late = statistics.median(memory[-WINDOW:])
    print(f"{early / 2**20:.1f} MiB at epoch 30, {late / 2**20:.1f} MiB at {EPOCHS}")
    assert late < 1.02 * early
    curves = pd.read_csv(tmp_path / "metrics.csv")
    assert curves["val/frame/auc"].count() == EPOCHS
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
