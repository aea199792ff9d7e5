"""Face tracks, and the square crop they give for each frame."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_AS_LARGE = 0.6


class Square(NamedTuple):
    """A crop: its upper left corner and its side, whole pixels."""

    x: int
    y: int
    side: int


class Track(NamedTuple):
    """Position and size of one face throughout a video.

    Attributes:
        width: Width in pixels of the picture in which it was found.
        height: Height in pixels of that picture.
        frames: Increasing frame numbers at which the centre is known; empty without a face.
        centres: ``(len(frames), 2)``, x and y in units of the picture's width and height.
        side: Median side of the face in units of the picture's width.
        sides: Side on each of ``frames``, constant within a scene; None if constant throughout.
        exact: Whether the face is only on those frames, not also between and around them.
        absent: Frames that were searched without finding it.
        at_once: Largest number of faces, of any size, seen on one frame.
    """

    width: int
    height: int
    frames: Floats
    centres: Floats
    side: float
    sides: Floats | None = None
    exact: bool = False
    absent: Set[int] = frozenset()
    at_once: int = 1

    @property
    def found(self) -> bool:
        """Return whether the track has a face."""
        return len(self.frames) > 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.width, self.height

    def shows(self, frame: int) -> bool:
        """Return whether the face is known to be on a frame."""
        return bool((self.frames == frame).any()) if self.exact else self.found

    def square(self, frame: int, width: int, height: int, margin: float) -> Square:
        """Return the crop of a frame: inside the picture, of one size throughout a scene.

        A square that crosses the border is shifted inside; one that is larger than the picture
        is reduced to the picture's shorter side.

        Args:
            frame: Index in the video; before the first and after the last known centre the face
                does not move, between two of them its centre is interpolated linearly.
            width: Width in pixels of the picture to crop.
            height: Height in pixels of that picture.
            margin: Side of the crop in units of the face's side.
        """
        x = float(np.interp(frame, self.frames, self.centres[:, 0])) * width
        y = float(np.interp(frame, self.frames, self.centres[:, 1])) * height
        face = self.side
        if self.sides is not None:
            face = float(self.sides[int(np.abs(self.frames - frame).argmin())])
        side = min(max(1, round(face * width * margin)), width, height)
        return Square(
            min(max(0, round(x - side / 2)), width - side),
            min(max(0, round(y - side / 2)), height - side),
            side,
        )


def no_face(width: int, height: int) -> Track:
    """Return the track of a video without a face."""
    return Track(width, height, np.empty(0), np.empty((0, 2)), 0.0)


def as_large(face: Track, others: Iterable[Track]) -> int:
    """Count the other faces that are nearly as large as the main one (0.6 of its side or more)."""
    return sum(other.side >= _AS_LARGE * face.side for other in others)


def median(values: Iterable[float]) -> float:
    """Return the median; NumPy's imports a package that takes as long as reading a picture."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    odd = len(ordered) % 2
    return float(ordered[middle] if odd else (ordered[middle - 1] + ordered[middle]) / 2)


def side_of(box: Floats) -> float:
    """Return the side of the square that has a box's area."""
    return float(np.sqrt(box[2] * box[3]))


def middle_of(box: Floats) -> Floats:
    """Return x and y of a box's centre."""
    middle: Floats = box[:2] + box[2:] / 2
    return middle
