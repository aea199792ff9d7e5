"""The 68 facial landmarks: their order, the regions they outline, anchors around them.

Order and numbering are iBUG's (Sagonas et al., "300 Faces in-the-Wild Challenge", ICCVW 2013);
points are (x, y) in pixels, pixel centres at integers, "left" is the left side of the image.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.landmarks import MIRROR

Points = NDArray[np.float64]
Plane = NDArray[np.float32]

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSE = slice(27, 36)
EYES = slice(36, 48)
LIPS = slice(48, 60)
INNER_LIPS = slice(60, 68)
UPPER_LIDS = np.array([37, 38, 43, 44])
LOWER_LIDS = np.array([41, 40, 47, 46])
_SUBPIXEL_BITS = 4


def interocular(points: Points) -> float:
    """Return the distance between the centres of the two eyes, in pixels."""
    return float(np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0)))


def crown(points: Points) -> Points:
    """Return 9 points over the top of the head, from ear to ear, estimated from the jaw.

    Args:
        points: The 68 points, ``(68, 2)``.
    """
    left, right = points[0], points[16]
    centre, across = (left + right) / 2, (right - left) / 2
    up = centre - points[8]
    angles = np.linspace(np.pi, 0, 9)
    over = np.outer(np.cos(angles), across * 1.1) + np.outer(np.sin(angles), up * 0.95)
    return np.asarray(centre + over)


def border(size: int) -> Points:
    """Return 16 points around the edge of a square picture of ``size`` pixels."""
    ticks = np.linspace(0, size - 1, 5)
    low, high = np.zeros(4), np.full(4, size - 1.0)
    sides = [(ticks[:4], low), (high, ticks[:4]), (ticks[:0:-1], high), (low, ticks[:0:-1])]
    return np.concatenate([np.stack(side, 1) for side in sides])


def hull_mask(points: Points, size: int, feather: float = 0.0, grow: float = 1.0) -> Plane:
    """Draw the filled convex hull of points, with soft edges.

    Args:
        points: Points in pixels, ``(P, 2)``.
        size: Side of the square mask in pixels.
        feather: Sigma of the edge blur in pixels.
        grow: Factor on the distances from the points' centre.

    Returns:
        Mask in ``[0, 1]``, ``(size, size)``.
    """
    centre = points.mean(0)
    hull = cv2.convexHull((centre + (points - centre) * grow).astype(np.float32))
    fixed = np.rint(hull * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    soft = mask.astype(np.float32) * np.float32(1 / 255)
    if feather > 0:
        soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), feather), np.float32)
    return soft


def mirrored(points: Points, width: int) -> Points:
    """Flip the 68 points horizontally and reorder them, so that each keeps its meaning.

    Args:
        points: The 68 points.
        width: Width of the picture in pixels.
    """
    return np.asarray(np.stack([width - 1 - points[:, 0], points[:, 1]], 1)[MIRROR])


def scaled(points: Points, sides: tuple[int, int], size: int) -> Points:
    """Move points along with a picture that is resized to a square.

    Args:
        points: ``(..., 2)``, x and y in pixels.
        sides: Width and height of the picture before.
        size: Side of the square in pixels.
    """
    return np.asarray((points + 0.5) * (size / np.asarray(sides)) - 0.5)
