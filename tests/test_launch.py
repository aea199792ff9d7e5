"""What Lightning makes of the variables that SLURM sets."""

import os
import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
from lightning.fabric.utilities import rank_zero
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tokd_lightning.cli import main
from tokd_lightning.errors import AlikeError, TokdError
from tokd_lightning.modules.batchnorm import SyncedBatchNorm
from tokd_lightning.training import cli as training
from tokd_lightning.training import slurm_step as step
from tokd_lightning.training.launch import (
    check_processes,
    end_others,
    plugins,
    said_once,
    slurm_environment,
)
from tokd_lightning.training.slurm_step import StepEnvironment, started_by_srun

# What SLURM 22.05 set for `sbatch --ntasks=N`, for `srun --ntasks=2` and `--nodes=2` in it, for
# `srun --ntasks=2 --pty bash`, and for the shell of salloc under use_interactive_step.
JOB = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "a.sh", "SLURM_NODELIST": "vm", "SLURM_PROCID": "0"}
ONE = JOB | {"SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "1"}
TWO = JOB | {"SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2", "SLURM_NPROCS": "2"}
STEP = TWO | {
    **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"},
    **{"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "vm"},
    **{"SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
}
NODES = STEP | {
    **{"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NUM_NODES": "2"},
    "SLURM_STEP_NODELIST": "vm[3,7]",
}
SHELL = STEP | {"SLURM_PTY_PORT": "41593", "SLURM_JOB_NAME": "bash", "SLURM_TASK_PID": "1"}
SALLOC = TWO | {
    **{"SLURM_JOB_NAME": "interactive", "SLURM_STEP_NUM_TASKS": "1"},
    "SLURM_STEP_ID": "4294967290",
}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}


def trainer_of(devices: int, **options: object) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", devices=devices, logger=False, **options)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch):
    """Sets variables; Lightning adds its own."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def put(given: dict[str, str]) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("given", "environment"),
    [
        ({}, "LightningEnvironment"),
        (ONE, "LightningEnvironment"),
        (ONE | {"SLURM_JOB_NAME": "submitit"}, "LightningEnvironment"),
        (TWO, "LightningEnvironment"),
        (TWO | {"SLURM_JOB_NAME": "interactive"}, "LightningEnvironment"),
        (TWO | {"SLURM_NTASKS_PER_NODE": "2"}, "LightningEnvironment"),
        (SHELL, "LightningEnvironment"),
        (SALLOC, "LightningEnvironment"),
        (STEP | TORCHRUN, "TorchElasticEnvironment"),
        (STEP, "StepEnvironment"),
        (STEP | {"SLURM_JOB_NAME": "interactive"}, "StepEnvironment"),
        (STEP | {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NTASKS": "8"}, "StepEnvironment"),
    ],
)
def test_the_tasks_of_a_step_are_processes_and_those_of_a_job_are_not(
    variables, given: dict[str, str], environment: str
):
    variables(given)
    trainer = trainer_of(2, plugins=slurm_environment())
    chosen = trainer._accelerator_connector.cluster_environment
    assert type(chosen).__name__ == environment
    assert trainer.world_size == 2
    assert not getattr(chosen, "auto_requeue", False)
    check_processes(trainer)


STATUS = {"17677/status": "Name:\tbash\nPPid:\t17673\n"}
GROUP = "0::/system.slice/slurmstepd.scope/job_1/step_"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (STATUS | {"17673/cmdline": "slurmstepd: [3.batch]"}, False),
        (STATUS | {"17673/cmdline": "slurmstepd: [3.0]"}, True),
        ({"self/cgroup": "6:freezer:/slurm_vm/uid_0/job_1/step_batch\n"}, False),
        ({"self/cgroup": f"{GROUP}batch/user/task_0\n"}, False),
        ({"self/cgroup": f"{GROUP}0/user/task_0\n"}, True),
        ({}, True),
    ],
)
def test_a_batch_script_that_was_submitted_in_a_step_is_no_step(
    variables, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: bool
):
    variables(STEP | {"SLURM_TASK_PID": "17677"})  # of the step, but for the last
    monkeypatch.setattr(step, "_read", lambda path: files.get(str(path.relative_to("/proc")), ""))
    assert started_by_srun() == expected


def test_steps_of_a_job_meet_in_places_of_their_own(variables):
    variables(NODES)
    environment = StepEnvironment()
    assert (environment.main_address, environment.main_port) == ("vm3", 15077)
    variables(STEP | {"SLURM_STEP_ID": "1"})
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name)
    assert (environment.main_address, environment.main_port) == ("127.0.0.1", 15178)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("given", "devices", "nodes", "says"),
    [
        (TORCHRUN, 1, 1, "torchrun has started 2 processes, not the requested 1 on each of 1: set"),
        (TORCHRUN, 3, 1, "torchrun has started 2 processes, not the requested 3"),
        (STEP, 1, 1, "srun has started 2 processes, not the requested 1 on each of 1: set"),
        (STEP, 4, 1, "srun has started 2 processes"),
        (
            NODES,
            2,
            1,
            r"srun has started 2 processes \(1, 1 on its nodes\), not the requested 2",
        ),
        (TWO, 2, 2, "nothing has started the processes of the other 1 nodes: start the command wi"),
        ({}, 2, 3, "the other 2 nodes: start the command with srun --nodes=3 --ntasks-per-node=2"),
        (TORCHRUN, 2, 1, None),
        (STEP, 2, 1, None),
        (NODES, 1, 2, None),
        (TWO, 1, 1, None),
        (TWO, 4, 1, None),
        ({"NODE_RANK": "1"}, 2, 2, None),
    ],
)
def test_as_many_processes_as_were_asked_for(
    variables, given: dict[str, str], devices: int, nodes: int, says: str | None
):
    variables(given)
    trainer = SimpleNamespace(num_devices=devices, num_nodes=nodes)
    if says is None:
        check_processes(trainer)
    else:
        with pytest.raises(TokdError, match=says):
            check_processes(trainer)


def test_statistics_are_shared_by_what_keeps_activations():
    trainer = trainer_of(2, sync_batchnorm=True, plugins=plugins(None, synced=True))
    assert type(trainer._accelerator_connector._layer_sync) is SyncedBatchNorm
    assert trainer_of(2, plugins=plugins(None))._accelerator_connector._layer_sync is None


def test_a_process_that_fails_ends_those_it_has_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        watched = [waiting]
        end_others(
            SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=watched)))
        )
        assert waiting.wait(10) == -9
        assert watched == []  # Lightning's observer would kill this process for theirs
    end_others(trainer_of(1))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_speaks_for_all(monkeypatch: pytest.MonkeyPatch, rank: int):
    monkeypatch.setattr(rank_zero.rank_zero_only, "rank", rank, raising=False)
    lost = RuntimeError("[/a/gloo/transport/tcp/pair.cc:5] Connection closed by peer [127.0.0.1]")
    for error, first, other in (
        (AlikeError("not finite"), AlikeError, None),
        (lost, TokdError, SystemExit),
        (RuntimeError("of another kind"), RuntimeError, RuntimeError),
        (TokdError("of this process"), TokdError, TokdError),
    ):
        expected = (first, other)[rank]
        if expected is None:
            with said_once():
                raise error
            continue
        with pytest.raises(expected), said_once():
            raise error


def test_what_sigterm_has_stopped_has_not_succeeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def stopped(args: list[str], learner: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr(training, "TokdCLI", stopped)
    assert main(["test", "--config", "any.yaml"]) == 130
    assert capsys.readouterr().err == "tokd: interrupted\n"
