"""Gradients of the branches at the map they share, and their conflict, Sec. 4.2 and Fig. 4."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Conflict = Literal["none", "pcgrad"]
KEPT_PASSES = 64

logger = logging.getLogger("tokd_lightning")


class BranchGradients:
    """Records the gradient v^k that each branch sends to the map they share (Eq. 15).

    One backward pass of L_S is enough: every branch reads the map through a separate alias, and a
    hook stores its gradient. Passes (micro-batches) accumulate until :meth:`pop`.

    Args:
        branches: Names of the branches.
        resolve: Treatment of the gradients at the shared map: "none" adds them, "pcgrad" projects
            them first (:func:`project_conflict`). The stored gradients are those before projection.
    """

    def __init__(self, branches: Sequence[str], resolve: Conflict = "none") -> None:
        self.branches = tuple(branches)
        self.resolve = resolve
        self._kept: dict[str, list[Tensor]] = {branch: [] for branch in self.branches}

    def aliases(self, z: Tensor) -> dict[str, Tensor]:
        """Return an alias of ``z`` per branch, in at least float32, and record its gradient.

        Args:
            z: Map, ``(B, C, H, W)``.
        """
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        aliases: dict[str, Tensor]
        if self.resolve == "pcgrad":
            copies = _ProjectedSum.apply(wide, len(self.branches))
            aliases = dict(zip(self.branches, copies, strict=True))
        else:
            aliases = {branch: wide.view_as(wide) for branch in self.branches}
        for branch, alias in aliases.items():
            if alias.requires_grad:
                hook = partial(self._keep, branch)
                cast(Any, alias).register_hook(hook)  # untyped in some builds of torch
        return aliases

    def _keep(self, branch: str, gradient: Tensor) -> None:
        kept = self._kept[branch]
        if len(kept) == KEPT_PASSES:
            logger.warning(
                "dropped the gradients of %d backward passes that were not read: call "
                "take_gradients() after each optimizer step",
                KEPT_PASSES,
            )
            kept.clear()
        kept.append(gradient.detach())

    def pop(self) -> dict[str, Tensor] | None:
        """Return and clear each branch's gradients, ``(N, C * H * W)`` in NCHW order.

        Returns:
            None if no pass reached the branches, or the numbers of passes differ.
        """
        kept = {branch: list(passes) for branch, passes in self._kept.items()}
        for passes in self._kept.values():
            passes.clear()
        if {len(passes) for passes in kept.values()} != {len(kept[self.branches[0]]) or -1}:
            return None
        return {b: torch.cat([v.flatten(1) for v in passes]) for b, passes in kept.items()}


class _ProjectedSum(torch.autograd.Function):
    """Passes a map to several branches; backward projects their gradients before the sum."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, branches: int) -> tuple[Tensor, ...]:
        return tuple(z.view_as(z) for _ in range(branches))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.stack(project_conflict(gradients)).sum(0), None


def project_conflict(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Remove from each gradient its conflicting part along the others (PCGrad), per sample.

    If two gradients of a sample have a negative cosine, each loses its part along the other. With
    two branches the order does not matter; with more, each is projected on the others in the given
    order. The result for a sample does not depend on its batch, so data-parallel training agrees
    with a single process, and it scales with the loss, so it commutes with an fp16 loss scale.

    Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020: there for the gradients of
    all shared parameters, here for those of the map that the branches share.

    Args:
        gradients: One per branch, of equal shape ``(N, ...)``, including the losses' weights.

    Returns:
        The projected gradients, of the same shape.
    """
    rows = [g.flatten(1) for g in gradients]
    units = [polar(row)[0] for row in rows]
    projected = []
    for number, row in enumerate(rows):
        for other, unit in enumerate(units):
            if other != number:
                along = (row * unit).sum(1, keepdim=True)
                row = row - along.clamp(max=0) * unit
        projected.append(row.view(gradients[number].shape))
    return projected


def polar(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row normalised to length 1, and its length.

    No square of an entry under- or overflows, whatever the scale of the rows. Zero rows stay zero;
    rows with a non-finite entry keep one.

    Args:
        rows: ``(N, M)``, floating point.

    Returns:
        ``(N, M)`` and ``(N,)``.
    """
    peak: Tensor = torch.linalg.vector_norm(rows, float("inf"), dim=1, keepdim=True)
    scaled = rows / torch.where(peak == 0, 1, peak)
    length: Tensor = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled.div_(length.clamp_min(1e-30)), (peak * length).squeeze(1)


def conflict(
    v: Mapping[str, tuple[Tensor, Tensor]], scale: Mapping[str, float]
) -> dict[str, Tensor]:
    """Return the conflict of two branches' gradients at the map they share (Fig. 4).

    Args:
        v: Branch -> its gradients as returned by :func:`polar`, for two branches.
        scale: Branch -> weight of its loss, divided out.

    Returns:
        Detached scalars: ``cosine_full_before`` and ``cosine_full_after``, cos(v^r, v^f) averaged
        over the samples (equal, as nothing is rotated here), and ``norm_ratio``, mean |v^r| / mean
        |v^f|.
    """
    first, second = v
    cosine = (v[first][0] * v[second][0]).sum(1).mean()
    norms = [v[branch][1].mean() / scale[branch] for branch in (first, second)]
    return {
        "cosine_full_before": cosine,
        "cosine_full_after": cosine,
        "norm_ratio": norms[0] / norms[1].clamp_min(torch.finfo(norms[1].dtype).tiny),
    }
