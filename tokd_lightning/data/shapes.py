"""Image shapes that spoil training: not square, or different in each class."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]
_SQUARE = 0.02  # allowed difference of the sides, as a share of the longer one
_ALIKE = 0.05  # allowed relative difference of the classes' medians
_TELLING = 0.9  # area under the ROC curve from which a measure separates the classes


class Shape(NamedTuple):
    """Shape of an image.

    Attributes:
        group: Images of one group are compared: data set, quality and the like.
        method: ``real``, or the name of the manipulation.
        size: Width and height in pixels.
    """

    group: tuple[str, ...]
    method: str
    size: Size


def is_square(size: Size) -> bool:
    """Return whether training keeps the proportions of an image."""
    return abs(size[0] - size[1]) <= _SQUARE * max(size)


def telling_shapes(shapes: Iterable[Shape]) -> list[tuple[tuple[str, ...], str, str]]:
    """Find methods whose images differ from the real ones in size or proportions.

    Args:
        shapes: One per video, so that long videos count as much as short ones.

    Returns:
        Group, method and a text such as ``real ones are 320x180, fake ones 256x256``.
    """
    groups: dict[tuple[str, ...], dict[str, list[Size]]] = defaultdict(lambda: defaultdict(list))
    for shape in shapes:
        groups[shape.group][shape.method].append(shape.size)
    found = []
    for group, methods in groups.items():
        reals = methods.pop("real", [])
        for method, fakes in methods.items():
            if reals and _tells(reals, fakes):
                text = f"real ones are {_usual(reals)}, those of {method} {_usual(fakes)}"
                found.append((group, method, text))
    return found


def _tells(reals: Sequence[Size], fakes: Sequence[Size]) -> bool:
    for measure in (_proportion, _side):
        a, b = ([measure(size) for size in sizes] for sizes in (reals, fakes))
        low, high = sorted((median(a), median(b)))
        if high > low * (1 + _ALIKE) and not 1 - _TELLING < _auc(a, b) < _TELLING:
            return True
    return False


def _proportion(size: Size) -> float:
    return size[0] / size[1]


def _side(size: Size) -> float:
    return math.sqrt(size[0] * size[1])


def _auc(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the probability that a value of ``b`` is above one of ``a``; ties count half."""
    low = np.sort(np.asarray(a))
    below = np.searchsorted(low, b, "left") + np.searchsorted(low, b, "right")
    return float(below.mean() / (2 * len(a)))


def _usual(sizes: Sequence[Size]) -> str:
    """Format the size of the majority, or the median if there is no such size."""
    (size, count), *_ = Counter(sizes).most_common(1)
    if 2 * count > len(sizes):
        return "{}x{}".format(*size)
    return f"about {median(s[0] for s in sizes):.0f}x{median(s[1] for s in sizes):.0f}"
