"""Messages between the processes that read files and the one that scores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokd_lightning.data.qualities import CRF

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
        every: Whether to return every face, rather than the largest.
        crf: CRF of the videos of training; None if it is not known.
        jpeg: JPEG quality that the training frames are worth; None if it is not known.
    """

    frames: int
    size: int
    detector: str
    margin: float
    show: bool
    stored: int | None = None
    time_limit: float = math.inf
    every: bool = False
    crf: float | None = None
    jpeg: float | None = None


class Look(NamedTuple):
    """One face in one picture.

    Attributes:
        frame: Index in the video; 0 for an image.
        time: Seconds from the video's start; None for an image.
        box: The crop, margin included: x, y, width and height in pixels of the picture.
        face: RGB, ``(size, size, 3)``.
        shown: The picture, shrunk to 960 pixels; None unless requested.
        scale: Side of ``shown`` / side of the picture.
        number: Which of the file's faces it is; 0 is the largest.
    """

    frame: int
    time: float | None
    box: tuple[int, int, int, int]
    face: Picture
    shown: Picture | None
    scale: float
    number: int = 0


class Faces(NamedTuple):
    """Result of reading a file.

    Attributes:
        kind: ``image``, ``video`` or ``unknown``.
        status: ``scored`` if there are faces; else ``no_face``, ``unreadable``, ``too_large`` or
            ``too_slow``.
        note: A short reason, or what is wrong with a file that was read only in part.
        looks: Its faces one after the other, each in order of time.
        warnings: Reasons why a score of this file means little.
    """

    kind: str
    status: str
    note: str = ""
    looks: Sequence[Look] = ()
    warnings: Sequence[str] = ()


class SampledFrames(NamedTuple):
    """Frames of a video.

    Attributes:
        pictures: Upright RGB pictures by frame number.
        times: Time in seconds by frame number.
        note: What is wrong with the video.
        scale: Side of a picture / side of the video's frame, at most 1.
        crf: Setting of its encoder; None where it is not recorded.
        jpeg: Quality of a JPEG picture; None for others.
    """

    pictures: dict[int, Picture]
    times: dict[int, float | None]
    note: str
    scale: float
    crf: CRF = None
    jpeg: float | None = None


class UnreadableFile(Exception):
    """A file that cannot be scored; the message is a short reason."""

    def __init__(self, reason: str, kind: str = "unknown", status: str = "unreadable") -> None:
        super().__init__(reason)
        self.reason, self.kind, self.status = reason, kind, status
