"""The processes of a run: start, check and shutdown."""

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
from tokd_lightning.lightning_internals import started_processes
from tokd_lightning.loggers.run import is_rank_zero
from tokd_lightning.modules.batchnorm import SyncedBatchNorm
from tokd_lightning.training.callbacks.resume import AtomicCheckpointIO
from tokd_lightning.training.slurm_step import StepEnvironment, started_by_srun, tasks_per_node

# Messages of gloo and NCCL when the process at the other end is gone.
_LOST = re.compile(r"Connection (closed|reset) by peer|Broken pipe|remote process exited")


class LaunchingCLI(LightningCLI):
    """LightningCLI that checks the number of processes and ends them together."""

    def _instantiate_trainer(
        self, config: dict[str, Any], callbacks: list[pl.Callback]
    ) -> pl.Trainer:
        synced = bool(config.get("sync_batchnorm"))
        config = {**config, "plugins": plugins(config.get("plugins"), synced)}
        try:
            trainer = super()._instantiate_trainer(config, callbacks)
        except ValueError as error:  # of mutually exclusive options
            raise TokdError(str(error).splitlines()[0]) from error
        if synced and self.subcommand == "fit" and isinstance(trainer.accelerator, CPUAccelerator):
            raise TokdError(
                "--trainer.sync_batchnorm needs GPUs, as torch does not support it on CPUs: leave "
                "it out"
            )
        check_processes(trainer)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except Terminated:  # end_others is not needed: every rank raises it
            raise
        except Exception:
            end_others(self.trainer)
            raise


def plugins(asked: Any, synced: bool = False) -> list[Any]:
    """Return the trainer's plugins: those given or else the environment, and atomic checkpoints.

    Args:
        asked: ``--trainer.plugins``: one, several or None.
        synced: Whether BatchNorm statistics are synchronised over all ranks.
    """
    given = asked if isinstance(asked, list) else [] if asked is None else [asked]
    environment = None if given else slurm_environment()
    ours = [AtomicCheckpointIO(), *([SyncedBatchNorm()] if synced else [])]
    return [*given, *([] if environment is None else [environment]), *ours]


def check_processes(trainer: pl.Trainer) -> None:
    """Check the number of processes against those torchrun or srun has started.

    With one device, each process would train the same run separately; with processes of another
    node missing, this one would wait for them.

    Raises:
        TokdError: The numbers differ.
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
                f"torchrun has started {started} processes, not the requested {asked}: {advice}"
            )
    elif isinstance(slurm_environment(), StepEnvironment):
        placed = tasks_per_node()
        if placed != [devices] * nodes:
            where = f" ({', '.join(map(str, placed))} on its nodes)" if len(placed) > 1 else ""
            raise TokdError(
                f"srun has started {sum(placed)} processes{where}, not the requested "
                f"{asked}: {advice}"
            )
    elif nodes > 1 and not {"NODE_RANK", "GROUP_RANK"} & os.environ.keys():
        raise TokdError(
            f"nothing has started the processes of the other {nodes - 1} nodes: start the command "
            f"with srun --nodes={nodes} --ntasks-per-node={devices}, or with torchrun on each node"
        )


def end_others(trainer: pl.Trainer) -> None:
    """Kill the processes started by this one: without it they would wait forever."""
    started = started_processes(trainer)
    others = list(started)
    started.clear()  # Lightning watches them and would kill this process when they end
    for process in others:
        process.kill()


@contextmanager
def said_once() -> Iterator[None]:
    """Report an error common to all ranks on rank zero only; the others exit silently.

    Raises:
        TokdError: On rank zero, if another rank is lost.
    """
    try:
        yield
    except (AlikeError, Terminated):
        if is_rank_zero():  # the launcher would kill rank zero because of the others' exit code
            raise
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        if not is_rank_zero():
            raise SystemExit(2) from None
        raise TokdError("another process of this run has ended, see what it said") from error


def slurm_environment() -> ClusterEnvironment | None:
    """Return Lightning's environment for a SLURM job; None elsewhere and under torchrun.

    The tasks of a step are the processes of one run. A batch script, a shell of ``salloc`` and a
    step with a single task start the processes of ``--trainer.devices`` themselves, however many
    tasks the job may start. By default Lightning would use the job's tasks and name, and at SIGUSR1
    it would requeue the job and leave a checkpoint next to the experiments, from which the next fit
    of any run would resume.
    """
    if TorchElasticEnvironment.detect() or not {"SLURM_JOB_ID", "SLURM_NTASKS"} & os.environ.keys():
        return None
    return StepEnvironment() if started_by_srun() else LightningEnvironment()
