"""Gradient checkpointing: activations inside a block are recomputed in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tokd_lightning.lightning_internals import is_batchnorm

_LISTS = (nn.Sequential, nn.ModuleList)


def blocks_in(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a part of a network in order, and the modules between them.

    Lists are descended into unless they are a chain of single layers, and so are stages, which have
    a list of blocks of one class.
    """
    children = [*module.children()]
    stacked = any(isinstance(child, _LISTS) and _alike(child) for child in children)
    listed = isinstance(module, _LISTS) and any(any(child.children()) for child in children)
    if listed or stacked:
        for child in children:
            yield from blocks_in(child)
    else:
        yield module


def _alike(blocks: nn.Module) -> bool:
    """Return whether a list has at least two children, all of one class that has parameters."""
    children = [*blocks.children()]
    classes = {type(child) for child in children}
    return len(children) > 1 and len(classes) == 1 and any(True for _ in children[0].parameters())


@contextmanager
def recomputing(module: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Keep no activations of the blocks in a module, but compute them again in the backward pass.

    Output and gradients equal those of plain calls bit for bit, dropout included, and BatchNorm
    statistics change once, not twice. Modules without children, such as an activation, are called
    as they are.

    Args:
        module: A stage or a block that is called inside the context.
        wanted: Whether to do so; without gradients nothing is kept anyway.
    """
    blocks = [block for block in blocks_in(module) if any(block.children())]
    if not wanted or not torch.is_grad_enabled():
        blocks = []
    try:
        for block in blocks:
            vars(block)["forward"] = partial(_recomputed, block, block.forward)
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def _recomputed(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    contexts = partial(_contexts, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _fixed_statistics(block)


@contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm, which the first pass has updated already."""
    norms = [m for m in block.modules() if is_batchnorm(m) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # without statistics, autograd would save fewer tensors than before
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.track_running_stats and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
