"""Messages between the processes that read files and the one that scores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""


class ReadOptions(NamedTuple):
    """Options for reading files.

    Attributes:
        frames: Largest number of frames per video.
        size: Side of a face in pixels.
        detector: Face detector, see :func:`~tokd_lightning.prepare.finders.make_finder`.
        margin: Side of the crop in units of the face's side.
        show: Whether to return the pictures too, for annotation.
        stored: Side to which a crop is resized first, see
            :class:`~tokd_lightning.deploy.record.Face`.
        time_limit: Seconds per file.
    """

    frames: int
    size: int
    detector: str
    margin: float
    show: bool
    stored: int | None = None
    time_limit: float = math.inf


class Look(NamedTuple):
    """One face in one picture.

    Attributes:
        frame: Index in the video; 0 for an image.
        time: Seconds from the video's start; None for an image.
        box: The crop, margin included: x, y, width and height in pixels of the picture.
        face: RGB, ``(size, size, 3)``.
        shown: The picture, shrunk to 960 pixels; None unless requested.
        scale: Side of ``shown`` / side of the picture.
    """

    frame: int
    time: float | None
    box: tuple[int, int, int, int]
    face: Picture
    shown: Picture | None
    scale: float


class Faces(NamedTuple):
    """Result of reading a file.

    Attributes:
        kind: ``image``, ``video`` or ``unknown``.
        status: ``scored`` if there are faces; else ``no_face``, ``unreadable``, ``too_large`` or
            ``too_slow``.
        note: A short reason, or what is wrong with a file that was read only in part.
        looks: Its faces, in order of time.
    """

    kind: str
    status: str
    note: str = ""
    looks: Sequence[Look] = ()
