"""Which processes one run consists of, on machines that SLURM hands out."""

import os
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from tokd_lightning.modules.checkpoint import AtomicCheckpointIO

_BY_HAND = {"bash", "interactive"}  # job names that Lightning takes for a shell


def plugins(asked: Any) -> list[Any]:
    """Return the trainer's plugins: those asked for, else the environment; atomic checkpoints.

    Args:
        asked: ``--trainer.plugins``, one or several or None.
    """
    given = asked if isinstance(asked, list) else [] if asked is None else [asked]
    environment = None if given else slurm_environment()
    return [*given, *([] if environment is None else [environment]), AtomicCheckpointIO()]


def slurm_environment() -> ClusterEnvironment | None:
    """Return what tells Lightning its processes in a SLURM job; None elsewhere, under torchrun too.

    A job of a single task starts the processes of ``--trainer.devices`` itself. Left alone,
    Lightning would train with one of them, because there is one task, and at SIGUSR1 it would put
    the job into the queue again and leave a checkpoint beside the experiments that the next fit,
    of whichever run, goes on from.
    """
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in _BY_HAND:
        return None
    if TorchElasticEnvironment.detect():
        return None
    if int(os.environ["SLURM_NTASKS"]) == 1:
        return LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False)
