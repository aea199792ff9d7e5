"""From face boxes on a few frames to one square per frame, smooth over the video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokd_lightning.data.prepare.detectors import Boxes

_SAME_FACE = 0.2
_LARGEST_CHANGE = 1.6
_FEWEST = 4


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
        side: Of the face in units of the picture's width.
    """

    width: int
    height: int
    frames: npt.NDArray[np.float64]
    centres: npt.NDArray[np.float64]
    side: float

    @property
    def found(self) -> bool:
        """Whether there is a face at all."""
        return len(self.frames) > 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.width, self.height

    def square(self, frame: int, width: int, height: int, margin: float) -> Square:
        """Return the crop of a frame: of constant size, inside the picture.

        A square that reaches over the border is moved in; one that is larger than the picture
        takes its whole shorter side.

        Args:
            frame: Index in the video; before the first and after the last known centre the face
                stays where it was.
            width: Of the picture to be cropped, pixels.
            height: Of that picture, pixels.
            margin: Side of the crop in units of the face's.
        """
        x = float(np.interp(frame, self.frames, self.centres[:, 0])) * width
        y = float(np.interp(frame, self.frames, self.centres[:, 1])) * height
        side = min(max(1, round(self.side * width * margin)), width, height)
        return Square(
            min(max(0, round(x - side / 2)), width - side),
            min(max(0, round(y - side / 2)), height - side),
            side,
        )


def no_face(width: int, height: int) -> Track:
    """Return the track of a video without a face."""
    return Track(width, height, np.empty(0), np.empty((0, 2)), 0.0)


def track_of(boxes: Mapping[int, Boxes], width: int, height: int) -> Track:
    """Follow the face that is large and seen most often, and smooth its way.

    Boxes of neighbouring frames are of one face if they overlap (intersection over union at least
    0.2) and are of similar size. Among the chains of such boxes the one with the largest sum of
    sides wins; what is not in it is an outlier. The side is the chain's median; centres are
    averaged with their neighbours, weights 1 : 2 : 1.

    Args:
        boxes: All faces found, by frame number, increasing; frames without any included.
        width: Of the picture, pixels.
        height: Of the picture, pixels.

    Returns:
        The track; without a face if none is seen on a quarter of the frames.
    """
    best: dict[int, npt.NDArray[np.float64]] = {}
    score = 0.0
    for start, found in boxes.items():
        for box in found:
            chain = _follow(boxes, start, box)
            total = sum(_side(b) for b in chain.values())
            if total > score:
                best, score = chain, total
    if len(best) < max(1, len(boxes) // _FEWEST):
        return no_face(width, height)
    chosen = np.stack([best[frame] for frame in sorted(best)])
    centres = (chosen[:, :2] + chosen[:, 2:] / 2) / [width, height]
    sides = np.sqrt(chosen[:, 2] * chosen[:, 3])
    return Track(
        width,
        height,
        np.array(sorted(best), float),
        _smooth(centres),
        float(np.median(sides)) / width,
    )


def _follow(
    boxes: Mapping[int, Boxes], start: int, box: npt.NDArray[np.float64]
) -> dict[int, npt.NDArray[np.float64]]:
    """Link boxes to the last linked one, from a frame forward and from it backward."""
    chain = {start: box}
    frames = list(boxes)
    first = frames.index(start)
    for way in (frames[first + 1 :], frames[first - 1 :: -1] if first else []):
        last = box
        for frame in way:
            overlaps = [_overlap(last, other) for other in boxes[frame]]
            if overlaps and max(overlaps) >= _SAME_FACE:
                last = boxes[frame][int(np.argmax(overlaps))]
                chain[frame] = last
    return chain


def _overlap(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes; 0 if their sizes differ too much for one face."""
    if not 1 / _LARGEST_CHANGE <= _side(a) / _side(b) <= _LARGEST_CHANGE:
        return 0.0
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (_side(a) ** 2 + _side(b) ** 2 - shared)


def _side(box: npt.NDArray[np.float64]) -> float:
    """Side of the square of a box's area."""
    return float(np.sqrt(box[2] * box[3]))


def _smooth(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = np.concatenate([centres[:1], centres, centres[-1:]])
    smoothed: npt.NDArray[np.float64] = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return smoothed
