"""Frame numbers, read from the names of a video's images."""

import re
from collections.abc import Sequence
from pathlib import Path

_NUMBER = re.compile(r"([0-9]+)")
_LARGEST = 18  # digits that fit a 64-bit integer
_COMPRESSION = re.compile(r"(?<![A-Za-z])[cC](?:0|23|40)(?![A-Za-z0-9])")


def numeric_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that puts ``frame_2`` before ``frame_10``.

    Args:
        name: A file name.
    """
    parts = _NUMBER.split(Path(name).stem)
    # Numbers are at odd indices; the longer one is the larger, so none need be converted.
    digits = [part.lstrip("0") for part in parts[1::2]]
    parts[1::2] = digits
    return [(len(p) + 1 if i % 2 else 0, p) for i, p in enumerate(parts) if p or i % 2], name


def frame_numbers(names: Sequence[str]) -> list[int]:
    """Read each frame's index in its video from its name.

    A name may contain other numbers: of the video (``000_003_0010.png``), of the face
    (``fr010_subj0.jpg``), of the compression (``x_0010_c23.png``). The frame number is the one that
    varies between names: the last number, unless two names share it; otherwise the one with the
    most distinct values, the last of these in a tie.

    Args:
        names: The sorted file names of one video.

    Returns:
        A number for each name, or the positions 0, 1, … if the names do not all have a number of at
        most 18 digits in the same position.
    """
    found = [_NUMBER.findall(_stem(name)) for name in names]
    if len(found) == 1:
        found = [_NUMBER.findall(_COMPRESSION.sub("", _stem(names[0]))) or found[0]]
    if all(f and len(f[-1]) <= _LARGEST for f in found):
        last = [int(f[-1]) for f in found]
        if len(set(last)) == len(last):
            return last
    column = _column(found)
    return list(range(len(names))) if column is None else [int(f[column]) for f in found]


def ambiguous(names: Sequence[str], numbers: Sequence[int]) -> str:
    """Return an example of a frame number and its file name if they allow another reading.

    Args:
        names: File names of the images of one video.
        numbers: The frame numbers.

    Returns:
        The example; empty if the names are unambiguous or the numbers were not read from them.
    """
    if len(names) < 2 or list(numbers) != frame_numbers(names):
        return ""
    found = [_NUMBER.findall(_stem(name)) for name in names]
    width = min(map(len, found))
    varying = [c for c in range(width) if len({f[c] for f in found}) > 1]
    others = any(len(f) != width for f in found) or len(varying) > 1
    if width and (others or varying != [width - 1]):
        return f"{numbers[0]} of {names[0]}"
    return ""


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _column(found: Sequence[Sequence[str]]) -> int | None:
    """Return the index, from either end, of the number that counts frames in the names."""
    width = min(map(len, found), default=0)
    usable = [
        c
        for c in (*range(-1, -width - 1, -1), *range(width))
        if all(len(f[c]) <= _LARGEST for f in found)
    ]
    return max(usable, key=lambda c: len({int(f[c]) for f in found}), default=None)
