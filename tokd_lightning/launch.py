"""Which processes one run consists of, and how they end together."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.accelerators.cpu import CPUAccelerator
from lightning.pytorch.cli import LightningCLI

from tokd_lightning.errors import AlikeError, Terminated, TokdError
from tokd_lightning.loggers import is_rank_zero
from tokd_lightning.modules.batchnorm import SyncedBatchNorm
from tokd_lightning.modules.checkpoint import AtomicCheckpointIO
from tokd_lightning.step import StepEnvironment, started_by_srun, tasks_per_node

# What gloo and NCCL say where the process at the other end is no more.
_LOST = re.compile(r"Connection (closed|reset) by peer|Broken pipe|remote process exited")


class LaunchingCLI(LightningCLI):
    """A LightningCLI whose processes are those that were asked for, and end together."""

    def _instantiate_trainer(
        self, config: dict[str, Any], callbacks: list[pl.Callback]
    ) -> pl.Trainer:
        synced = bool(config.get("sync_batchnorm"))
        config = {**config, "plugins": plugins(config.get("plugins"), synced)}
        try:
            trainer = super()._instantiate_trainer(config, callbacks)
        except ValueError as error:  # of options that exclude each other
            raise TokdError(str(error).splitlines()[0]) from error
        if synced and self.subcommand == "fit" and isinstance(trainer.accelerator, CPUAccelerator):
            raise TokdError(
                "--trainer.sync_batchnorm needs GPUs, torch has none of it for CPUs: leave it out"
            )
        check_processes(trainer)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except Terminated:  # as all the others
            raise
        except Exception:
            end_others(self.trainer)
            raise


def plugins(asked: Any, synced: bool = False) -> list[Any]:
    """Return the trainer's plugins: those asked for, else the environment; atomic checkpoints.

    Args:
        asked: ``--trainer.plugins``, one or several or None.
        synced: Whether BatchNorm's statistics are those of all processes.
    """
    given = asked if isinstance(asked, list) else [] if asked is None else [asked]
    environment = None if given else slurm_environment()
    ours = [AtomicCheckpointIO(), *([SyncedBatchNorm()] if synced else [])]
    return [*given, *([] if environment is None else [environment]), *ours]


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse another number of processes than torchrun or srun has started.

    Where one device is asked for, each of them would train the same run alone; where processes of
    another node are missing, this one would wait for them.

    Raises:
        TokdError: It is another.
    """
    devices, nodes = trainer.num_devices, trainer.num_nodes
    asked = f"{devices} on each of {nodes}"
    advice = (
        "set --trainer.devices and --trainer.num_nodes to what it starts on a node, and to the "
        "number of nodes"
    )
    if TorchElasticEnvironment.detect():
        if (started := int(os.environ["WORLD_SIZE"])) != devices * nodes:
            raise TokdError(
                f"torchrun has started {started} processes, which are not {asked}: {advice}"
            )
    elif isinstance(slurm_environment(), StepEnvironment):
        placed = tasks_per_node()
        if placed != [devices] * nodes:
            where = f" ({', '.join(map(str, placed))} on its nodes)" if len(placed) > 1 else ""
            raise TokdError(
                f"srun has started {sum(placed)} processes{where}, which are not {asked}: {advice}"
            )
    elif nodes > 1 and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
        raise TokdError(
            f"nothing has started the processes of the other {nodes - 1} nodes: start the command "
            f"with srun --nodes={nodes} --ntasks-per-node={devices}, or with torchrun on each node"
        )


def end_others(trainer: pl.Trainer) -> None:
    """Kill the processes that this one has started: without it they would wait for ever."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    others = list(started)
    started.clear()  # Lightning, which watches them, would kill this one for theirs
    for process in others:
        process.kill()


@contextmanager
def said_once() -> Iterator[None]:
    """Let the first process say what all end for, and the others end without a word.

    Raises:
        TokdError: On the first process, another one is lost.
    """
    try:
        yield
    except (AlikeError, Terminated):
        if is_rank_zero():  # what started the others would kill this one for their code
            raise
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        if not is_rank_zero():
            raise SystemExit(2) from None
        raise TokdError("another process of this run has ended, see what it said") from error


def slurm_environment() -> ClusterEnvironment | None:
    """Return what tells Lightning its processes in a SLURM job; None elsewhere, under torchrun too.

    The tasks of a step are the processes of one run. A batch script, a shell of ``salloc`` and a
    step of a single task start the processes of ``--trainer.devices`` themselves, however many
    tasks the job may start. Left alone, Lightning would go by the job's tasks and its name, and at
    SIGUSR1 it would put the job into the queue again and leave a checkpoint beside the experiments
    that the next fit, of whichever run, goes on from.
    """
    if TorchElasticEnvironment.detect() or not {"SLURM_JOB_ID", "SLURM_NTASKS"} & os.environ.keys():
        return None
    return StepEnvironment() if started_by_srun() else LightningEnvironment()
