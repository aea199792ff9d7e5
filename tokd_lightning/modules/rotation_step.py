"""Helpers of a training step: optimizers, ranks, loss scale, rotations."""

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
from tokd_lightning.lightning_internals import logs_after_this_batch, removes_loss_scale


def optimizer_of(
    make: Callable[[Iterable[Any]], Optimizer],
    parameters: Iterable[Any],
    name: str = "optimizer",
    resumed: bool | None = None,
) -> Optimizer:
    """Build an optimizer; torch's Adam is fused on a GPU, unless its options say otherwise.

    Args:
        make: Factory of the optimizer.
        parameters: Given to it.
        name: Its option, for messages.
        resumed: As for :func:`fuses`.

    Raises:
        TokdError: It refuses its arguments, computes the loss several times in a step, or requires
            sparse gradients.
    """
    parameters = list(parameters)
    try:
        made = make(parameters)
        if fuses(made, resumed):
            made = cast(Any, make)(parameters, fused=True)
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


def fuses(optimizer: Optimizer, resumed: bool | None) -> bool:
    """Return whether torch's Adam moves all weights in one kernel, where its options are silent.

    Args:
        optimizer: An optimizer.
        resumed: Whether the run that is resumed does so, which goes on as it began; None for a new
            run, which does on a GPU.
    """
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return False
    options = optimizer.defaults
    silent = options["fused"] is None and options["foreach"] is None
    if not silent or options["capturable"] or options["differentiable"]:
        return False
    return all_on_gpu(optimizer) if resumed is None else resumed


def all_on_gpu(optimizer: Optimizer) -> bool:
    """Return whether all parameters of an optimizer are on a CUDA device."""
    return all(p.is_cuda for group in optimizer.param_groups for p in group["params"])


def scheduler_of(
    make: Callable[[Optimizer], LRScheduler],
    optimizer: Optimizer,
    length: Callable[[], float],
    name: str,
) -> LRScheduler:
    """Build a scheduler; if it needs ``total_steps``, for the whole run.

    Raises:
        TokdError: It refuses its arguments, or the run has no fixed length.
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
    """Clip the gradient to a norm before the step, after removing any loss scale.

    Fused optimizers remove the loss scale themselves, but later, so Lightning refuses to clip for
    them. For these the scaler removes it here and informs the optimizer.

    Args:
        module: Module in training.
        optimizer: Optimizer that is about to step.
        norm: Maximum norm.
    """
    if not removes_loss_scale(optimizer):
        module.clip_gradients(optimizer, norm, "norm")
        return
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    if scaler is not None:
        scaler.unscale_(optimizer)
    clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], norm)


def without_sync(trainer: pl.Trainer, more: bool) -> AbstractContextManager[Any]:
    """Skip gradient synchronisation over ranks in all but the last part of a batch.

    Args:
        trainer: The trainer.
        more: Whether more parts of the batch follow.
    """
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return block() if more and block is not None else nullcontext()


def loss_scale(trainer: pl.Trainer) -> float:
    """Return the fp16 loss scale, which falls when a step is skipped; 1 without a scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def rotate(
    module: pl.LightningModule, distiller: Distiller, optimizers: list[Any], skipped: bool
) -> None:
    """Update R_r and R_f by Eq. 16, in step with the student on all ranks, and log the conflict.

    Logged values are computed only for batches with a log row.

    Args:
        module: Module that logs.
        distiller: Has recorded the gradients of all backward passes since the last step.
        optimizers: The student's and, if rotations are learned, theirs.
        skipped: Whether the student's step was skipped.
    """
    gradients = distiller.take_gradients()
    if gradients is None:
        return
    shown = logs_after_this_batch(module.trainer)
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


def _of_all_processes(rows: Tensor, trainer: pl.Trainer) -> Tensor:
    if trainer.world_size == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(trainer.world_size)]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
