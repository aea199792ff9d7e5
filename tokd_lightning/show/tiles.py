"""One frame of a sheet: x as stored in the file, and its high frequencies x^F (Eq. 1)."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tokd_lightning.data.decode import load_frame
from tokd_lightning.frequency import high_pass

_LARGEST = 512


class Picture(NamedTuple):
    """A frame to draw: ``rgb`` uint8 and ``frequency`` float32, both ``(h, w, 3)``."""

    rgb: NDArray[np.uint8]
    frequency: NDArray[np.float32]


def read_picture(
    file: Path, tile: int, cutoff: float, prepare: Callable[[Tensor], Tensor] | None = None
) -> Picture:
    """Read a frame, compute x^F at its own size, at most 512 pixels, and resize both to a tile.

    Args:
        file: An image, or ``….npy#7`` for the record of a pack.
        tile: Longer side of both pictures in pixels.
        cutoff: See :func:`~tokd_lightning.frequency.high_pass`.
        prepare: Applied to the image ``(3, H, W)``, uint8, before anything else.

    Raises:
        ValueError: The frame cannot be read; the message is a short reason.
    """
    image = load_frame(file)
    if prepare is not None:
        image = prepare(image)
    x = _fit(image.float(), min(_LARGEST, max(image.shape[1:])))
    rgb = _fit(x, tile).round().clamp(0, 255).byte()
    frequency = _fit(high_pass(x[None], cutoff)[0], tile)
    return Picture(rgb.permute(1, 2, 0).numpy(), frequency.permute(1, 2, 0).numpy())


def _fit(image: Tensor, longer: int) -> Tensor:
    """Resize the longer side of ``(3, H, W)`` to a length, antialiased."""
    height, width = image.shape[1:]
    scale = longer / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == (height, width):
        return image
    return functional.interpolate(image[None], size, mode="bicubic", antialias=True)[0]
