"""Blended images (BI): the face of another video's frame blended into a frame."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.colour import Image, blend, jpeg, match_colours, through
from tokd_lightning.data.blending.forger import Face, Forged, Forger
from tokd_lightning.data.blending.masks import (
    KINDS,
    Feather,
    HullKind,
    Mask,
    bounding_box,
    erode_or_dilate,
    feather,
    hull,
    with_forehead,
)
from tokd_lightning.data.blending.points import Points, scaled

_REFERENCE = 256  # px, the side for which widths are published
_GRID = 4


class Draws(NamedTuple):
    """Everything random about one sample.

    Attributes:
        side: Side in pixels at which the faces are blended.
        kind: Hull of the mask.
        bends: Displacement of the mask's ``(4, 4)`` knots, x and y, in units of the side.
        grow: Pixels by which the mask is dilated, or eroded if negative, at a side of 256.
        coarse: Side in pixels through which the finished sample is resized; None for no resizing.
        quality: JPEG quality of the finished sample; None for no JPEG.
    """

    side: int
    kind: HullKind
    bends: NDArray[np.float32]
    grow: int
    coarse: int | None
    quality: int | None


class BI(Forger):
    """Blended images, Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020.

    The foreground is the frame of another video with the most similar points. The mask is a hull of
    the background's points, bent, eroded or dilated, and feathered; the foreground's mean colour is
    moved to the background's. The real counterpart is the background with the same resizing and
    compression.

    Choices where the paper leaves one: the foreground is moved onto the background's points by a
    similarity (``align``); the mask is bent by a smooth grid of 4 x 4 knots, not piecewise,
    less (published: 0.15), and stays on the face; sizes published for 256 px grow with the side.

    Args:
        hulls: Kinds of hulls to draw from, see :func:`~.masks.hull`.
        nearest: The foreground is drawn among this many nearest frames, of 5,000 drawn.
        align: Whether the foreground is moved onto the background's points.
        deviation: Whether the deviation of the colours is matched too.
        distance: How the soft edge is measured, see :func:`~.masks.feather`.
        compress: Share of the samples that are compressed as JPEG, quality 60 to 100.
        strength: Largest deviation of the mask's knots, in units of the side.
    """

    name = "bi"
    needs_donor = True

    def __init__(
        self,
        hulls: tuple[HullKind, ...] = KINDS,
        nearest: int = 1,
        align: bool = True,
        deviation: bool = False,
        distance: Feather = "border",
        compress: float = 0.5,
        strength: float = 0.05,
    ) -> None:
        self.hulls = tuple(hulls)
        self.nearest = nearest
        self.align = align
        self.deviation = deviation
        self.distance: Feather = distance
        self.compress = compress
        self.strength = strength

    def draw(self, rng: np.random.Generator, size: int) -> Draws:
        """Draw a sample; always the same number of values, whatever they are."""
        strength = rng.uniform(0.01, self.strength)
        erode, by = rng.random() < 0.5, (-int(rng.integers(1, 22)), int(rng.integers(1, 6)))
        coarse, shrink = int(rng.integers(size // 4, size + 1)), rng.random() < 0.5
        quality, compress = int(rng.integers(60, 101)), rng.random() < self.compress
        return Draws(
            side=int(rng.integers(size // 2, size + 1)),
            kind=self.hulls[rng.integers(len(self.hulls))],
            bends=rng.standard_normal((_GRID, _GRID, 2)).astype(np.float32) * np.float32(strength),
            grow=by[0] if erode else by[1],
            coarse=coarse if shrink else None,
            quality=quality if compress else None,
        )

    def apply(
        self, face: Face, draws: Draws, fake: bool, donor: Face | None = None
    ) -> Forged | None:
        """Make a sample from given draws."""
        size, side = len(face.image), draws.side
        background = _resized(face.image, side)
        mask = np.zeros((size, size), np.float32)
        if fake and donor is not None:
            points = scaled(face.points, (size, size), side)
            soft, hard = self.masks(points, draws)
            if not soft.any():
                return None
            front = self._foreground(donor, points, side).astype(np.float32)
            box = bounding_box(hard)
            front[box] = match_colours(front[box], background[box], hard[box], self.deviation)
            background = blend(background, front, soft)
            mask = np.asarray(cv2.resize(soft, (size, size)), np.float32)
        finished = _resized(background, size)
        if draws.coarse is not None:
            finished = through(finished, draws.coarse)
        if draws.quality is not None:
            finished = jpeg(finished, draws.quality)
        return Forged(finished, mask)

    def masks(self, points: Points, draws: Draws) -> tuple[Mask, Mask]:
        """Return the feathered mask and the hard one it was made from, at the side of the blend.

        Args:
            points: The background's points at that side.
            draws: The draws of the sample.
        """
        side = draws.side
        hard = bend(hull(points, (side, side), draws.kind), draws.bends)
        hard *= hull(with_forehead(points), (side, side))
        grow = int(np.sign(draws.grow)) * max(1, round(abs(draws.grow) * side / _REFERENCE))
        hard = erode_or_dilate((hard >= 0.5).astype(np.float32), grow)
        return feather(hard, distance=self.distance), hard

    def _foreground(self, donor: Face, points: Points, side: int) -> Image:
        image = _resized(donor.image, side)
        if not self.align:
            return image
        move = similarity(scaled(donor.points, (len(donor.image),) * 2, side), points)
        moved = cv2.warpAffine(image, move, (side, side), borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.uint8)


def similarity(points: Points, to: Points) -> NDArray[np.float64]:
    """Return the rotation, scale and shift that moves points onto others, ``(2, 3)``.

    The least-squares solution, Umeyama, TPAMI 1991, without mirroring.

    Args:
        points: ``(P, 2)``.
        to: ``(P, 2)``.
    """
    a, b = points - points.mean(0), to - to.mean(0)
    square = max(float((a**2).sum()), 1e-12)
    cos = float((a * b).sum()) / square
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / square
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([turn, (to.mean(0) - turn @ points.mean(0))[:, None]], 1)


def bend(mask: Mask, bends: NDArray[np.float32]) -> Mask:
    """Deform a mask by a smooth grid of displaced knots.

    Args:
        mask: ``(S, S)``.
        bends: Displacement of each knot, ``(G, G, 2)``, x and y in units of the side.
    """
    side = len(mask)
    field = cv2.resize(bends, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(side)
    axis = np.arange(side, dtype=np.float32)
    x, y = axis[None] + field[..., 0], axis[:, None] + field[..., 1]
    return np.asarray(cv2.remap(mask, x, y, cv2.INTER_LINEAR), np.float32)


def _resized(image: Image, side: int) -> Image:
    if len(image) == side:
        return image
    return np.asarray(cv2.resize(image, (side, side)), np.uint8)  # at least half: no moire
