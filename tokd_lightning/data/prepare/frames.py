"""Frames of a video, by index, and what becomes of one: upright, cut out, resized, encoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import av
import cv2
import numpy as np

from tokd_lightning.data.prepare.boxes import Square
from tokd_lightning.data.prepare.detectors import Picture
from tokd_lightning.data.prepare.options import Options
from tokd_lightning.errors import TokdError

T = TypeVar("T")
DAMAGE = (OSError, ValueError, av.FFmpegError)
"""What reading a broken video raises."""
_PNG_EFFORT = 3


class Source(NamedTuple):
    """A video to be read.

    Attributes:
        content: Its file, or the bytes of one.
        rotation: Degrees counterclockwise by which its frames are turned to be shown; None where
            the frames say so themselves.
    """

    content: Path | bytes
    rotation: int | None = None

    def open(self) -> av.container.InputContainer:
        """Open it; raises OSError or ValueError (av.FFmpegError) if it is no video."""
        content = self.content
        return av.open(io.BytesIO(content) if isinstance(content, bytes) else str(content), "r")

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


class Reading(NamedTuple, Generic[T]):
    """What came out of a video.

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
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
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
    """Say in a few words why a video cannot be read."""
    return getattr(error, "strerror", None) or str(error)


def cut_out(picture: Picture, square: Square, size: int) -> Picture:
    """Crop and resize without aliasing.

    Shrinking averages over areas (``cv2.INTER_AREA``), enlarging is bicubic.

    Args:
        picture: RGB, ``(H, W, 3)``.
        square: Lies inside the picture.
        size: Pixels along a side of the result.

    Returns:
        RGB, ``(size, size, 3)``.
    """
    x, y, side = square
    crop = picture[y : y + side, x : x + side]
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    resized = crop if side == size else cv2.resize(crop, (size, size), interpolation=way)
    result: Picture = np.ascontiguousarray(resized)
    return result


def encode_image(picture: Picture, options: Options) -> tuple[str, bytes]:
    """Encode a crop.

    JPEG keeps the colours at full resolution (4:4:4): halving it takes away the fine structure of
    colour, in which forgeries betray themselves, to save 15 % of the bytes.

    Args:
        picture: RGB, ``(H, W, 3)``.
        options: JPEG or PNG, and the quality.

    Returns:
        The file's suffix and its content.
    """
    if options.encoding == "png":
        suffix, how = ".png", [cv2.IMWRITE_PNG_COMPRESSION, _PNG_EFFORT]
    else:
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        suffix, how = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality]
        how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)
    if not done:
        raise TokdError(f"OpenCV cannot write {suffix} files: reinstall opencv-python-headless")
    return suffix, data.tobytes()
