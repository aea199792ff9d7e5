"""What Lightning makes of the variables that SLURM sets."""

import lightning.pytorch as pl
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tokd_lightning import training
from tokd_lightning.cli import main
from tokd_lightning.launch import slurm_environment

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


def test_what_sigterm_has_stopped_has_not_succeeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def stopped(args: list[str]) -> None:
        raise SIGTERMException

    monkeypatch.setattr(training, "TokdCLI", stopped)
    assert main(["test", "--config", "any.yaml"]) == 130
    assert capsys.readouterr().err == "tokd: interrupted\n"
