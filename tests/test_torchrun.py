"""The command on two processes, however they are started, and how they end when one fails."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).parents[1]
DEADLINE = 400
# A network without BatchNorm, whose statistics would be those of each process.
OPTIONS = [
    *("--config", str(ROOT / "experiments/demo_vanilla.yaml"), "--model.student", "test_convnext"),
    *("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.01"),
    *("--model.optimizer.momentum", "0.9", "--model.lr_scheduler.total_steps", "6"),
    *(
        "--data.size",
        "64",
        "--data.crop",
        "64",
        "--data.augmentation",
        "[]",
        "--data.num_workers",
        "0",
    ),
    *("--data.batch_size", "8", "--data.samples_per_epoch", "26", "--log", "none"),
    *("--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.accelerator", "cpu"),
]


def tokd(root, runs, devices, *options, torchrun=False, **how):
    """Fit; return the exit code and what was said."""
    given = ["fit", *OPTIONS, "--data.root", str(root), "--runs", str(runs)]
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]
    command = [*(launch if torchrun else []), "tokd_lightning", *given]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--trainer.devices", str(devices), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        **how,
    )
    return done.returncode, done.stdout + done.stderr


def ended(runs):
    """What a run ends with."""
    [run] = runs.iterdir()
    assert run.name.startswith("synthetic-c23_test_convnext_vanilla")
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    curves = pd.read_csv(run / "metrics.csv")
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    validated = curves.dropna(subset=["val/loss"]).filter(like="val/").reset_index(drop=True)
    return checkpoint["state_dict"], curves, validated, files


@pytest.mark.slow
def test_torchrun_does_what_two_devices_do_and_one_process_nearly(tiny_ffpp, tmp_path):
    for name, devices in (("one", 1), ("two", 2), ("torchrun", 2)):
        code, said = tokd(tiny_ffpp, tmp_path / name, devices, torchrun=name == "torchrun")
        assert code == 0, said
        assert said.count("epoch 2/2") == 1
    one, two, other = (ended(tmp_path / name) for name in ("one", "two", "torchrun"))
    assert all(torch.equal(other[0][key], value) for key, value in two[0].items())
    pd.testing.assert_frame_equal(other[1], two[1], check_exact=True)
    assert one[3] == two[3] == other[3]
    for key, value in one[0].items():
        assert (two[0][key] - value).norm() <= 1e-5 * value.norm().clamp_min(1e-6), key
    pd.testing.assert_frame_equal(two[2], one[2], rtol=1e-4)
    assert len(two[2]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3])
def test_another_number_of_devices_than_of_processes_is_one_line(tiny_ffpp, tmp_path, devices):
    code, said = tokd(tiny_ffpp, tmp_path / "runs", devices, torchrun=True)
    assert code == 1  # of torchrun, which says the rest
    line = f"tokd: torchrun has started 2 processes, not the requested {devices} on each of 1: set"
    assert said.count(line) >= 1
    assert "Traceback" not in said.split("torch/distributed/elastic")[0]
    assert not (tmp_path / "runs").exists()


def broken(root, tmp_path, row):
    """Copy a tree whose frame number ``row`` of the validation cannot be read."""
    copy = shutil.copytree(root, tmp_path / "broken")
    frame = sorted((copy / "original_sequences/youtube/c23/faces/006").iterdir())[row]
    frame.write_text("not an image")
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_frame_that_one_process_cannot_read_ends_both(tiny_ffpp, tmp_path, rank):
    root = broken(tiny_ffpp, tmp_path, rank)
    code, said = tokd(root, tmp_path / "runs", 2)
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("tokd: ")]
    assert f"006/{rank * 3:04}.png" in lines[0]
    assert lines[1:] == ["tokd: another process of this run has ended, see what it said"] * rank
    assert "Traceback" not in said
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_a_full_disk_ends_both_with_one_line(tiny_ffpp, tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code, said = tokd(tiny_ffpp, tmp_path / "runs", 2, preexec_fn=small_files)
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("tokd: ")]
    assert len(lines) == 1, said
    assert lines[0].endswith("best.ckpt cannot be written: File too large")
    assert "Traceback" not in said
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_once(tiny_ffpp, tmp_path):
    code, said = tokd(tiny_ffpp, tmp_path, 2, "--model.lr_scheduler.max_lr", "1e30")
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.startswith("tokd: ")]
    assert len(lines) == 1, said
    assert "is not finite" in lines[0]
    assert "Traceback" not in said
    [run] = tmp_path.iterdir()
    assert len(pd.read_csv(run / "nonfinite.csv")) in (4, 8)
