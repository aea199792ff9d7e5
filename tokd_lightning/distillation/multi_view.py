"""Multi-view attention distillation, the second of ADD's two losses."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tokd_lightning.distillation.distance import SHORTEST, widened


class MultiView(NamedTuple):
    """The two parts of the multi-view loss, each a mean over the views.

    Attributes:
        histogram: Squared L2 between student's and teacher's histograms, mean over the batch.
        contrastive: Like classes together, unlike ones apart; 0 for a batch of one class.
    """

    histogram: Tensor
    contrastive: Tensor


def multi_view(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    directions: Tensor,
    margin: float = 0.012,
    contrast: bool = True,
) -> MultiView:
    r"""Compare how two maps spread over the coordinates (c, h, w), seen from several directions.

    A map becomes a distribution, :math:`a = A^2 / \|A\|^2`. A view projects the coordinates, each
    axis scaled to [-1, 1], on a direction, and cuts the range of the projection into C / 2 slabs of
    equal width: the masses in the slabs are the view's histogram h. The first part is
    :math:`\|h_S - h_T\|^2`. The second, over all pairs of samples i and j, is

    .. math:: \frac{1}{B} \sum_i \Big( \operatorname*{mean}_{y_j = y_i} D_{ij} +
        \operatorname*{mean}_{y_j \ne y_i} \max(0, \Delta - D_{ij}) \Big), \qquad
        D_{ij} = \|h_{S,i} - h_{T,j}\|^2

    plus the same with student and teacher exchanged. The released code draws one random partner of
    each kind per sample; this is the mean over the draws. It also leaves the elements in memory
    order where it means to sort them by their projection, so that all its views cut the same
    vector; here they do project.

    Binh M. Le and Simon S. Woo, "ADD: Frequency Attention and Multi-View based Knowledge
    Distillation to Detect Low-Quality Compressed Deepfake Images", AAAI 2022.

    Args:
        student: A_S, ``(B, C, H, W)``; computed in at least float32. A map shorter than 1e-3 is
            divided by the square of that instead, so that zeros stay zeros.
        teacher: A_T, of the same shape.
        labels: Class numbers, ``(B,)``; pairs are those of this batch.
        directions: Unit vectors, one view each, ``(V, 3)``, as of :func:`draw_directions`.
        margin: Delta, the squared distance from which on unlike samples are left alone.
        contrast: False leaves the second part out; it is 0 then.

    Raises:
        ValueError: Maps of different shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the maps have different shapes: {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    ours, theirs = widened(student, teacher)
    with torch.autocast(ours.device.type, enabled=False):
        directions = directions.to(ours, non_blocking=True)
        slabs, count = assign(ours.shape[1:], directions), slab_count(ours.shape[1])
        goal = spread(theirs)
        gap = spread(ours) - goal  # binned once: its histogram is the histograms' difference
        if not contrast:
            distance = histograms(gap, slabs, count).square().sum(-1).mean()
            return MultiView(distance, distance.new_zeros(()))
        gap, wanted = histograms(torch.cat((gap, goal)), slabs, count).chunk(2, dim=1)
        distance = gap.square().sum(-1).mean()
        same = labels[:, None] == labels
        contrastive = _contrastive(wanted.detach() + gap, wanted.detach(), same, margin)
        return MultiView(distance, contrastive * (~same).any())


def draw_directions(views: int, seed: int, step: int) -> Tensor:
    """Draw directions uniformly on the sphere, float64 ``(views, 3)``, always alike for a step.

    Args:
        views: Number of directions.
        seed: Seed of the whole training.
        step: Number of the step.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    drawn = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return drawn / lengths


def spread(maps: Tensor) -> Tensor:
    """Return A^2 / |A|^2 per sample, ``(B, C * H * W)`` in the order C, H, W; it sums to 1."""
    squares = maps.flatten(1).square()
    return squares / squares.sum(1, keepdim=True).clamp_min(SHORTEST**2)


def slab_count(channels: int) -> int:
    """Return C / 2, at least 1."""
    return max(channels // 2, 1)


def assign(shape: torch.Size, directions: Tensor) -> Tensor:
    """Return the slab of every coordinate in every view, int64 ``(V, C * H * W)``.

    The C / 2 slabs are of equal width between the smallest and the largest
    projection; the largest belongs to the last.

    Args:
        shape: ``(C, H, W)`` of the map.
        directions: ``(V, 3)``, along c, h and w.
    """
    views, count = len(directions), slab_count(shape[0])
    projected = directions.new_zeros(views, 1, 1, 1)
    reach = directions.new_zeros(views)
    for axis, size in enumerate(shape):
        if size > 1:  # the only coordinate of an axis shifts all projections alike
            line = torch.linspace(-1, 1, size, dtype=directions.dtype, device=directions.device)
            along = directions[:, axis, None] * line
            projected = projected + along.view(views, *(-1 if i == axis else 1 for i in range(3)))
            reach = reach + directions[:, axis].abs()
    reach = torch.where(reach > 0, reach, 1)
    slab = ((projected.flatten(1) / reach[:, None] + 1) * (count / 2)).long()
    return slab.clamp_(0, count - 1)


def histograms(masses: Tensor, slabs: Tensor, count: int) -> Tensor:
    """Sum masses by slab, linearly: ``(B, M)`` and ``(V, M)`` to ``(V, B, count)``.

    Args:
        masses: What lies at each coordinate, of either sign.
        slabs: As of :func:`assign`.
        count: Number of slabs.
    """
    binned: Tensor = _Binning.apply(masses, slabs, count)
    return binned


class _Binning(torch.autograd.Function):
    """Sums by slab. Both ways only gather, so that the result is the same in every run."""

    @staticmethod
    def forward(ctx: Any, masses: Tensor, slabs: Tensor, count: int) -> Tensor:
        views = len(slabs)
        bins = slabs + count * torch.arange(views, device=slabs.device)[:, None]
        ctx.save_for_backward(bins)
        order = _order(slabs)
        starts = _starts(slabs.gather(1, order), count)
        binned = functional.embedding_bag(
            order.flatten(), masses.T.contiguous(), starts, mode="sum"
        )
        return binned.view(views, count, len(masses)).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (bins,) = ctx.saved_tensors
        table = gradient.transpose(1, 2).flatten(0, 1).contiguous()
        return functional.embedding_bag(bins.T.contiguous(), table, mode="sum").T, None, None


def _order(slabs: Tensor) -> Tensor:
    """Return the places of each view from the first slab to the last, int64 ``(V, M)``."""
    if slabs.device.type == "cpu":  # NumPy sorts short integers ten times faster
        narrow = slabs.to(torch.int16) if int(slabs.max()) < 2**15 else slabs
        return torch.from_numpy(narrow.numpy().argsort(axis=1, kind="stable"))
    return slabs.argsort(dim=1, stable=True)


def _starts(ordered: Tensor, count: int) -> Tensor:
    """Return where each slab of each view begins in ``ordered``, int64 ``(V * count,)``.

    Searching, unlike counting, does not make the host wait for the device.
    """
    views, places = ordered.shape
    slabs = torch.arange(count, device=ordered.device).expand(views, -1).contiguous()
    within = torch.searchsorted(ordered, slabs)
    return (within + places * torch.arange(views, device=ordered.device)[:, None]).flatten()


def _contrastive(ours: Tensor, theirs: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return the contrastive part from histograms ``(V, B, K)`` and ``same``, ``(B, B)``."""
    lengths = ours.square().sum(2)[:, :, None] + theirs.square().sum(2)[:, None]
    apart = (lengths - 2 * ours @ theirs.transpose(1, 2)).flatten(1)
    alike, unlike = same.to(apart), (~same).to(apart)
    return (apart @ _shares(alike) + (margin - apart).relu() @ _shares(unlike)).mean()


def _shares(chosen: Tensor) -> Tensor:
    """Return the weights ``(B * B,)`` of a mean over rows of means over the chosen in each.

    Rows and columns are both taken as rows once, and the results added.
    """
    shares = chosen / chosen.sum(1, keepdim=True).clamp_min(1) / len(chosen)
    return (shares + shares.T).flatten()
