"""Which of several faces a forger has changed: by the data set's masks, or against the original."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from tokd_lightning.data.layouts.video_folder import VIDEO_SUFFIXES, evenly_spaced
from tokd_lightning.data.prepare.boxes import Track
from tokd_lightning.data.prepare.detectors import Picture
from tokd_lightning.data.prepare.plan import Clip
from tokd_lightning.data.video import Source, read_frames

_FRAMES = 8
_CLEARLY = 2.0  # times as much as of the next face
_COVERED = 0.05  # of a face, by its mask
_LEVELS = 1.0  # of 255, by which a face differs more than the next one
_BLUR = 3


def changed_face(root: Path, fake: Clip, real: Clip, faces: Sequence[Track]) -> int | None:
    """Find out which face of a video was changed.

    The mask that FF++ and DeepFakeDetection have of the video is asked first
    (``<method>/masks/videos``), then the difference from the real video at equal frames.

    Args:
        root: What the videos' places are relative to.
        fake: The video.
        real: The one it was made from; empty if that is not known.
        faces: Where faces are on either.

    Returns:
        The face's place in the list; None if neither tells.
    """
    if (mask := _mask(root, fake[0].video.place)) is not None:
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


def _mask(root: Path, place: str) -> Path | None:
    """Find the video of a fake's mask in an FF++ tree."""
    path = PurePosixPath(place)
    if len(path.parts) != 5 or path.parts[0] != "manipulated_sequences":
        return None
    folder = root.joinpath(*path.parts[:2], "masks", "videos")
    files = (folder / f"{path.stem}{suffix}" for suffix in sorted(VIDEO_SUFFIXES))
    return next((file for file in files if file.is_file()), None)


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
    """Return the place of a value that is clearly above all others."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    best, second = values[order[0]], values[order[1]]
    return order[0] if best >= _CLEARLY * second and best - second >= least else None


def _soft(picture: Picture) -> Picture:
    """Take out the finest structure, in which compression differs."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), _BLUR), np.uint8)
