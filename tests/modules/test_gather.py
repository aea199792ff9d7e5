import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gather_rank import METHODS, rehearse
from small import furthest, same
from test_two_processes import DEADLINE, finish, free_port

APART = ("pkt apart", "sp apart")


@pytest.fixture(scope="module")
def runs(tiny_ffpp, teacher, tmp_path_factory):
    """What one process ended with, and each of two."""
    out = tmp_path_factory.mktemp("ranks")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("gather_rank.py"))
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(tiny_ffpp), str(teacher), str(out), "2"],
            env={**os.environ, **place, "LOCAL_RANK": str(rank), "NODE_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for rank in range(2)
    ]
    try:
        one = rehearse(tiny_ffpp, teacher, 1)
    finally:
        said = finish(ranks, DEADLINE)
    # gloo can abort when processes part, after all work is done: only what they wrote counts.
    files = [out / f"{rank}.pt" for rank in range(2)]
    assert all(file.is_file() for file in files), said[-4000:]
    return one, *(torch.load(file, weights_only=True) for file in files)


def floats(state):
    return {k: v for k, v in state.items() if v.is_floating_point() and v.norm() > 0}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in APART])
def test_two_processes_learn_what_one_with_the_whole_batch_learns(runs, name):
    one, two, _ = (floats(run[name]) for run in runs)
    assert furthest(two, one) < 1e-9


@pytest.mark.parametrize("name", APART)
def test_without_gathering_each_process_sees_its_own_part_of_the_batch(runs, name):
    one, two, _ = (floats(run[name]) for run in runs)
    assert furthest(two, one) > 1e-6


def test_pcgrad_had_conflicts_of_tokds_branches_to_resolve(runs):
    for part in ("student.", "distiller.rotation."):
        projected, added = (
            {k: v for k, v in floats(runs[1][name]).items() if k.startswith(part)}
            for name in ("tokd pcgrad", "tokd")
        )
        assert furthest(projected, added) > 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_same_bits(runs, name):
    assert same(runs[1][name], runs[2][name])
