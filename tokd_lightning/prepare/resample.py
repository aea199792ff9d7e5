"""Resampling as OpenCV does it, to the last bit, in NumPy: for installations without OpenCV.

All pictures are uint8, ``(H, W)`` or ``(H, W, C)``. The arithmetic is that of OpenCV 4 on x86:
float32 weights for areas, 11-bit weights for linear and cubic interpolation, 8-bit weights for the
exact linear one, and rounding of halves to even.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
_F = np.float32
_BITS = 11
_ONE = 1 << _BITS
_LANES = 8  # values that OpenCV interpolates at a time, in float32
_SAME = 2.2e-16
_LEAST = 1e-3


class _Taps(NamedTuple):
    """Source positions and their weights per pixel of the result, ``(to, taps)``."""

    places: npt.NDArray[np.intp]
    weights: npt.NDArray[Any]


def grey(picture: Picture) -> Picture:
    """Convert RGB ``(H, W, 3)`` to grey ``(H, W)``, as ``cv2.COLOR_RGB2GRAY``."""
    red, green, blue = (picture[..., n].astype(np.int32) for n in range(3))
    made: Picture = ((red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15).astype(np.uint8)
    return made


def area(
    picture: Picture, size: tuple[int, int], factors: tuple[float, float] | None = None
) -> Picture:
    """Average over areas, as ``cv2.INTER_AREA``; bilinear where it enlarges.

    Args:
        picture: The picture.
        size: Width and height of the result.
        factors: Width and height of the result / those of the picture, where they were given in
            place of the size.
    """
    height, width = picture.shape[:2]
    if size == (width, height):
        return picture.copy()
    across, along = factors or (size[0] / width, size[1] / height)
    scales = 1 / across, 1 / along
    if min(scales) < 1:
        return _linear(picture, size, (across, along), by_area=True)
    whole = round(scales[0]), round(scales[1])
    if all(abs(s - w) < _SAME for s, w in zip(scales, whole, strict=True)):
        return _blocks(picture, size, whole)
    x, y = _area_taps(width, size[0], scales[0]), _area_taps(height, size[1], scales[1])
    return _to_bytes(_weighted(_weighted(picture.astype(_F), x, axis=1), y, axis=0))


def linear(picture: Picture, size: tuple[int, int]) -> Picture:
    """Interpolate linearly, as ``cv2.INTER_LINEAR``."""
    height, width = picture.shape[:2]
    if (size[0] * 2, size[1] * 2) == (width, height):
        return _blocks(picture, size, (2, 2))
    return _linear(picture, size, (size[0] / width, size[1] / height), by_area=False)


def linear_exact(picture: Picture, size: tuple[int, int]) -> Picture:
    """Interpolate linearly with 8-bit weights, as ``cv2.INTER_LINEAR_EXACT``."""

    def taps(before: int, after: int) -> _Taps:
        at = (np.arange(after) + 0.5) * (1 / (after / before)) - 0.5
        place = np.floor(at).astype(np.intp)
        rest = np.rint((at - place) * 256).astype(np.int32)
        rest[(place < 0) | (place >= before - 1)] = 0
        place = place.clip(0, before - 1)
        places = np.stack([place, (place + 1).clip(0, before - 1)], axis=1)
        return _Taps(places, np.stack([256 - rest, rest], axis=1))

    height, width = picture.shape[:2]
    rows = _weighted(picture.astype(np.int32), taps(width, size[0]), axis=1)
    summed = _weighted(rows, taps(height, size[1]), axis=0)
    made: Picture = ((summed + 32768) >> 16).astype(np.uint8)
    return made


def cubic(picture: Picture, size: tuple[int, int]) -> Picture:
    """Interpolate by cubics, as ``cv2.INTER_CUBIC``.

    Args:
        picture: The picture.
        size: Width and height of the result.
    """
    height, width = picture.shape[:2]
    x, y = _cubic_taps(width, size[0]), _cubic_taps(height, size[1])
    rows = _weighted(picture.astype(np.int64), x, axis=1)
    flat = rows.reshape(height, -1)
    lanes = flat.shape[1] - flat.shape[1] % _LANES
    made = np.empty((size[1], flat.shape[1]), np.uint8)
    share = _F(1 / (1 << 2 * _BITS))
    weights = y.weights.astype(_F) * share
    body = flat[:, :lanes].astype(_F)
    total = body[y.places[:, 3]] * weights[:, 3, None]
    for tap in (2, 1, 0):
        total = body[y.places[:, tap]] * weights[:, tap, None] + total
    made[:, :lanes] = _to_bytes(total)
    rest = _weighted(flat[:, lanes:], y, axis=0)
    made[:, lanes:] = ((rest + (1 << 2 * _BITS - 1)) >> 2 * _BITS).clip(0, 255)
    return made.reshape(size[1], size[0], *picture.shape[2:])


def _weighted(values: npt.NDArray[Any], taps: _Taps, axis: int) -> npt.NDArray[Any]:
    """Add weighted values tap by tap, in the order of the taps."""
    shape = [1] * values.ndim
    shape[axis] = len(taps.places)
    total: npt.NDArray[Any] | None = None
    for places, weights in zip(taps.places.T, taps.weights.T, strict=True):
        term = np.take(values, places, axis) * weights.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None
    return total


def _blocks(picture: Picture, size: tuple[int, int], block: tuple[int, int]) -> Picture:
    """Average over blocks of whole pixels."""
    (width, height), (across, along) = size, block
    cut = picture[: height * along, : width * across]
    parts = cut.reshape(height, along, width, across, *picture.shape[2:])
    total = parts.astype(np.int32).sum((1, 3))
    if block == (2, 2):
        halves: Picture = ((total + 2) >> 2).astype(np.uint8)
        return halves
    return _to_bytes(total.astype(_F) * _F(1 / (across * along)))


def _area_taps(before: int, after: int, scale: float) -> _Taps:
    start = np.arange(after) * scale
    end = start + scale
    width = np.minimum(scale, before - start)
    last = np.minimum(np.floor(end), before - 1)
    first = np.minimum(np.ceil(start), last)
    count = int((last - first).max()) + 2
    places = (first[:, None] - 1 + np.arange(count)).astype(np.intp)
    weights = np.where(places < last[:, None], (1 / width)[:, None], 0.0)
    weights[:, 0] = np.where(first - start > _LEAST, (first - start) / width, 0)
    rest = np.where(end - last > _LEAST, np.minimum(np.minimum(end - last, 1), width) / width, 0)
    weights[np.arange(after), (last - first).astype(np.intp) + 1] = rest
    return _Taps(places.clip(0, before - 1), weights.astype(_F))


def _linear(
    picture: Picture, size: tuple[int, int], factors: tuple[float, float], by_area: bool
) -> Picture:
    def taps(before: int, after: int, factor: float, edge: bool) -> _Taps:
        index = np.arange(after)
        scale = 1 / factor
        if by_area:
            place = np.floor(index * scale).astype(np.intp)
            rest = (index + 1 - (place + 1) * factor).astype(_F)
            rest = np.where(rest <= 0, _F(0), rest - np.floor(rest))
        else:
            at = ((index + 0.5) * scale - 0.5).astype(_F)
            place = np.floor(at).astype(np.intp)
            rest = at - place.astype(_F)
        if edge:  # only along a row does the border take a weight of one
            rest = np.where((place < 0) | (place >= before - 1), _F(0), rest)
        weights = np.stack([(_F(1) - rest) * _F(_ONE), rest * _F(_ONE)], axis=1)
        places = np.stack([place, place + 1], axis=1).clip(0, before - 1)
        return _Taps(places, np.rint(weights).astype(np.int64))

    height, width = picture.shape[:2]
    rows = _weighted(picture.astype(np.int64), taps(width, size[0], factors[0], edge=True), axis=1)
    y = taps(height, size[1], factors[1], edge=False)
    shape = (len(y.places), *[1] * (picture.ndim - 1))
    above, below = (
        (rows[y.places[:, n]] >> 4) * y.weights[:, n].reshape(shape) >> 16 for n in (0, 1)
    )
    made: Picture = ((above + below + 2) >> 2).clip(0, 255).astype(np.uint8)
    return made


def _cubic_taps(before: int, after: int) -> _Taps:
    at = ((np.arange(after) + 0.5) * (1 / (after / before)) - 0.5).astype(_F)
    place = np.floor(at).astype(np.intp)
    x, a, one = at - place.astype(_F), _F(-0.75), _F(1)

    def near(t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = ((a + _F(2)) * t - (a + _F(3))) * t * t + one
        return found

    far = x + one
    first = ((a * far - _F(5) * a) * far + _F(8) * a) * far - _F(4) * a
    second, third = near(x), near(one - x)
    weights = np.stack([first, second, third, one - first - second - third], axis=1)
    places = (place[:, None] + np.arange(-1, 3)).clip(0, before - 1)
    return _Taps(places, np.rint(weights * _F(_ONE)).astype(np.int64))


def _to_bytes(values: npt.NDArray[Any]) -> Picture:
    made: Picture = np.rint(values).clip(0, 255).astype(np.uint8)
    return made
