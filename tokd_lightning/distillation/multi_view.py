"""Multi-view attention distillation, the second of ADD's two losses."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tokd_lightning.distillation.distance import MIN_NORM, widened


class MultiView(NamedTuple):
    """The two parts of the multi-view loss, each a mean over the views.

    Attributes:
        histogram: Squared L2 between student's and teacher's histograms, mean over the batch.
        contrastive: Pulls samples of one class together, others apart; 0 for a batch of one class.
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
    r"""Compare the distributions of two maps over (c, h, w), seen from several directions.

    A map becomes a distribution, :math:`a = A^2 / \|A\|^2`. A view projects the coordinates, each
    axis scaled to [-1, 1], on a direction, and cuts the range of the projection into C / 2 slabs of
    equal width: the masses in the slabs are the view's histogram h. The first part is
    :math:`\|h_S - h_T\|^2`. The second, over all pairs of samples i and j, is

    .. math:: \frac{1}{B} \sum_i \Big( \operatorname*{mean}_{y_j = y_i} D_{ij} +
        \operatorname*{mean}_{y_j \ne y_i} \max(0, \Delta - D_{ij}) \Big), \qquad
        D_{ij} = \|h_{S,i} - h_{T,j}\|^2

    plus the same with student and teacher exchanged. The released code draws one random partner of
    each kind per sample; this is the mean over the draws. It also leaves the elements in memory
    order where it should sort them by their projection, so all its views cut the same vector;
    here they are projected.

    Binh M. Le and Simon S. Woo, "ADD: Frequency Attention and Multi-View based Knowledge
    Distillation to Detect Low-Quality Compressed Deepfake Images", AAAI 2022.

    Args:
        student: A_S, ``(B, C, H, W)``; computed in at least float32. For a map with a norm below
            1e-3, the squares are divided by 1e-6 instead, so zeros stay zeros.
        teacher: A_T, of the same shape; a constant: no gradient reaches it.
        labels: Class numbers, ``(B,)``; pairs are those of this batch.
        directions: Unit vectors, one per view, ``(V, 3)``, e.g. from :func:`draw_directions`.
        margin: Delta, the squared distance beyond which samples of different classes have no loss.
        contrast: False leaves the second part out and returns 0 for it.

    Raises:
        ValueError: Maps of different shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the maps have different shapes: {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    ours, theirs = widened(student, teacher)
    with torch.autocast(ours.device.type, enabled=False):
        found, wanted = histograms(ours, theirs.detach(), directions)
        gap = found - wanted
        distance = gap.square().sum(-1).mean()
        if not contrast:
            return MultiView(distance, distance.new_zeros(()))
        same = labels[:, None] == labels
        contrastive = _contrastive(found, wanted, same, margin)
        return MultiView(distance, contrastive * (~same).any())


def draw_directions(views: int, seed: int, step: int) -> Tensor:
    """Draw directions uniformly on the sphere, float64 ``(views, 3)``, the same for one step.

    Args:
        views: Number of directions.
        seed: Seed of the whole training.
        step: Number of the step.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
    drawn = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return drawn / lengths


