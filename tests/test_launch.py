"""What Lightning makes of the variables that SLURM sets."""

import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
from lightning.fabric.utilities import rank_zero
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tokd_lightning import training
from tokd_lightning.cli import main
from tokd_lightning.errors import AlikeError, TokdError
from tokd_lightning.launch import (
    check_processes,
    end_others,
    plugins,
    said_once,
    slurm_environment,
)
from tokd_lightning.modules.batchnorm import SyncedBatchNorm

ONE = {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
FOUR = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
PLACE = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "77"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "environment", "world"),
    [
        ({}, "LightningEnvironment", 2),
        (ONE, "LightningEnvironment", 2),
        (ONE | {"SLURM_JOB_NAME": "submitit"}, "LightningEnvironment", 2),
        (FOUR | {"SLURM_JOB_NAME": "bash"}, "LightningEnvironment", 2),
        (ONE | TORCHRUN, "TorchElasticEnvironment", 2),
        (FOUR, "SLURMEnvironment", 4),
    ],
)
def test_a_job_of_one_task_starts_its_processes_itself(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], environment: str, world: int
):
    for name, value in (PLACE | variables).items() if variables else ():
        monkeypatch.setenv(name, value)
    devices = 4 if world == 4 else 2
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, logger=False, plugins=slurm_environment()
    )
    chosen = trainer._accelerator_connector.cluster_environment
    assert type(chosen).__name__ == environment
    assert trainer.world_size == world
    assert not getattr(chosen, "auto_requeue", False)


def trainer_of(devices: int, **options: object) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", devices=devices, logger=False, **options)


@pytest.mark.parametrize(
    ("variables", "devices", "says"),
    [
        (TORCHRUN, 1, "torchrun has started 2 processes, which are not 1 on each of 1: set"),
        (TORCHRUN, 3, "torchrun has started 2 processes, which are not 3"),
        (PLACE | FOUR, 1, "SLURM has started 4 processes, which are not 1"),
        (PLACE | FOUR, 2, "SLURM has started 4 processes"),
        (TORCHRUN, 2, None),
        (PLACE | FOUR, 4, None),
        (PLACE | ONE, 2, None),
        ({}, 2, None),
    ],
)
def test_as_many_processes_as_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], devices: int, says: str | None
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = trainer_of(devices, plugins=slurm_environment())
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
    def stopped(args: list[str]) -> None:
        raise SIGTERMException

    monkeypatch.setattr(training, "TokdCLI", stopped)
    assert main(["test", "--config", "any.yaml"]) == 130
    assert capsys.readouterr().err == "tokd: interrupted\n"
