"""What stands behind the lines of a training step: optimizers, processes, loss scale, rotations."""

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tokd_lightning.distillation import Distiller, RotationOptimizer
from tokd_lightning.errors import TokdError


def optimizer_of(
    make: Callable[[Iterable[Any]], Optimizer],
    parameters: Iterable[Any],
    name: str = "optimizer",
) -> Optimizer:
    """Make an optimizer.

    Raises:
        TokdError: It refuses its arguments, computes the loss several times in a step, or wants
            sparse gradients.
    """
    try:
        made = make(parameters)
    except (ValueError, RuntimeError) as error:
        raise TokdError(f"--model.{name}: {str(error).splitlines()[0]}") from error
    closure = inspect.signature(made.step).parameters.get("closure")
    again = closure is not None and closure.default is closure.empty
    if again or isinstance(made, torch.optim.SparseAdam):
        why = "computes the loss several times in a step" if again else "wants sparse gradients"
        raise TokdError(
            f"--model.{name} {type(made).__name__} {why}, which is not supported: use Adam, AdamW "
            "or SGD"
        )
    return made


def scheduler_of(
    make: Callable[[Optimizer], LRScheduler],
    optimizer: Optimizer,
    length: Callable[[], float],
    name: str,
) -> LRScheduler:
    """Make a scheduler; where it has to know how many steps there are, for the whole run.

    Raises:
        TokdError: It refuses its arguments, or the run has no end.
    """
    try:
        try:
            return make(optimizer)
        except ValueError as error:
            if "total_steps" not in str(error):
                raise
        whole_run: LRScheduler = cast(Any, make)(optimizer, total_steps=int(length()))
        return whole_run
    except (ValueError, ArithmeticError) as error:
        raise TokdError(f"--model.{name}: {str(error).splitlines()[0]}") from error


def clip_gradient(module: pl.LightningModule, optimizer: Optimizer, norm: float) -> None:
    """Bring a longer gradient down to a norm, before the step and free of any loss scale.

    Fused optimizers take the loss scale out themselves, after this: Lightning refuses to clip for
    them. The scaler does it here then, and tells the optimizer so.

    Args:
        module: In training.
        optimizer: The one that is about to step.
        norm: The largest norm.
    """
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        module.clip_gradients(optimizer, norm, "norm")
        return
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    if scaler is not None:
        scaler.unscale_(optimizer)
    clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], norm)


def each_alone(trainer: pl.Trainer, alone: bool) -> AbstractContextManager[Any]:
    """Let a backward pass stay within its process: gradients are averaged in the last of a batch.

    Args:
        trainer: The trainer.
        alone: Whether there is more of the batch to come.
    """
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return block() if alone and block is not None else nullcontext()


def loss_scale(trainer: pl.Trainer) -> float:
    """Return the fp16 loss scale, which falls when a step is skipped; 1 without a scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def rotate(
    module: pl.LightningModule, distiller: Distiller, optimizers: list[Any], skipped: bool
) -> None:
    """Move R_r and R_f by Eq. 16, in step with the student on all processes, and log the conflict.

    What is logged is computed for the batches that a row is written after.

    Args:
        module: Logs.
        distiller: Has watched the backward passes since the last step, all of them together.
        optimizers: The student's, and the rotations' where they are learned.
        skipped: Whether the student has not moved.
    """
    gradients = distiller.take_gradients()
    if gradients is None:
        return
    shown = _are_logged(module.trainer)
    if shown:
        conflict = distiller.gradient_diagnostics(gradients)
        module.log_dict({f"gradient/{name}": value for name, value in conflict.items()})
    rotation = distiller.rotation
    if rotation is None or len(optimizers) == 1:
        return
    # The raw optimizer: Lightning would count its steps as batches and let the fp16 scaler
    # divide gradients that carry no loss scale.
    mover = cast(RotationOptimizer, optimizers[1].optimizer)
    if not skipped:
        v, g = rotation.rows(gradients, distiller.weights)
        g = _of_all_processes(g, module.trainer)
        pairs = [(_of_all_processes(v[branch], module.trainer), g) for branch in v]
        mover.step(rows=pairs)
    if shown:
        module.log("rotation/skipped", mover.skipped)
        module.log_dict({f"rotation/{name}": value for name, value in rotation.drift().items()})


def _are_logged(trainer: pl.Trainer) -> bool:
    """Tell whether a row is written after this batch: most are not, and some numbers are dear."""
    return trainer._logger_connector.should_update_logs


def _of_all_processes(rows: Tensor, trainer: pl.Trainer) -> Tensor:
    if trainer.world_size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(trainer.world_size)]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
