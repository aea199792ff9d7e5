"""Frames of a user's video: a few of them, spread over all of it, as far as it can be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from tokd_lightning.data.layouts.video_folder import evenly_spaced
from tokd_lightning.data.prepare.detectors import Picture
from tokd_lightning.data.stream import read_packets
from tokd_lightning.data.video import DAMAGE, Source, read_frames, reason, video_stream

_LONG = 3000
_BUDGET = 400_000_000


class Film(NamedTuple):
    """Frames of a video.

    Attributes:
        pictures: Upright, RGB, by their numbers.
        times: Their seconds.
        note: What is wrong with the video.
        scale: Side of a picture / side of the video's frame, at most 1.
    """

    pictures: dict[int, Picture]
    times: dict[int, float | None]
    note: str
    scale: float


class Unfit(Exception):
    """A file that cannot be scored; the message is the reason in a few words."""

    def __init__(self, reason: str, kind: str = "unknown", status: str = "unreadable") -> None:
        super().__init__(reason)
        self.reason, self.kind, self.status = reason, kind, status


def film(path: Path, count: int, largest: int) -> Film:
    """Read evenly spaced frames up to the first damage, as ``tokd prepare`` does.

    Of a video of more than 3000 frames only the key frames are looked at where there are enough:
    the others cannot be decoded without all before them.

    Args:
        path: The video.
        count: Frames wanted.
        largest: Pixels of a frame, at most.

    Raises:
        Unfit: It is no video, or its frames are too large.
    """
    source = Source(path, guarded=True)
    try:
        length, keys = _packets(source, largest)
    except DAMAGE as error:
        said = f"neither an image nor a video that can be read ({reason(error)})"
        raise Unfit(said) from error
    if length > _LONG and len(keys) >= count:
        return _key_frames(source, len(keys), count)
    count = min(count, length)
    times: dict[int, float | None] = {}
    size: list[tuple[int, int]] = []

    def keep(index: int, frame: av.VideoFrame) -> tuple[int, Picture] | None:
        shape = (frame.width, frame.height)
        if (size or [shape])[0] != shape:
            return None
        size[:] = [shape]
        times[index] = frame.time
        return index, _picture(source, frame, _scale(*shape, count))

    reading = read_frames(source, set(evenly_spaced(length, count)), keep)
    kept = dict(pair for pair in reading.kept if pair is not None)
    notes = [reading.damage] if reading.damage else []
    if len(kept) < len(reading.kept):
        notes.append("its frames change their size: those of the first size are used")
    return Film(kept, times, "; ".join(notes), _scale(*size[0], count) if size else 1.0)


def _packets(source: Source, largest: int) -> tuple[int, list[int]]:
    """Count the frames by their packets and say which are key frames, without decoding."""
    packets = read_packets(source)
    width, height = packets.size
    if width * height > largest:
        raise Unfit(f"frames of {width} x {height} pixels are too large", "video", "too_large")
    return packets.length, packets.keys


def _key_frames(source: Source, keys: int, count: int) -> Film:
    """Decode key frames alone, evenly spaced ones of them."""
    wanted = set(evenly_spaced(keys, count))
    pictures: dict[int, Picture] = {}
    times: dict[int, float | None] = {}
    note, scale = "", 1.0
    try:
        with source.open() as container:
            stream = video_stream(container)
            context: Any = stream.codec_context
            context.skip_frame = "NONKEY"
            rate = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    index = number if frame.time is None else round(frame.time * rate)
                    own = _scale(frame.width, frame.height, count)
                    scale = scale if pictures else own
                    pictures[index] = _picture(source, frame, own)
                    times[index] = frame.time
    except DAMAGE as error:
        note = f"it cannot be decoded to its end: {reason(error)}"
    first = next(iter(pictures.values()), np.empty(0)).shape
    same = {index: picture for index, picture in pictures.items() if picture.shape == first}
    return Film(same, times, note, scale)


def _scale(width: int, height: int, count: int) -> float:
    """Return by what pictures are made smaller where as many would fill the memory."""
    return min(1.0, math.sqrt(_BUDGET / (count * width * height * 3)))


def _picture(source: Source, frame: av.VideoFrame, scale: float) -> Picture:
    """Convert a frame to a picture, made smaller."""
    picture = source.upright(frame)
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    smaller = max(1, int(width * scale)), max(1, int(height * scale))
    shrunk: Picture = np.ascontiguousarray(
        cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA), np.uint8
    )
    return shrunk
