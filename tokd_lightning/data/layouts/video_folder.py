"""What all layouts share: one folder of frames per video, of which a few are chosen."""

import os
import re
from pathlib import Path

import numpy as np

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_NUMBER = re.compile(r"(\d+)")


def _numeric_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key under which ``frame_2`` comes before ``frame_10``."""
    parts = _NUMBER.split(Path(name).stem)
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts if p], name


def list_frames(folder: Path) -> list[str]:
    """Name the images of a video's folder in the order in which they were filmed.

    Args:
        folder: One video's frames; hidden files and files that are not images by name are passed
            over.

    Returns:
        File names, sorted numerically.
    """
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if os.path.splitext(e.name)[1].lower() in SUFFIXES]  # noqa: PTH122 - called for every one of 2.5 million names
    return sorted((name for name in names if not name.startswith(".")), key=_numeric_order)


def frame_numbers(names: list[str]) -> list[int]:
    """Read each frame's index in its video from its name.

    Args:
        names: The sorted file names of one video.

    Returns:
        The last number in each name, or the positions 0, 1, … if a name has none.
    """
    found = [_NUMBER.findall(Path(name).stem) for name in names]
    return [int(f[-1]) for f in found] if all(found) else list(range(len(names)))


def evenly_spaced(length: int, count: int) -> list[int]:
    """Choose positions spread evenly over a whole video (paper, Sec. 5.1).

    The video is cut into ``count`` segments of equal length and the frame at the centre of each
    is taken, so positions never repeat and neither end is preferred.

    Args:
        length: Number of frames there are.
        count: Number of frames wanted; all are taken when there are fewer.

    Returns:
        Increasing positions in ``[0, length)``, ``min(length, count)`` of them.

    Raises:
        ValueError: ``count`` below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if length <= count:
        return list(range(length))
    positions: list[int] = ((2 * np.arange(count) + 1) * length // (2 * count)).tolist()
    return positions


def choose_frames(folder: Path, count: int) -> list[tuple[int, str]]:
    """Choose evenly spaced frames of one video.

    Args:
        folder: The video's frames.
        count: Number of frames wanted.

    Returns:
        ``(frame number, file name)`` in order; empty when the folder holds no image.
    """
    names = list_frames(folder)
    numbers = frame_numbers(names)
    return [(numbers[i], names[i]) for i in evenly_spaced(len(names), count)]
