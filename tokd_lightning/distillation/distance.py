"""The distance between condensed feature maps, Eq. 6 and 7."""

import torch
from torch import Tensor
from torch.nn import functional

MIN_NORM = 1e-3


def normalised(maps: Tensor) -> Tensor:
    """Return F / |F|_2 of Eq. 6 and 7 per sample, flattened.

    A map with a norm below 1e-3 is divided by 1e-3 instead: a map of zeros stays zero, and the
    gradient is bounded.

    Args:
        maps: ``(B, C, H, W)``.

    Returns:
        ``(B, C * H * W)``.
    """
    flat = maps.flatten(1)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / length.clamp_min(MIN_NORM)


def squared_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return D of Eq. 6 and 7: squared L2 per sample, mean over the batch, 0 to 4.

    Args:
        ours: Normalised maps, ``(B, M)``.
        theirs: Normalised maps, ``(B, M)``.
    """
    return (ours - theirs).square().sum(1).mean()


def batch_variance(units: Tensor) -> Tensor:
    """Return the variance over the batch of normalised maps, summed over their entries, detached.

    Args:
        units: Normalised maps, ``(B, M)``.

    Returns:
        A scalar: 0 if all samples are equal (collapse), 1 if they have nothing in common.
    """
    units = units.detach()
    return units.square().sum(1).mean() - units.mean(0).square().sum()


def on_one_grid(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps in at least float32, average-pooled to the smaller of their grids.

    Args:
        ours: ``(B, C, H, W)``.
        theirs: ``(B, C, H2, W2)``.
    """
    ours, theirs = widened(ours, theirs)
    height, width = (min(a, b) for a, b in zip(ours.shape[2:], theirs.shape[2:], strict=True))
    return _pooled(ours, height, width), _pooled(theirs, height, width)


def widened(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors in the wider of their dtypes, in at least float32."""
    wide = torch.promote_types(torch.promote_types(ours.dtype, theirs.dtype), torch.float32)
    return ours.to(wide), theirs.to(wide)


def unit_rows(rows: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return each row divided by its L2 norm plus ``epsilon``.

    A row shorter than a thousandth of the longest is divided by a thousandth of that length: it
    keeps its direction but has a norm below 1, and its gradient is at most a thousand times that of
    the longest, also for a zero row.

    Args:
        rows: ``(B, M)``.
        epsilon: Added to the norm.

    Returns:
        ``(B, M)``.
    """
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    shortest = (MIN_NORM * length.detach().amax()).clamp_min(1e-12)
    return rows / (torch.maximum(length, shortest) + epsilon)


def _pooled(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[2:] == (height, width):
        return maps
    return functional.adaptive_avg_pool2d(maps, (height, width))
