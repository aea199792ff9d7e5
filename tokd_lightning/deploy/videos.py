"""A few frames of a user's video, evenly spaced over its readable part."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from tokd_lightning.data.qualities import CRF
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.data.stream import read_packets
from tokd_lightning.data.video import (
    DAMAGE,
    Source,
    promised_packets,
    read_frames,
    video_stream,
)
from tokd_lightning.deploy.found import SampledFrames, UnreadableFile
from tokd_lightning.errors import reason
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.imaging import shrink

_BUDGET = 400_000_000
_SHORT_OF_TIME = (
    "time was short: its key frames alone are scored, rather than frames as in training; "
    "--time-limit gives it more"
)


def sample_frames(path: Path, count: int, largest: int, seconds: float = math.inf) -> SampledFrames:
    """Read evenly spaced frames up to the first damage, as ``tokd prepare`` does.

    No more is decoded than the frames need, see :func:`_skim`, unless that does not find them all:
    then everything is. If reading takes more than half of the time and there are
    enough key frames, only key frames are used, and the note says so.

    Args:
        path: The video.
        count: Number of frames.
        largest: Largest number of pixels of a frame.
        seconds: Time limit for the file.

    Raises:
        UnreadableFile: The file is not a readable video, or its frames are too large.
    """
    source = Source(path, guarded=True)
    until = time.monotonic() + seconds / 2
    try:
        length, keys, crf = _packets(source, largest)
    except DAMAGE as error:
        said = f"neither an image nor a video that can be read ({reason(error)})"
        raise UnreadableFile(said) from error
    if len(keys) < min(count, length):
        until = math.inf
    shots = _Shots(source, min(count, length), until)
    wanted = evenly_spaced(length, max(1, shots.count))
    try:
        if _skim(shots, wanted):
            return shots.film("")._replace(crf=crf)
        shots = _Shots(source, shots.count, until)
        reading = read_frames(source, set(wanted), shots.keep)
    except _LateError:
        return _key_frames(source, len(keys), shots.count)._replace(crf=crf)
    return shots.film(reading.damage)._replace(crf=crf)


class _LateError(Exception):
    """Half of the time limit has passed."""


class _Shots:
    """Frames kept as pictures of one size.

    Args:
        source: The video.
        count: Expected number of frames.
        until: Monotonic time at which to give up.
    """

    def __init__(self, source: Source, count: int, until: float) -> None:
        self.source, self.count, self.until = source, count, until
        self.pictures: dict[int, Picture] = {}
        self.times: dict[int, float | None] = {}
        self.size: tuple[int, int] | None = None
        self.left_out = 0

    def keep(self, index: int, frame: av.VideoFrame) -> None:
        """Keep a frame, unless its size differs from the first one's."""
        if time.monotonic() > self.until:
            raise _LateError
        shape = (frame.width, frame.height)
        self.size = self.size or shape
        if self.size != shape:
            self.left_out += 1
            return
        self.pictures[index] = _picture(self.source, frame, _scale(*shape, self.count))
        self.times[index] = frame.time

    def film(self, damage: str) -> SampledFrames:
        """Return the kept frames."""
        notes = [damage] if damage else []
        if self.left_out:
            notes.append("its frames differ in size: only those of the first size are used")
        scale = _scale(*self.size, self.count) if self.size else 1.0
        return SampledFrames(self.pictures, self.times, "; ".join(notes), scale)


def _skim(shots: _Shots, wanted: Sequence[int]) -> bool:
    """Keep frames and decode no more than they need; return False if that does not find all.

    Decoding begins at the key frame before a wanted frame, and leaves out the frames between that
    no other frame depends on.
    """
    try:
        with shots.source.open() as container:
            stream = video_stream(container)
            missing = promised_packets(container, stream)
            shown: list[tuple[int | None, bool]] = []
            for packet in container.demux(stream):
                missing -= bool(packet.size or packet.dts is not None)
                if packet.size > 0 and not packet.is_discard:
                    shown.append((packet.pts, packet.is_keyframe))
        order = sorted(pts for pts, _ in shown if pts is not None)
        starts = sorted(pts for pts, key in shown if key and pts is not None)
        if missing > 0 or not starts or not len(shown) == len(order) == len(set(order)):
            return False
        targets = {order[index]: index for index in wanted}
        with shots.source.open() as container:
            stream = video_stream(container)
            # As in reading the whole video: a broken frame is not made up from its neighbours.
            stream.codec_context.options = {"err_detect": "explode"}
            at: int | None = None
            frames: Iterator[av.VideoFrame] = iter(())
            for target, index in targets.items():
                start = starts[max(0, bisect.bisect_right(starts, target) - 1)]
                if at is None or at < start:
                    container.seek(target, stream=stream)
                    frames = _decoded(container, stream, targets)
                for frame in frames:
                    if time.monotonic() > shots.until:
                        raise _LateError
                    at = frame.pts
                    if at is None or at >= target:
                        break
                if at != target:
                    return False
                shots.keep(index, frame)
    except DAMAGE:
        return False
    return True


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, wanted: Container[int | None]
) -> Iterator[av.VideoFrame]:
    """Decode from here on, without frames that are neither wanted nor referred to."""
    context: Any = stream.codec_context
    for packet in container.demux(stream):
        context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from packet.decode()


def _packets(source: Source, largest: int) -> tuple[int, list[int], CRF]:
    """Return the number of frames, the key frames and the CRF, from packets without decoding."""
    packets = read_packets(source)
    width, height = packets.size
    if width * height > largest:
        raise UnreadableFile(
            f"frames of {width} x {height} pixels are too large", "video", "too_large"
        )
    return packets.length, packets.keys, packets.crf


def _key_frames(source: Source, keys: int, count: int) -> SampledFrames:
    """Decode only key frames, and keep evenly spaced ones."""
    wanted = set(evenly_spaced(keys, count))
    pictures: dict[int, Picture] = {}
    times: dict[int, float | None] = {}
    note, scale = _SHORT_OF_TIME, 1.0
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
        note = f"{note}; it cannot be decoded to its end: {reason(error)}"
    first = next(iter(pictures.values()), np.empty(0)).shape
    same = {index: picture for index, picture in pictures.items() if picture.shape == first}
    return SampledFrames(same, times, note, scale)


def _scale(width: int, height: int, count: int) -> float:
    """Return the factor by which ``count`` pictures are shrunk to fit in the memory budget."""
    return min(1.0, math.sqrt(_BUDGET / (count * width * height * 3)))


def _picture(source: Source, frame: av.VideoFrame, scale: float) -> Picture:
    """Convert a frame to a picture, shrunk by a factor."""
    picture = source.upright(frame)
    if scale == 1:
        return picture
    height, width = picture.shape[:2]
    smaller = max(1, int(width * scale)), max(1, int(height * scale))
    return shrink(picture, smaller)
