"""Choice of the manipulated face among several: by the data set's masks or the real video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.data.video import Source, read_frames
from tokd_lightning.prepare.boxes import Track
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.masks import mask_video
from tokd_lightning.prepare.plan import Clip

_FRAMES = 8
_CLEARLY = 2.0  # least ratio of the best face's value to the next one's
_COVERED = 0.05  # least lead over the next face in the share covered by the mask
_LEVELS = 1.0  # least lead over the next face in mean difference, of 255 levels
_BLUR = 3


def changed_face(root: Path, fake: Clip, real: Clip, faces: Sequence[Track]) -> int | None:
    """Find the manipulated face of a fake video.

    The video's mask, which FF++ and DeepFakeDetection provide (``<method>/masks/videos``), is used
    first, then the difference from the same frames of the real video.

    Args:
        root: Folder that the videos' paths are relative to.
        fake: The fake video.
        real: The real video it was made from; empty if unknown.
        faces: Tracks of the faces on either video.

    Returns:
        Index of the face in ``faces``; None if neither gives a clear answer.
    """
    if (mask := mask_video(root, fake[0].video.place)) is not None:
        covered = [value / 255 for value in _inside(_read(mask, faces), faces)]
        if (found := _first(covered, _COVERED)) is not None:
            return found
    for one, other in ((f, r) for f in fake for r in real):
        if one.crf is None and other.crf is None and one.video.quality == other.video.quality:
            pictures = [_read(root / each.video.place, faces) for each in (one, other)]
            changes = {
                frame: np.asarray(
                    cv2.absdiff(_soft(pictures[0][frame]), _soft(pictures[1][frame])), np.uint8
                )
                for frame in pictures[0].keys() & pictures[1].keys()
                if pictures[0][frame].shape == pictures[1][frame].shape
            }
            if changes:
                return _first(_inside(changes, faces), _LEVELS)
    return None


def _read(file: Path, faces: Sequence[Track]) -> dict[int, Picture]:
    """Read a few frames of every face."""
    wanted: set[int] = set()
    for face in faces:
        frames = face.frames.astype(int)
        wanted |= {int(frames[i]) for i in evenly_spaced(len(frames), _FRAMES)}
    source = Source(file)
    return dict(read_frames(source, wanted, lambda i, f: (i, source.upright(f))).kept)


def _inside(pictures: dict[int, Picture], faces: Sequence[Track]) -> list[float]:
    """Return the mean level inside each face."""
    means = []
    for face in faces:
        levels = []
        for frame, picture in pictures.items():
            if face.shows(frame):
                height, width = picture.shape[:2]
                x, y, side = face.square(frame, width, height, 1.0)
                levels.append(float(picture[y : y + side, x : x + side].mean()))
        means.append(float(np.mean(levels)) if levels else 0.0)
    return means


def _first(values: Sequence[float], least: float) -> int | None:
    """Return the index of a value that is clearly above all others, else None."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    best, second = values[order[0]], values[order[1]]
    return order[0] if best >= _CLEARLY * second and best - second >= least else None


def _soft(picture: Picture) -> Picture:
    """Blur away the finest structure, which differs by compression."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), _BLUR), np.uint8)
