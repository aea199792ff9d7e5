"""Gradient checkpointing: activations inside a block are recomputed in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokd_lightning.lightning_internals import is_batchnorm


def recomputed(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module whose activations are not kept but computed again in the backward pass.

    A module without children, such as an activation, has none inside, and is called as it is.
    Output and gradients equal those of a plain call bit for bit, dropout included, and BatchNorm
    statistics change once, not twice.

    Args:
        module: Module of one tensor.
        x: Its input.
    """
    if not torch.is_grad_enabled() or not any(True for _ in module.children()):
        return module(x)  # type: ignore[no-any-return]
    contexts = partial(_contexts, module)
    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]


def blocks_of(stage: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the modules of a stage in order, those of inner ``nn.Sequential`` in their place."""
    for module in stage.children():
        yield from module.children() if type(module) is nn.Sequential else (module,)


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _fixed_statistics(module)


@contextmanager
def _fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm alone, which the first pass has moved."""
    norms = [m for m in module.modules() if is_batchnorm(m) and m.training]
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
