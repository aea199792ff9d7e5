"""From face boxes of frames to one square per frame."""

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
    """Where a face is in a video of some size.

    Attributes:
        width: Of the picture in which it was found, pixels.
        height: Of that picture, pixels.
        frames: Increasing frame numbers at which the centre is known; none if there is no face.
        centres: ``(len(frames), 2)``, x and y in units of the picture's width and height.
        side: Of the face in units of the picture's width, the median.
        sides: The same for every frame, constant within a scene; None where it is constant.
        exact: Whether the face is on those frames alone, rather than also between and around them.
        absent: Frames on which it was looked for and not found.
        at_once: Faces of any size that were seen on one frame, at most.
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
        """Whether there is a face at all."""
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

        A square that reaches over the border is moved in; one that is larger than the picture
        takes its whole shorter side.

        Args:
            frame: Index in the video; before the first and after the last known centre the face
                stays where it was, between two of them it moves evenly.
            width: Of the picture to be cropped, pixels.
            height: Of that picture, pixels.
            margin: Side of the crop in units of the face's.
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
    """Count the faces that may be taken for the main one as well."""
    return sum(other.side >= _AS_LARGE * face.side for other in others)


def side_of(box: Floats) -> float:
    """Return the side of the square of a box's area."""
    return float(np.sqrt(box[2] * box[3]))


def middle_of(box: Floats) -> Floats:
    """Return x and y of a box's middle."""
    middle: Floats = box[:2] + box[2:] / 2
    return middle
