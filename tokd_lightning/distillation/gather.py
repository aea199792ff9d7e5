"""The rows of all processes, for losses that look at a batch as a whole."""

from typing import Any

import torch
from torch import Tensor, distributed


class _Gathered(torch.autograd.Function):
    """All processes' rows; backwards, this process's share of what all of them would send back.

    Every process computes the same loss from the same rows. The gradients that they send to one
    process's rows are therefore alike and add up to ``processes`` times its own, and averaging the
    parameters' gradients over the processes, as data-parallel training does, takes that factor out.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rank, ctx.processes = distributed.get_rank(), distributed.get_world_size()
        parts = [torch.empty_like(rows) for _ in range(ctx.processes)]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        share: Tensor = gradient.chunk(ctx.processes)[ctx.rank] * ctx.processes
        return share


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks; a gradient flows back.

    Under data-parallel training, which averages gradients over the processes, a loss of the result
    gives the parameters the gradient that one process with the whole batch would give them. Every
    process must call this with as many rows, and compute the same loss from the result.

    Args:
        rows: ``(B, ...)``.

    Returns:
        ``(processes * B, ...)``; ``rows`` itself where there is one process.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return rows
    if distributed.get_world_size() == 1:
        return rows
    everyone: Tensor = _Gathered.apply(rows.contiguous())
    return everyone
