"""What all layouts share: videos as files or as folders of frames, of which a few are chosen."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokd_lightning.data.manifest import Scan, build

FOLDERS = ("faces", "frames", "images")
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_NUMBER = re.compile(r"(\d+)")


class Video(NamedTuple):
    """One video at one quality, as a layout found it.

    Attributes:
        dataset: Name of the data set.
        method: ``real``, or the name of the manipulation.
        name: The video's name, unique within its data set and method.
        target: Identity on screen.
        source: The donor's identity; empty for a real video or where it is unknown.
        quality: Compression, as the data set names it.
        split: ``train``, ``val`` or ``test``.
        place: The video file or the folder of its frames, relative to the root.
        background: Name of the real video that a fake was made from; empty where unknown.
    """

    dataset: str
    method: str
    name: str
    target: str
    source: str
    quality: str
    split: str
    place: str
    background: str = ""


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


def gather(root: Path, videos: Iterable[Video], frames_per_video: int) -> Scan:
    """Choose the frames of many videos.

    Args:
        root: What the videos' places are relative to.
        videos: Folders of frames, in the order that the rows shall have.
        frames_per_video: Evenly spaced frames per video; a shorter one gives all it has.

    Returns:
        The manifest, and the videos without frames.
    """
    rows: list[tuple[Any, ...]] = []
    empty: list[str] = []
    for v in videos:
        frames = choose_frames(root / v.place, frames_per_video)
        if not frames:
            empty.append(v.place)
        about = (v.dataset, v.method, v.name, v.target, v.source, v.quality)
        label = int(v.method != "real")
        rows += [(f"{v.place}/{name}", *about, number, label, v.split) for number, name in frames]
    return Scan(build(rows), empty)
