"""Blending masks: hulls of landmarks, their deformation, soft edges, and the face X-ray of a mask.

A mask is float32, ``(H, W)``, in [0, 1]: 1 is the forged face, 0 the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.points import BROWS, Points, crown
from tokd_lightning.data.landmarks import COUNT

Mask = NDArray[np.float32]
HullKind = Literal["all", "parts", "sectors", "raised"]
KINDS: tuple[HullKind, ...] = ("all", "parts", "sectors", "raised")
Feather = Literal["border", "hull"]

_CHIN, _LEFT_EAR, _RIGHT_EAR, _BRIDGE, _NOSE_BASE = 8, 0, 16, 27, 33
_PARTS: tuple[Sequence[int], ...] = (
    (*range(17), *range(48, 68)),  # jaw and mouth
    (*range(27, 31), _NOSE_BASE),  # ridge of the nose
    (*range(17, 27), _LEFT_EAR, _BRIDGE, _RIGHT_EAR, _NOSE_BASE),  # eyes and brows
)
_SECTORS: tuple[Sequence[int], ...] = (
    (*range(9), 17),
    (*range(8, 17), 26),
    (17, 18, 19, _CHIN),
    (24, 25, 26, _CHIN),
    (*range(19, 25), _CHIN),
    (*range(17, 22), _BRIDGE, *range(31, 36), _CHIN),
    (*range(22, 27), _BRIDGE, *range(31, 36), _CHIN),
    (*range(27, 31), *range(31, 36)),
)
_TINY = 1e-6
_HAIRLINE = 0.7


def hull(points: Points, shape: tuple[int, int], kind: HullKind = "all") -> Mask:
    """Draw the hull of landmarks as a hard mask.

    The kinds are those of Face X-ray's public re-implementations: ``all`` is the convex hull of all
    points; ``parts`` the union of the hulls of jaw, nose and eyes; ``sectors`` the union of eight
    hulls, seven of which meet at the chin; ``raised`` the same with the brows raised by half their
    distance to the eyes.

    Args:
        points: Points in pixels, ``(P, 2)``, the 68 of iBUG first; fractions are cut off.
        shape: Height and width of the mask.
        kind: Which hull.
    """
    whole = points.astype(np.int32)
    groups: Sequence[Sequence[int]] = (range(len(whole)),)
    if kind == "parts":
        groups = _PARTS
    elif kind != "all":
        groups = _SECTORS
        whole = raise_brows(whole) if kind == "raised" else whole
    mask = np.zeros(shape, np.uint8)
    for group in groups:
        cv2.fillConvexPoly(mask, cv2.convexHull(whole[list(group)]), 1)
    return mask.astype(np.float32)


def raise_brows(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return whole-pixel points with the brows moved away from the eyes by half their distance.

    The outer end of a brow is compared with a point between eye corner and jaw, a quarter of the
    way from the corner.

    Args:
        points: The 68 points, ``(68, 2)``, and possibly more.
    """
    raised = points.copy()
    left = (points[36] + (points[36] + points[0]) // 2) // 2
    right = (points[45] + (points[16] + points[45]) // 2) // 2
    below = np.concatenate([[left], points[36:40], points[42:46], [right]])
    raised[BROWS] += (points[BROWS] - below) // 2
    return raised


def with_forehead(points: Points) -> Points:
    """Append 7 points along the hairline, guessed at 0.7 of the way to :func:`~.points.crown`."""
    ears = (points[_LEFT_EAR] + points[_RIGHT_EAR]) / 2
    return np.concatenate([points[:COUNT], ears + _HAIRLINE * (crown(points)[1:-1] - ears)])


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns from the first to the last pixel above 0; empty if there is none.

    Args:
        mask: ``(H, W)``, not negative.
    """
    rows, columns = (
        np.flatnonzero(cv2.reduce(mask, axis, cv2.REDUCE_MAX).ravel()) for axis in (1, 0)
    )
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def erode_or_dilate(mask: Mask, size: int) -> Mask:
    """Erode a mask by a square of ``-size`` pixels, or dilate it by one of ``size``.

    Args:
        mask: ``(H, W)``.
        size: Side of the square in pixels; even sides are enlarged by 1, 0 changes nothing.
    """
    if not size:
        return mask
    kernel = np.ones((abs(size) | 1,) * 2, np.uint8)
    work = cv2.dilate if size > 0 else cv2.erode
    return cast(Mask, work(mask, kernel))


def feather(mask: Mask, amount: float = 0.2, distance: Feather = "border") -> Mask:
    """Soften the inside of a mask's edge.

    m = clip(d / (amount · s), 0, 1), where d is a pixel's distance to the border in pixels and s
    the longer side of the mask's bounding box, from the first to the last pixel's centre.

    Args:
        mask: ``(H, W)``; pixels above 0 are inside.
        amount: Width of the soft edge in units of the longer side.
        distance: ``border`` measures to the nearest pixel outside; ``hull`` to the convex hull of
            the pixels inside, as public re-implementations of Face X-ray do.
    """
    inside = (mask > 0).astype(np.uint8)
    rows, columns = bounding_box(mask)
    reach = amount * (max(rows.stop - rows.start, columns.stop - columns.start) - 1)
    if reach <= 0:
        return np.zeros_like(mask)
    if distance == "border":
        padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    else:
        depth = _depth_in_hull(inside)
    return np.asarray(np.clip(depth / reach, 0, 1), np.float32)


def _depth_in_hull(inside: NDArray[np.uint8]) -> Mask:
    """Return the distance of every inner pixel to the convex hull of all of them, 0 elsewhere."""
    y, x = np.nonzero(inside)
    corners = cv2.convexHull(np.stack([x, y], 1).astype(np.int32))[:, 0].astype(np.float64)
    ahead = np.roll(corners, -1, 0) - corners
    normals = np.stack([-ahead[:, 1], ahead[:, 0]], 1) / np.linalg.norm(ahead, axis=1)[:, None]
    depth = np.full(len(x), np.inf)
    for corner, normal in zip(corners, normals, strict=True):  # of a convex outline
        np.minimum(depth, np.abs((x - corner[0]) * normal[0] + (y - corner[1]) * normal[1]), depth)
    found = np.zeros(inside.shape, np.float32)
    found[y, x] = depth
    return found


def soften(mask: Mask, sides: tuple[int, int], kernels: tuple[int, int], sigma: float) -> Mask:
    """Soften a mask as SBI does, at another size.

    The mask is resized, blurred, divided by its maximum, reduced to the pixels that are still 1,
    blurred again, divided by its maximum and resized back. As published, pixels that rounding puts
    below 1 are dropped too: a soft mask can be dented inside. The first window moves the edge
    inwards by half its side, the second softens it by half its side on both sides.

    Args:
        mask: ``(H, W)``.
        sides: Height and width in between, drawn from 192 to 256.
        kernels: Odd sides of the two Gauss windows, drawn from 5 to 25; the first window's sigma
            follows from its side (OpenCV's rule).
        sigma: Sigma of the second window in pixels, drawn from 5 to 45.

    Returns:
        The mask; all 0 if nothing is left of it.
    """
    small = cv2.resize(mask, sides[::-1])
    once = np.asarray(cv2.GaussianBlur(small, (kernels[0],) * 2, 0), np.float32)
    once /= max(float(once.max()), _TINY)
    core = np.where(once < 1, np.float32(0), once)
    twice = cv2.GaussianBlur(core, (kernels[1],) * 2, sigma)
    top = float(twice.max())
    if top <= 0:
        return np.zeros_like(mask)
    return np.asarray(cv2.resize(twice / np.float32(top), mask.shape[::-1]), np.float32)


def xray(mask: Mask) -> Mask:
    """Return the face X-ray of a mask, B = 4 · M · (1 - M), ``(H, W)``: 1 where M is one half.

    Li et al., CVPR 2020, Eq. 1.
    """
    return np.asarray(4 * mask * (1 - mask), np.float32)
