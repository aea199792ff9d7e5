"""Gathering of rows over all ranks, for losses that compare the samples of a batch."""

from typing import Any

import torch
from torch import Tensor, distributed


class _Gathered(torch.autograd.Function):
    """Rows of all ranks; backward returns this rank's part of the gradient.

    Every rank computes the same loss from the same rows. The gradients that all ranks send to one
    rank's rows are therefore equal and sum to the world size times its own, and averaging the
    parameters' gradients over ranks, as data-parallel training does, removes that factor.
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
    """Return the rows of all ranks, in rank order, differentiably.

    Under data-parallel training, which averages gradients over ranks, a loss of the result gives
    the parameters the same gradient as a single process with the whole batch. Every rank must call
    this with the same number of rows, and compute the same loss from the result.

    Args:
        rows: ``(B, ...)``.

    Returns:
        ``(world size * B, ...)``; ``rows`` itself with a single process.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return rows
    if distributed.get_world_size() == 1:
        return rows
    everyone: Tensor = _Gathered.apply(rows.contiguous())
    return everyone
