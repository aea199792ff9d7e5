"""OpenCV's Haar cascade for frontal faces in NumPy, for installations without OpenCV."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokd_lightning.prepare.resample import linear_exact

CASCADE = "haarcascade_frontalface_alt2.xml"
_WINDOW = 20
STEP = 1.1
_EPS = 0.2
_FINE = 2.0  # below this scale every second window is searched
_INNER = _WINDOW - 2
_DARKEST = 0.1
_FEW = 500
_F = np.float32
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


class _Stage(NamedTuple):
    """A stage of T trees, each with two nodes.

    Attributes:
        threshold: A window with a lower sum of leaves is rejected.
        rects: Corners x, y of the rectangles' sides, ``(T, 2, 3, 4)``: x, y, width, height.
        weights: Weight of each rectangle, ``(T, 2, 3)``.
        nodes: Threshold of each node, ``(T, 2)``.
        first: Whether the root's left, then its right branch ends in a leaf: its number, or -1
            for the second node, ``(T, 2)``.
        second: Leaf at the second node's left and right, ``(T, 2)``.
        leaves: ``(T, 3)``.
    """

    threshold: float
    rects: Ints
    weights: Floats
    nodes: Floats
    first: Ints
    second: Ints
    leaves: npt.NDArray[np.float64]


class Cascade(NamedTuple):
    """The cascade of OpenCV's file.

    Attributes:
        stages: Threshold and number of trees of each stage.
        trees: Nodes of each tree, ``(left, right, feature, threshold)``, and its leaves. A branch
            above 0 is the number of a node; others are those of leaves, negated.
        features: Rectangles of each feature: x, y, width, height, weight.
        licence: Its notice.
    """

    stages: list[tuple[float, int]]
    trees: list[tuple[list[list[float]], list[float]]]
    features: list[list[list[float]]]
    licence: str


def read_cascade() -> Cascade:
    """Read the cascade that OpenCV ships, a copy of which comes with this package."""
    text = Path(__file__).with_name(CASCADE).read_text(encoding="utf-8")
    trained, listed = text.split("<features>")

    def numbers(tag: str, part: str) -> list[list[float]]:
        # An XML parser takes three times as long to load and to read this one file.
        found = re.findall(f"<{tag}>([^<]*)", part)
        return [[float(value) for value in values.split()] for values in found]

    stages: list[tuple[float, int]] = []
    trees: list[tuple[list[list[float]], list[float]]] = []
    for part in trained.split("<stageThreshold>")[1:]:
        nodes, leaves = numbers("internalNodes", part), numbers("leafValues", part)
        stages.append((float(part.partition("<")[0]), len(nodes)))
        for values, ends in zip(nodes, leaves, strict=True):
            trees.append(([values[n : n + 4] for n in range(0, len(values), 4)], ends))
    features = [numbers("_", part) for part in listed.split("<rects>")[1:]]
    features = [[row for row in rows if row] for rows in features]
    return Cascade(stages, trees, features, text[text.index("<!--") + 4 : text.index("-->")])


@cache
def cascade() -> list[_Stage]:
    """Return the stages of the cascade as arrays."""
    read = read_cascade()
    unused = [[0.0] * 5]
    rects = np.array([(rows + unused * 3)[:3] for rows in read.features])
    corners, weights = rects[..., :4].astype(np.intp), rects[..., 4].astype(_F)
    stages, start = [], 0
    for threshold, count in read.stages:
        trees = read.trees[start : start + count]
        start += count
        nodes = np.array([nodes for nodes, _ in trees])
        leaves = np.array([leaves for _, leaves in trees], _F)
        ends, feature_of = nodes[..., :2].astype(np.intp), nodes[..., 2].astype(np.intp)
        stages.append(
            _Stage(
                float(_F(threshold) - _F(1e-5)),
                corners[feature_of],
                weights[feature_of],
                nodes[..., 3].astype(_F),
                # 1 leads to the second node; 0, -1 and -2 are leaves.
                np.where(ends[:, 0] > 0, -1, -ends[:, 0]),
                -ends[:, 1],
                leaves.astype(np.float64),
            )
        )
    return stages


class _Pyramid(NamedTuple):
    """Integral images of all scales, one below the other in a common width.

    Attributes:
        sums: Integral image, flat.
        stride: Values per row.
        starts: Row at which each scale begins.
        shapes: Height and width of each scale.
        squares: Integral image of the squares, flat.
    """

    sums: npt.NDArray[np.int32]
    stride: int
    starts: list[int]
    shapes: list[tuple[int, int]]
    squares: npt.NDArray[np.int64]


def detect(
    image: npt.NDArray[np.uint8], neighbours: int, smallest: int, largest: int | None = None
) -> npt.NDArray[np.int64]:
    """Find faces, as ``cv2.CascadeClassifier.detectMultiScale`` does with a step of 1.1.

    Args:
        image: Grey, ``(H, W)``.
        neighbours: A face is kept if more windows than that agree on it.
        smallest: Least side of a face in pixels.
        largest: Largest side of a face in pixels; by default that of the image.

    Returns:
        x, y, width and height of each face, ``(N, 4)``.
    """
    height, width = image.shape
    scales = _scales(min(height, width), smallest, largest or max(height, width), largest)
    if not scales:
        return np.empty((0, 4), np.int64)
    shrunk = [
        linear_exact(image, size) if size != (width, height) else image
        for size in ((_round(width / s), _round(height / s)) for s in scales)
    ]
    pyramid = _pyramid(shrunk)
    found = []
    places, norms, scale_of = _windows(pyramid, scales)
    for chosen in _passing(pyramid, places, norms):
        row, column = divmod(int(places[chosen]), pyramid.stride)
        number = int(scale_of[chosen])
        scale = scales[number]
        side = _round(_F(_WINDOW) * scale)
        y = row - pyramid.starts[number]
        found.append([_round(_F(column) * scale), _round(_F(y) * scale), side, side])
    boxes = grouped(np.array(found, np.int64).reshape(-1, 4), neighbours)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], [width, height] - boxes[:, :2])
    return boxes


def _scales(shorter: int, smallest: int, largest: int, asked: int | None) -> list[np.float32]:
    every, factor = [], 1.0
    while _round(_WINDOW * factor) <= shorter:
        every.append(_F(factor))
        factor *= STEP
    sides = [_round(_F(_WINDOW) * scale) for scale in every]
    kept = [s for s, side in zip(every, sides, strict=True) if smallest <= side <= largest]
    if kept or not every:
        return kept
    return [every[int(np.argmin([(smallest - side) ** 2 for side in sides]))]]


def _pyramid(images: list[npt.NDArray[np.uint8]]) -> _Pyramid:
    stride = max(image.shape[1] for image in images) + 1
    starts, rows = [], 0
    for image in images:
        starts.append(rows)
        rows += image.shape[0] + 1
    # Pictures of up to 8 million pixels fit in 32 bits; differences of sums are right beyond them.
    sums = np.zeros((rows + _WINDOW, stride), np.int32)
    squares = np.zeros((rows + _WINDOW, stride), np.int64)
    for start, image in zip(starts, images, strict=True):
        height, width = image.shape
        for into, values in ((sums, image), (squares, image.astype(np.int64) ** 2)):
            part = into[start + 1 : start + height + 1, 1 : width + 1]
            np.cumsum(values, 0, out=part, dtype=part.dtype)
            np.cumsum(part, 1, out=part)
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    return _Pyramid(sums.ravel(), stride, starts, shapes, squares.ravel())


def _windows(pyramid: _Pyramid, scales: list[np.float32]) -> tuple[Ints, Floats, Ints]:
    """Return the windows that pass the first stage: places, 1 / spread, number of the scale."""
    first = cascade()[0]
    places, norms, numbers = [], [], []
    for number, ((height, width), start) in enumerate(
        zip(pyramid.shapes, pyramid.starts, strict=True)
    ):
        step = 1 if scales[number] >= _FINE else 2
        y = np.arange(0, height - _WINDOW + 1, step)
        x = np.arange(0, width - _WINDOW + 1, step)
        flat = ((y[:, None] + start) * pyramid.stride + x).ravel()
        norm = _norms(pyramid, flat)
        usable = norm * _F(_INNER * _INNER) < _DARKEST
        grid = _Grid(pyramid.sums.reshape(-1, pyramid.stride)[start:], len(y), len(x), step)
        passed = usable & _passes(first, grid, norm.reshape(len(y), len(x))).ravel()
        missed = (usable & ~passed).reshape(len(y), len(x))
        # After a window that the first stage rejects, the next one is skipped.
        looked = np.ones((len(y), len(x)), bool)
        for column in range(1, len(x)):
            looked[:, column] = ~(looked[:, column - 1] & missed[:, column - 1])
        kept = passed & looked.ravel()
        places.append(flat[kept])
        norms.append(norm[kept])
        numbers.append(np.full(int(kept.sum()), number))
    return np.concatenate(places), np.concatenate(norms), np.concatenate(numbers)


def _norms(pyramid: _Pyramid, places: Ints) -> Floats:
    """Return 1 / (area x standard deviation) of windows; infinity where they are uniform."""
    inner = places + pyramid.stride + 1
    total, power = (
        values[inner] - values[inner + _INNER]
        - values[inner + _INNER * pyramid.stride] + values[inner + _INNER * (pyramid.stride + 1)]
        for values in (pyramid.sums, pyramid.squares)
    )  # fmt: skip
    spread = (_INNER * _INNER * power - total.astype(np.int64) ** 2).astype(np.float64)
    norm = np.full(len(places), np.inf, _F)
    varied = spread > 0
    norm[varied] = (1.0 / np.sqrt(spread[varied])).astype(_F)
    return norm


def _passing(pyramid: _Pyramid, places: Ints, norms: Floats) -> Ints:
    """Return the indices of the windows that pass all stages after the first."""
    left = np.arange(len(places))
    for stage in cascade()[1:]:
        windows = _Scattered(pyramid.sums, pyramid.stride, places[left])
        passes = _passes if len(left) > _FEW else _few_pass
        left = left[passes(stage, windows, norms[left])]
    return left


class _Grid(NamedTuple):
    """Windows at regular places of an integral image: their number and distance."""

    sums: npt.NDArray[np.int32]
    down: int
    across: int
    step: int

    def box(self, rect: Ints) -> npt.NDArray[np.int32]:
        """Return the sum of a rectangle of every window."""
        x, y, width, height = (int(value) for value in rect)
        top, bottom, left, right = (
            slice(at, at + self.step * (count - 1) + 1, self.step)
            for at, count in (
                (y, self.down), (y + height, self.down), (x, self.across), (x + width, self.across)
            )
        )  # fmt: skip
        sums = self.sums
        found: npt.NDArray[np.int32] = (
            sums[top, left] - sums[top, right] - sums[bottom, left] + sums[bottom, right]
        )
        return found


class _Scattered(NamedTuple):
    """Windows at any places of an integral image."""

    sums: npt.NDArray[np.int32]
    stride: int
    places: Ints

    def box(self, rect: Ints) -> npt.NDArray[np.int32]:
        """Return the sum of a rectangle of every window."""
        x, y, width, height = (int(value) for value in rect)
        top, bottom = y * self.stride + x, (y + height) * self.stride + x
        found = self.sums[top:].take(self.places)
        found -= self.sums[top + width :].take(self.places)
        found -= self.sums[bottom:].take(self.places)
        found += self.sums[bottom + width :].take(self.places)
        return found


def _passes(stage: _Stage, windows: _Grid | _Scattered, norms: Floats) -> npt.NDArray[np.bool_]:
    """Return whether windows pass a stage."""
    total = np.zeros(norms.shape)
    with np.errstate(invalid="ignore"):  # of uniform windows, which are not used
        for tree in range(len(stage.leaves)):
            right = []
            for node in range(2):
                value = np.zeros(norms.shape, _F)
                for rect, weight in zip(
                    stage.rects[tree, node], stage.weights[tree, node], strict=True
                ):
                    if weight:
                        value += weight * windows.box(rect).astype(_F)
                value *= norms
                right.append(value >= stage.nodes[tree, node])
            # Each branch of the root ends in a leaf, or in the second node (-1) with its two.
            second = stage.leaves[tree][stage.second[tree]]
            low, high = (
                np.where(right[1], second[1], second[0]) if leaf < 0 else stage.leaves[tree][leaf]
                for leaf in stage.first[tree]
            )
            total += np.where(right[0], high, low)
    passed: npt.NDArray[np.bool_] = total >= stage.threshold
    return passed


def _few_pass(stage: _Stage, windows: _Scattered, norms: Floats) -> npt.NDArray[np.bool_]:
    """Return the same as :func:`_passes`, for all trees at a time: quick for a few windows."""
    x, y, width, height = np.moveaxis(stage.rects, -1, 0)[..., None]
    top = y * windows.stride + x + windows.places
    bottom = top + height * windows.stride
    take = windows.sums.take
    boxes = (take(top) - take(top + width) - take(bottom) + take(bottom + width)).astype(_F)
    value = np.zeros((*stage.nodes.shape, len(norms)), _F)
    for rect in range(3):
        value += stage.weights[:, :, rect, None] * boxes[:, :, rect]
    right = value * norms >= stage.nodes[..., None]
    leaf = np.arange(len(stage.leaves))[:, None]
    first, last = stage.first[..., None], stage.second[..., None]
    second = stage.leaves[leaf, np.where(right[:, 1], last[:, 1], last[:, 0])]
    ends = np.where(right[:, 0], first[:, 1], first[:, 0])
    total = np.where(ends < 0, second, stage.leaves[leaf, ends.clip(0)]).sum(0)
    passed: npt.NDArray[np.bool_] = total >= stage.threshold
    return passed


def grouped(boxes: npt.NDArray[np.int64], least: int) -> npt.NDArray[np.int64]:
    """Merge boxes of one face, as ``cv2.groupRectangles`` does with eps 0.2.

    Args:
        boxes: x, y, width and height, ``(N, 4)``.
        least: Groups of at most that many boxes are dropped; 0 merges nothing.
    """
    if least <= 0:
        return boxes
    group = np.arange(len(boxes))
    ends = boxes[:, :2] + boxes[:, 2:]
    for index, box in enumerate(boxes):  # joins the box with all earlier ones that are near
        before = slice(0, index)
        slack = _EPS * (np.minimum(boxes[before, 2:], box[2:]).sum(1)) * 0.5
        apart = np.abs(np.hstack([boxes[before, :2] - box[:2], ends[before] - ends[index]]))
        near = (apart <= slack[:, None]).all(1)
        for joined in set(group[before][near].tolist()):
            group[group == joined] = index
    means, counts = [], []
    for number in sorted(set(group.tolist())):
        own = boxes[group == number]
        means.append(np.rint(own.sum(0).astype(_F) * (_F(1) / _F(len(own)))).astype(np.int64))
        counts.append(len(own))
    kept = []
    for index, (box, count) in enumerate(zip(means, counts, strict=True)):
        others = [
            other
            for place, (other, size) in enumerate(zip(means, counts, strict=True))
            if place != index and size > least and (size > max(3, count) or count < 3)
        ]
        if count > least and not any(_inside(box, other) for other in others):
            kept.append(box)
    return np.array(kept, np.int64).reshape(-1, 4)


def _inside(box: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    slack = np.rint(other[2:] * _EPS)
    low = box[:2] >= other[:2] - slack
    high = box[:2] + box[2:] <= other[:2] + other[2:] + slack
    return bool(low.all() and high.all())


def _round(value: float | np.float32) -> int:
    """Round a half to even."""
    return int(np.rint(value))