def slab_count(channels: int) -> int:
    """Return C / 2, at least 1."""
    return max(channels // 2, 1)


def assign(
    shape: torch.Size,
    directions: Tensor,
    last: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Return the slab of every coordinate in every view, integers ``(C * H * W, V)``.

    The C / 2 slabs are of equal width between the smallest and the largest projection. A coordinate
    on the border of two slabs, up to rounding, belongs to the upper one; the largest belongs to the
    last.

    Args:
        shape: ``(C, H, W)`` of the map.
        directions: ``(V, 3)``, along c, h and w.
        last: Whether the coordinates are in the order H, W, C.
        device: Device of the result; None uses that of the directions.
    """
    count, lines = slab_count(shape[0]), []
    # A single coordinate on an axis shifts all projections equally: it is ignored.
    long = directions * directions.new_tensor([size > 1 for size in shape])
    reach = long.abs().sum(1)
    scaled = long * (count / 2 / torch.where(reach > 0, reach, 1))[:, None]
    scaled = scaled.to(device or scaled.device, non_blocking=True)
    for axis, size in enumerate(shape):
        line = torch.linspace(-1, 1, size, dtype=scaled.dtype, device=scaled.device)
        lines.append(line[:, None] * scaled[:, axis])
    centre = count * (0.5 + 4 * torch.finfo(scaled.dtype).eps)  # ties do not depend on rounding
    along, across = lines[0], (lines[1][:, None] + lines[2] + centre).flatten(0, 1)
    place = across[:, None] + along if last else along[:, None] + across
    narrow = torch.int16 if count < 2**15 else torch.int32
    return place.to(narrow).clamp_(0, count - 1).flatten(0, 1)


def histograms(student: Tensor, teacher: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masses A^2 / |A|^2 in the slabs of every view, ``(V, B, C / 2)`` each.

    Args:
        student: A_S, ``(B, C, H, W)``.
        teacher: A_T, of the same shape; a constant.
        directions: ``(V, 3)``.
    """
    found, wanted = _Histograms.apply(student, teacher, directions.to(student.dtype))
    return found, wanted


class _Histograms(torch.autograd.Function):
    """Both maps' histograms, and the gradient of the student's.

    The maps are read in memory order, and their masses form one table: a row per coordinate, a
    column per sample. Forward and backward only gather rows, so the result is the same in every
    run.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        (views, _), (samples, *shape) = directions.shape, student.shape
        ctx.last = _channels_last(student)
        slabs, count = (
            assign(torch.Size(shape), directions, ctx.last, student.device),
            slab_count(shape[0]),
        )
        masses = torch.cat([_flat(m, ctx.last) for m in (student, teacher)]).square_()
        length = masses.sum(1, keepdim=True)
        masses /= length.clamp_min(MIN_NORM**2)
        bins = slabs + count * torch.arange(views, dtype=torch.int32, device=slabs.device)
        order = _order(slabs)
        binned = functional.embedding_bag(
            order.flatten(), masses.T.contiguous(), _starts(slabs, order, count), mode="sum"
        )
        found, wanted = binned.view(views, count, -1).transpose(1, 2).tensor_split(2, dim=1)
        ctx.save_for_backward(student, length[:samples], bins)
        ctx.mark_non_differentiable(wanted)
        return found, wanted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        student, length, bins = ctx.saved_tensors
        maps, bound = _flat(student, ctx.last), length.clamp_min(MIN_NORM**2)
        heights = gradient.transpose(1, 2).flatten(0, 1).contiguous()
        moved = functional.embedding_bag(bins, heights, mode="sum").T.contiguous().mul_(maps)
        shared = (moved * maps).sum(1, keepdim=True) / bound * (length > MIN_NORM**2)
        moved.addcmul_(maps, shared, value=-1).mul_(2 / bound)
        if not ctx.last:
            return moved.view_as(student), None, None
        return moved.view_as(student.movedim(1, -1)).movedim(-1, 1), None, None


def _channels_last(maps: Tensor) -> bool:
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def _flat(maps: Tensor, last: bool) -> Tensor:
    return maps.movedim(1, -1).flatten(1) if last else maps.flatten(1)


def _order(slabs: Tensor) -> Tensor:
    """Return the positions of each view from the first slab to the last, int64 ``(V, M)``."""
    rows = slabs.T.contiguous()
    if rows.device.type == "cpu":  # NumPy sorts short integers ten times faster
        return torch.from_numpy(rows.numpy().argsort(axis=1, kind="stable"))
    return rows.argsort(dim=1, stable=True)


def _starts(slabs: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the start of each slab of each view in ``order``, int64 ``(V * count,)``.

    Searching, unlike counting, does not make the host wait for the device.
    """
    views, places = order.shape
    wanted = torch.arange(count, dtype=slabs.dtype, device=slabs.device).expand(views, -1)
    within = torch.searchsorted(slabs.T.contiguous(), wanted.contiguous(), sorter=order)
    return (within + places * torch.arange(views, device=order.device)[:, None]).flatten()


def _contrastive(ours: Tensor, theirs: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return the contrastive part from histograms ``(V, B, K)`` and ``same``, ``(B, B)``."""
    lengths = ours.square().sum(2)[:, :, None] + theirs.square().sum(2)[:, None]
    apart = (lengths - 2 * ours @ theirs.transpose(1, 2)).flatten(1)
    alike, unlike = same.to(apart), (~same).to(apart)
    return (apart @ _shares(alike) + (margin - apart).relu() @ _shares(unlike)).mean()


def _shares(chosen: Tensor) -> Tensor:
    """Return the weights ``(B * B,)`` of a mean over rows of means over each row's chosen entries.

    Computed once for rows and once for columns, and added.
    """
    shares = chosen / chosen.sum(1, keepdim=True).clamp_min(1) / len(chosen)
    return (shares + shares.T).flatten()
