"""Canvas for procedural drawing: coordinates, soft edges, layers, noise and strands of hair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.float32]
_SUBPIXEL_BITS = 4


@dataclass
class Canvas:
    """A picture being painted; coordinates start at its centre, y down, a head is about 0.5 wide.

    Attributes:
        picture: RGB in 0..255, ``(size, size, 3)``.
        x: Horizontal coordinate of each pixel, ``(1, size)``.
        y: Vertical coordinate of each pixel, ``(size, 1)``.
        unit: Pixels per unit of the coordinates.
    """

    picture: Picture
    x: Plane
    y: Plane
    unit: float

    @classmethod
    def blank(cls, size: int, zoom: float = 1.0) -> Canvas:
        """Make a black square canvas of ``size`` pixels covering ``±1 / zoom`` units."""
        ticks = (((np.arange(size) + 0.5) * 2 / size - 1) / zoom).astype(np.float32)
        picture = np.zeros((size, size, 3), np.float32)
        return cls(picture, ticks[None], ticks[:, None], zoom * size / 2)

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.picture)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert canvas coordinates (x, y) to pixels, pixel centres at integers."""
        return np.asarray(points * self.unit + (self.size - 1) / 2)

    def inside(self, distance: ArrayLike, softness: float = 1.0) -> Plane:
        """Convert a signed distance (positive inside, canvas units) to coverage in ``[0, 1]``.

        Args:
            distance: Signed distance to an outline.
            softness: Width of the edge in pixels.
        """
        pixels = np.asarray(distance, np.float32) * self.unit
        return np.asarray(np.clip(pixels / softness + 0.5, 0, 1), np.float32)

    def blob(self, cx: float, cy: float, sx: float, sy: float) -> Plane:
        """Return a Gaussian bump of height 1."""
        return np.asarray(np.exp(-(((self.x - cx) / sx) ** 2) - ((self.y - cy) / sy) ** 2))

    def paint(self, colour: ArrayLike, cover: Plane) -> None:
        """Blend a colour, ``(3,)`` or one per pixel, into the picture with weight ``cover``."""
        self.picture += (np.asarray(colour, np.float32) - self.picture) * cover[..., None]

    def shade(self, factor: ArrayLike, cover: Plane) -> None:
        """Multiply the picture by a factor, scalar or per channel, with weight ``cover``."""
        self.picture *= 1 + (np.asarray(factor, np.float32) - 1) * cover[..., None]

    def strands(self, curves: Iterable[NDArray[np.float64]], width: float) -> Plane:
        """Draw thin curves, ``(P, 2)`` each, and return their coverage.

        Args:
            curves: Points of each curve in canvas units.
            width: Thickness in pixels of a 256-pixel canvas.
        """
        scale = 1 << _SUBPIXEL_BITS
        lines = [np.rint(self.pixels(curve) * scale).astype(np.int32) for curve in curves]
        cover = np.zeros(self.picture.shape[:2], np.uint8)
        thickness = max(1, round(width * self.size / 256))
        cv2.polylines(cover, lines, False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        return cover.astype(np.float32) * np.float32(1 / 255)


def cloud(rng: np.random.Generator, size: int, coarse: int, octaves: int = 3) -> Plane:
    """Sum noise of several scales, standard deviation about 1.

    Args:
        rng: Generator of the noise.
        size: Side of the result in pixels.
        coarse: Cells per side of the coarsest octave; each next one doubles it at half weight.
        octaves: Number of scales.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = min(coarse << octave, size)
        noise = rng.standard_normal((cells, cells), np.float32)
        total += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return total
