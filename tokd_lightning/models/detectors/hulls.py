"""Convex hulls of landmarks and Gaussian blurs, for batches on the device."""

import torch
from torch import Tensor
from torch.nn import functional

ORGANS = {
    "right eye": slice(36, 42),
    "left eye": slice(42, 48),
    "nose": slice(27, 36),
    "mouth": slice(48, 68),
}
"""Points of each organ in iBUG's order of 68."""
_TOLERANCE = 1e-4  # px^2, of cross products


def filled_hulls(points: Tensor, size: int) -> Tensor:
    """Return the convex hulls of points as masks: 1 for pixel centres inside, edges included.

    A pixel is inside if it is on the inner side of every edge; an edge is a pair of points with all
    others on one side. Points that all lie on one line have no inside.

    Args:
        points: x and y in pixels, pixel centres at whole numbers, ``(B, N, 2)``.
        size: Side of the masks in pixels.

    Returns:
        ``(B, size, size)``, float32.
    """
    points = points.double()
    masks = [_filled(one, size) for one in points]
    return torch.stack(masks).float() if masks else points.new_zeros(0, size, size).float()


def _filled(points: Tensor, size: int) -> Tensor:
    steps = points[None] - points[:, None]  # from i to j
    x, y = steps.unbind(dim=-1)
    # Cross product of i -> j with i -> k: positive if k is on the left.
    sides = x[:, :, None] * y[:, None, :] - y[:, :, None] * x[:, None, :]
    apart = steps.abs().amax(dim=-1) > 0
    edge = apart & (sides >= -_TOLERANCE).all(dim=-1) & (sides > _TOLERANCE).any(dim=-1)
    start, end = edge.nonzero(as_tuple=True)
    if not len(start):
        return points.new_zeros(size, size)
    direction, origin = steps[start, end], points[start]
    at = torch.arange(size, dtype=points.dtype, device=points.device)
    # x and y parts of the cross product, so that (edges, size, size) is a single sum
    across = direction[:, 0, None] * (at - origin[:, 1, None])
    along = direction[:, 1, None] * (at - origin[:, 0, None])
    return ((across[:, :, None] - along[:, None, :]) >= -_TOLERANCE).all(dim=0).to(points.dtype)


def gaussian_blur(images: Tensor, kernel: int, sigma: float) -> Tensor:
    """Blur images by a Gaussian whose weights sum to 1; borders repeat the last pixel.

    Args:
        images: ``(B, C, H, W)``.
        kernel: Odd number of weights per axis.
        sigma: Standard deviation in pixels.
    """
    half = kernel // 2
    steps = torch.arange(-half, half + 1, dtype=torch.float64)
    weights = (-steps.square() / (2 * sigma**2)).exp()
    weights = (weights / weights.sum()).to(images)
    channels = images.shape[1]
    padded = functional.pad(images, (half, half, half, half), mode="replicate")
    rows = functional.conv2d(
        padded, weights.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels
    )
    return functional.conv2d(
        rows, weights.reshape(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels
    )
