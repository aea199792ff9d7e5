"""One run of `tokd fit`, killed by SIGKILL at random moments, ends as an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TEACHER = ["--model.backbone=test_resnet", "--model.width=16"]
TOKD = [
    "--model.student=test_resnet",
    "--model.distiller.width=16",
    "--model.distiller.dim=64",
    "--model.rotation_scheduler.total_steps=180",
]


def start(kind, root, runs, *options):
    """Start a fit of 3 epochs of 60 batches."""
    command = [
        str(Path(sys.executable).with_name("tokd")),
        *("fit", "--config", str(ROOT / f"experiments/demo_{kind}.yaml")),
        *("--data.root", str(root), "--runs", str(runs), "--log", "none"),
        *("--data.size", "64", "--data.crop", "48", "--data.batch_size", "8"),
        *("--data.samples_per_epoch", "480", "--trainer.max_epochs", "3"),
        *("--trainer.log_every_n_steps", "7", "--model.lr_scheduler.total_steps", "180"),
        *options,
    ]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process):
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said[-4000:]


def stamps(runs):
    """What a fit writes anew whenever it begins, or goes on."""
    return [path.stat().st_ino for path in runs.glob("*/inputs.json")]


def training_starts(process, runs, before=()):
    """Wait until a process is about to train; return whether it has not ended before."""
    while process.poll() is None:
        if stamps(runs) != list(before):
            return True
        time.sleep(0.01)
    return False


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def result(runs):
    """All that a run ends with but the time it took."""
    [folder] = runs.iterdir()
    results = json.loads((folder / "metrics.json").read_text())
    del results["seconds"]
    checkpoints = {}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        del checkpoint["callbacks"]  # they name the folder
        checkpoints[name] = checkpoint
    files = sorted(p.name for p in folder.rglob("*") if p.is_file())
    return results, checkpoints, (folder / "metrics.csv").read_text(), files


def flat(value, key=""):
    if isinstance(value, dict):
        return {k: v for n, inner in value.items() for k, v in flat(inner, f"{key}/{n}").items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)), key)
    return {key: value}


def assert_equal(found, expected):
    assert found[0] == expected[0]
    assert found[2:] == expected[2:]
    for name in ("best", "last"):
        ours, theirs = flat(found[1][name]), flat(expected[1][name])
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(value, theirs[key]), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "kills"),
    [
        ("tokd", ["--data.num_workers=0", "--checkpoint_every=1"], 50),
        ("teacher", ["--data.num_workers=2", "--checkpoint_every=4"], 12),
    ],
    ids=["student", "teacher with workers"],
)
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_ffpp, trained_teacher, tmp_path, kind, options, kills
):
    options = [*options, *(TEACHER if kind == "teacher" else [*TOKD, trained_teacher])]
    began = time.monotonic()
    undisturbed = start(kind, tiny_ffpp, tmp_path / "whole", *options)
    training_starts(undisturbed, tmp_path / "whole")
    start_up = time.monotonic() - began
    finished(undisturbed)
    training = time.monotonic() - began - start_up

    runs, dice = tmp_path / "runs", random.Random(kills)
    for number in range(kills):
        before, started = stamps(runs), time.monotonic()
        process = start(kind, tiny_ffpp, runs, *options)
        if number % 5 == 0:  # before training begins, or about then
            time.sleep(dice.uniform(0.5, 1.1) * start_up)
        elif training_starts(process, runs, before):
            start_up = time.monotonic() - started  # other work on the machine changes it
            time.sleep(dice.uniform(0, 1.8 * training / kills))
        if process.poll() is not None:
            break
        kill(process)
    left = list(runs.glob("*/checkpoints/last.ckpt"))
    steps = torch.load(left[0], weights_only=True)["global_step"] if left else 0
    print(
        f"{number + 1} kills, {start_up:.1f} + {training:.1f} s undisturbed, then at step {steps}"
    )
    finished(start(kind, tiny_ffpp, runs, *options, "--reuse"))
    assert number + 1 >= 0.8 * kills
    assert steps > 0
    assert_equal(result(runs), result(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [[], ["--model.accumulate=2", "--trainer.val_check_interval=0.5"]],
    ids=["plain", "in parts, two validations an epoch"],
)
def test_a_run_killed_renamed_and_resumed_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_ffpp, tmp_path, more
):
    options = ["--data.num_workers=0", "--checkpoint_every=1", *TEACHER, "--name=run", *more]
    finished(start("teacher", tiny_ffpp, tmp_path / "whole", *options))
    for number, steps in enumerate((70, 130)):
        runs = tmp_path / f"runs{number}"
        process = start("teacher", tiny_ffpp, runs, *options)
        last = runs / "run/checkpoints/last.ckpt"
        while process.poll() is None and not (last.is_file() and step_of(last) >= steps):
            time.sleep(0.05)
        kill(process)
        runs.rename(tmp_path / f"runs{number + 1}")
        # A disk that has lost what it was given: the checkpoint before counts.
        if number:
            last = tmp_path / "runs2/run/checkpoints/last.ckpt"
            last.write_bytes(last.read_bytes()[:1000])
    finished(start("teacher", tiny_ffpp, tmp_path / "runs2", *options))
    (tmp_path / "runs2/run/checkpoints/last.damaged.ckpt").unlink()
    assert_equal(result(tmp_path / "runs2"), result(tmp_path / "whole"))


def step_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)["global_step"]


@pytest.fixture(scope="module")
def trained_teacher(tiny_ffpp, tmp_path_factory):
    runs = tmp_path_factory.mktemp("teacher")
    short = ["--trainer.max_epochs=1", "--data.num_workers=0"]
    finished(start("teacher", tiny_ffpp, runs, *TEACHER, *short))
    [path] = runs.glob("*/checkpoints/best.ckpt")
    return f"--model.teacher={path}"
