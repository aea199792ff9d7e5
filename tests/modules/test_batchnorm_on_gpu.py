"""SyncBatchNorm's own kernels: two processes on one GPU learn what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank import moving
from small import furthest, same
from test_two_processes import DEADLINE, finish, free_port

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def runs(tiny_ffpp, teacher, tmp_path_factory):
    """What one process ended with, and each of two."""
    out = tmp_path_factory.mktemp("synced")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("synced_rank.py"))
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(tiny_ffpp), str(teacher), str(out), "gpu"],
            env={**os.environ, **place, "LOCAL_RANK": "0", "NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for rank in range(2)
    ]
    try:
        one = moving(tiny_ffpp, teacher, 1, accelerator="gpu")
    finally:
        said = finish(ranks, DEADLINE)
    files = [out / f"{rank}.pt" for rank in range(2)]
    assert all(file.is_file() for file in files), said[-4000:]
    return one, *(torch.load(file, weights_only=True) for file in files)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_with_shared_statistics_two_processes_learn_what_one_does(runs, kind):
    one, first, second = (run[kind] for run in runs)
    ours, theirs = (
        {k: v for k, v in run["state"].items() if v.is_floating_point() and v.norm() > 0}
        for run in (first, one)
    )
    assert any("running_var" in name for name in ours)
    assert furthest(ours, theirs) < 1e-7
    assert first["val"] == pytest.approx(one["val"], rel=1e-6)
    assert first["norms"] == one["norms"]
    assert same(first["state"], second["state"])
