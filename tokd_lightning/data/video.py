"""The one reader of videos: which stream, which frames, upright and in RGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Picture = NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""
DAMAGE = (OSError, ValueError, av.FFmpegError)
"""What reading a broken video raises."""
# Containers and codec streams of videos. FFmpeg also opens playlists, which name other files and
# addresses, and text: a file that a stranger sent must not choose them.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,mxf"
)
_GUARD = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}


class Source(NamedTuple):
    """A video to read.

    Attributes:
        content: Its file, or the bytes of one.
        rotation: Degrees counterclockwise by which its frames are turned to be shown; None where
            the frames say so themselves.
        guarded: Whether it comes from a stranger and must not make FFmpeg read other files.
    """

    content: Path | bytes
    rotation: int | None = None
    guarded: bool = False

    def open(self) -> av.container.InputContainer:
        """Open it; raises OSError or ValueError (av.FFmpegError) if it is not a video."""
        content = self.content
        options = _GUARD if self.guarded else {}
        file = io.BytesIO(content) if isinstance(content, bytes) else str(content)
        return av.open(file, "r", options=options)

    def quarters(self, frame: av.VideoFrame) -> int:
        """Return by how many quarters of a full turn a frame is turned to be shown."""
        degrees = frame.rotation if self.rotation is None else self.rotation
        return round(degrees / 90) % 4

    def upright(self, frame: av.VideoFrame) -> Picture:
        """Convert a frame to RGB ``(H, W, 3)``, turned as it is to be shown."""
        picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return np.ascontiguousarray(np.rot90(picture, self.quarters(frame)))

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Return width and height of :meth:`upright` without converting."""
        sideways = self.quarters(frame) % 2
        return (frame.height, frame.width) if sideways else (frame.width, frame.height)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Choose the video stream that is read.

    Args:
        container: An open file.

    Raises:
        ValueError: It holds no video stream.
    """
    if not container.streams.video:
        raise ValueError("it holds no video stream")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    return stream


class Reading(NamedTuple, Generic[T]):
    """What was read from a video.

    Attributes:
        kept: What was made of each wanted frame that is there.
        length: Number of frames that can be decoded, from the first up to any damage.
        damage: Why it ends early or cannot be read; empty if nothing is wrong.
    """

    kept: list[T]
    length: int
    damage: str = ""


def read_frames(
    source: Source, wanted: Container[int], keep: Callable[[int, av.VideoFrame], T]
) -> Reading[T]:
    """Decode a video from end to end and make something of a few frames.

    A video is read up to the first damage, so that an index means the same frame at every quality.

    Args:
        source: The video.
        wanted: Indices.
        keep: Called with the index and the frame.
    """
    kept: list[T] = []
    damage: list[str] = []
    length = 0
    for frame in _decode(source, damage):
        if length in wanted:
            kept.append(keep(length, frame))
        length += 1
    return Reading(kept, length, "".join(damage))


def _decode(source: Source, damage: list[str]) -> Iterator[av.VideoFrame]:
    """Yield the frames up to the first damage, and add to a list what it is."""
    length = 0
    try:
        with source.open() as container:
            if not container.streams.video:
                damage.append("it holds no video stream")
                return
            stream = video_stream(container)
            # Without it a broken frame is made up from its neighbours.
            stream.codec_context.options = {"err_detect": "explode"}
            promised = stream.frames
            for packet in container.demux(stream):
                promised -= packet.is_discard
                for frame in packet.decode():
                    yield frame
                    length += 1
    except DAMAGE as error:
        damage.append(f"frame {length} cannot be decoded: {reason(error)}")
    else:
        if length < promised:
            damage.append(f"it ends after {length} of {promised} frames")
        elif not length:
            damage.append("it holds no frame")


def reason(error: Exception) -> str:
    """Return in a few words why a video cannot be read."""
    return getattr(error, "strerror", None) or str(error)
