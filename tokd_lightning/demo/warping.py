"""Smooth warps between point sets, used for every motion, expression and face swap of the demo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.points import Points

Image = NDArray[np.float32]
Map = NDArray[np.float32]
_STIFFNESS = 1e-4


def _kernel(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    return squared * np.log(squared + 1e-12)


def thin_plate_map(to: Points, read: Points, size: int, step: int = 4) -> Map:
    """Fit a thin-plate spline and return the input coordinates of each output pixel.

    Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations",
    TPAMI 1989. The spline is evaluated on a grid and interpolated in between.

    Args:
        to: Control points in the output, ``(P, 2)``, pixels.
        read: The input points that map to them, ``(P, 2)``, pixels.
        size: Side of the square output in pixels.
        step: Grid spacing in pixels; divides ``size`` or is rounded so that it does.

    Returns:
        Input coordinates (x, y) per output pixel, ``(size, size, 2)``, for :func:`resample`.
    """
    scale = 2.0 / size
    knots = to * scale - 1
    count = len(knots)
    system = np.zeros((count + 3, count + 3))
    difference = knots[:, None] - knots[None]
    system[:count, :count] = _kernel((difference**2).sum(-1)) + _STIFFNESS * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = knots
    system[count + 1 :, :count] = knots.T
    weights = np.linalg.solve(system, np.concatenate([read - to, np.zeros((3, 2))]))

    cells = max(2, size // step)
    ticks = (np.arange(cells) + 0.5) * 2 / cells - 1
    x, y = np.meshgrid(ticks, ticks)
    grid = np.stack([x.ravel(), y.ravel()], 1)
    squared = (grid**2).sum(1)[:, None] + (knots**2).sum(1) - 2 * grid @ knots.T
    bent = _kernel(np.maximum(squared, 0).astype(np.float32)) @ weights[:count]
    shift = bent + weights[count] + grid @ weights[count + 1 :]
    # Rounded far below visibility: the last bits may depend on the number of BLAS threads.
    shift = np.round(shift, 3).reshape(cells, cells, 2).astype(np.float32)
    fine = cv2.resize(shift, (size, size), interpolation=cv2.INTER_LINEAR)
    axis = np.arange(size, dtype=np.float32)
    fine[..., 0] += axis
    fine[..., 1] += axis[:, None]
    return np.asarray(fine, np.float32)


def resample(image: Image, where: Map, cubic: bool = False) -> Image:
    """Sample an image at a map's coordinates; it is mirrored beyond its border.

    Args:
        image: ``(H, W, 3)`` or ``(H, W)``.
        where: Coordinates (x, y), ``(h, w, 2)``.
        cubic: Whether to use cubic instead of linear interpolation.
    """
    method = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    x, y = where[..., 0], where[..., 1]
    read = cv2.remap(image, x, y, method, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(read, image.dtype)
