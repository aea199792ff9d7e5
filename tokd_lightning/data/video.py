"""Reading of videos: choice of stream, choice of frames, upright and in RGB.

Pictures are the same as those of FFmpeg's own program: colour conversion and display matrix go
through its filters, which obey the matrix and the range that a frame is tagged with.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import struct
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from io import BufferedRandom
from pathlib import Path
from threading import get_ident
from typing import Any, Generic, NamedTuple, TypeVar, cast

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from tokd_lightning.errors import reason

T = TypeVar("T")
Picture = NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""
Matrix = tuple[int, ...]
"""A display matrix: nine numbers, row by row."""
DAMAGE = (OSError, ValueError, av.FFmpegError)
"""Exceptions raised for a broken video."""
UPRIGHT: Matrix = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
# Containers and codec streams of videos. FFmpeg also opens playlists, which name other files and
# addresses, and text: an untrusted file must not make it do so.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,mxf"
)
_GUARD = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
_STILLS = {"mjpeg", "png", "apng", "bmp", "gif", "tiff", "webp", "jpegls", "jpeg2000"}
_DEFAULT_BONUS = 5_000_000  # FFmpeg's own, in pixels
_SCALE = (("scale", "flags=bicubic"), ("format", "pix_fmts=rgb24"))
_BUDGET = 128 << 20  # enough for 32 frames of 1080p, but not of 4K
_STRAIGHT = 1.0  # degrees
_TICKS = itertools.count()


@dataclass(frozen=True)
class Source:
    """Video to read.

    Args:
        content: Its file, or the bytes of one.
        matrix: Display matrix that rotates and mirrors its frames; None uses that of each frame.
        guarded: Whether it is untrusted and must not make FFmpeg read other files.
    """

    content: Path | bytes
    matrix: Matrix | None = None
    guarded: bool = False
    _seen: dict[int, Matrix] = field(default_factory=dict, repr=False, compare=False)

    def open(self) -> av.container.InputContainer:
        """Open it; raises OSError or ValueError (av.FFmpegError) if it is not a video."""
        content = self.content
        options = _GUARD if self.guarded else {}
        file = io.BytesIO(content) if isinstance(content, bytes) else str(content)
        return av.open(file, "r", options=options)

    def display(self, frame: av.VideoFrame) -> Matrix:
        """Return the display matrix of a frame."""
        if self.matrix is not None:
            return self.matrix
        # Reading a frame's side data keeps it in memory until Python collects cycles: this is done
        # for one frame per angle only.
        try:
            angle: int = frame.rotation
        except ValueError:  # a matrix without an angle
            return UPRIGHT
        if angle not in self._seen:
            self._seen[angle] = display_matrix(frame)
        return self._seen[angle]

    def upright(self, frame: Frame) -> Picture:
        """Convert a frame to RGB ``(H, W, 3)``, rotated and mirrored for display.

        Args:
            frame: A frame, or what :class:`Shelf` returned for it.
        """
        if isinstance(frame, Stored):
            frame.file.seek(frame.place)
            picture = np.empty(frame.shape, np.uint8)
            frame.file.readinto(picture.data)
            return picture
        chain = (*_turns(self.display(frame)), *_SCALE)
        shown = through_filters(frame, chain).to_ndarray()
        return np.ascontiguousarray(shown, np.uint8)

    def size(self, frame: Frame) -> tuple[int, int]:
        """Return width and height of :meth:`upright` without converting."""
        if isinstance(frame, Stored):
            return frame.shape[1], frame.shape[0]
        sideways = any(name == "transpose" for name, _ in _turns(self.display(frame)))
        return (frame.height, frame.width) if sideways else (frame.width, frame.height)


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """Return the display matrix in a frame's side data; by default :data:`UPRIGHT`."""
    said: Any = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if said is None else struct.unpack("=9i", bytes(said))


def _turns(matrix: Matrix) -> list[tuple[str, str]]:
    """List the filters that show a frame upright, as FFmpeg's own program inserts them."""
    if matrix == UPRIGHT:
        return []
    across, along = math.hypot(matrix[0], matrix[3]), math.hypot(matrix[1], matrix[4])
    if not across or not along:
        return []
    theta = math.degrees(math.atan2(matrix[1] / along, matrix[0] / across)) % 360
    if abs(theta - 90) < _STRAIGHT:
        return [("transpose", "cclock_flip" if matrix[3] > 0 else "clock")]
    if abs(theta - 180) < _STRAIGHT:
        mirrors = (("hflip", matrix[0] < 0), ("vflip", matrix[4] < 0))
        return [(name, "") for name, wanted in mirrors if wanted]
    if abs(theta - 270) < _STRAIGHT:
        return [("transpose", "clock_flip" if matrix[3] < 0 else "cclock")]
    if _STRAIGHT <= theta <= 360 - _STRAIGHT:
        return [("rotate", f"{round(theta)}*PI/180")]
    return [("vflip", "")] if matrix[4] < 0 else []


def through_filters(frame: av.VideoFrame, chain: Iterable[tuple[str, str]]) -> av.VideoFrame:
    """Send one frame through FFmpeg's filters.

    Args:
        frame: The frame; its own colour tags count, not those of the stream.
        chain: Names of filters and their options.

    Raises:
        OSError: FFmpeg cannot apply the filters (including av.FFmpegError).
    """
    graph = _graph(_form(frame), tuple(chain), get_ident())
    # Frames of many videos pass through one graph, which requires increasing timestamps.
    times = frame.pts, frame.time_base
    frame.pts, frame.time_base = next(_TICKS), Fraction(1)
    try:
        graph.push(frame)
        return cast(av.VideoFrame, graph.pull())
    except BaseException:
        _graph.cache_clear()
        raise
    finally:
        frame.pts = times[0]
        if times[1] is not None:
            frame.time_base = times[1]


def _form(frame: av.VideoFrame) -> str:
    """Return the properties of a frame that its graph depends on, as options of FFmpeg."""
    form = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1"
    return f"{form}:colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"


# Python frees a graph and its buffers late, so all frames of one form share a graph per thread.
@lru_cache(maxsize=4)
def _graph(form: str, chain: tuple[tuple[str, str], ...], thread: int) -> Graph:
    """Build a single-threaded graph of one input, the filters and one output."""
    graph = Graph()
    graph.threads = 1
    last = graph.add("buffer", form)
    for name, options in (*chain, ("buffersink", "")):
        step = graph.add(name, options or None)
        last.link_to(step)
        last = step
    graph.configure()
    return graph


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Choose the video stream that is shown, as FFmpeg's own program does.

    It is the one with the most pixels, with a bonus for the default stream; a cover picture is
    chosen only if there is nothing else. A still image among streams of more frames counts as a
    cover too, even if it is not tagged as one.

    Args:
        container: An open file at its start.

    Returns:
        The stream, set to decode on one thread.

    Raises:
        ValueError: The file has no video stream.
    """
    streams = sorted(container.streams.video, key=_rank, reverse=True)
    if not streams:
        raise ValueError("it holds no video stream")
    chosen = streams[0]
    if len(streams) > 1 and chosen.codec_context.name in _STILLS and not chosen.frames > 1:
        found = dict.fromkeys((stream.index for stream in streams), 0)
        with contextlib.suppress(*DAMAGE):
            for packet in container.demux(streams):
                found[packet.stream_index] += packet.size > 0
        container.seek(0)
        several = [stream for stream in streams if found[stream.index] > 1]
        chosen = next(iter(several), chosen)
    chosen.codec_context.thread_count = 1
    return chosen


def _rank(stream: av.VideoStream) -> int:
    said = type(stream.disposition)
    if stream.disposition & said.attached_pic:
        return 0
    pixels = stream.codec_context.width * stream.codec_context.height
    return 1 + pixels + _DEFAULT_BONUS * bool(stream.disposition & said.default)


class Stored(NamedTuple):
    """Frame that :class:`Shelf` wrote to disk, upright."""

    file: BufferedRandom
    place: int
    shape: tuple[int, ...]


Frame = av.VideoFrame | Stored


class Shelf:
    """Frames kept for later, in memory and, beyond a budget, on disk.

    Args:
        budget: Maximum bytes of frames in memory.
    """

    def __init__(self, budget: int = _BUDGET) -> None:
        self.budget = budget
        self.held = 0
        self.file: BufferedRandom | None = None

    def keep(self, source: Source, frame: av.VideoFrame) -> Frame:
        """Keep a frame.

        Args:
            source: Its video.
            frame: The frame.

        Returns:
            The frame or its copy on disk, for :meth:`Source.upright`.

        Raises:
            OSError: The disk is full.
        """
        size = sum(plane.buffer_size for plane in frame.planes)
        if self.held + size <= self.budget:
            self.held += size
            return frame
        picture = source.upright(frame)
        if self.file is None:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (see clear)
        place = self.file.seek(0, io.SEEK_END)
        try:
            self.file.write(picture.data)
            self.file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        return Stored(self.file, place, picture.shape)

    def clear(self) -> None:
        """Drop all frames; none of them may be used afterwards."""
        if self.file is not None:
            self.file.close()
        self.held, self.file = 0, None


class Reading(NamedTuple, Generic[T]):
    """Result of reading a video.

    Attributes:
        kept: Result of ``keep`` for each wanted frame that exists, see :func:`read_frames`.
        length: Number of frames that can be decoded, from the first up to any damage.
        damage: Why it ends early or cannot be read; empty if nothing is wrong.
    """

    kept: list[T]
    length: int
    damage: str = ""


def read_frames(
    source: Source, wanted: Container[int], keep: Callable[[int, av.VideoFrame], T]
) -> Reading[T]:
    """Decode a whole video and process some of its frames.

    A video is read up to the first damage, so that an index means the same frame at every quality.

    Args:
        source: The video.
        wanted: Indices of the frames to process.
        keep: Called with the index and the frame.
    """
    kept: list[T] = []
    damage: list[str] = []
    length = 0
    for frame in _decode(source, damage, {}):
        if length in wanted:
            kept.append(keep(length, frame))
        length += 1
    return Reading(kept, length, "".join(damage))


def count_frames(source: Source) -> Reading[None]:
    """Decode a whole video without converting frames, and count them.

    Args:
        source: The video.
    """
    damage: list[str] = []
    # Stream errors are detected without the loop filter, which takes a third of the time.
    length = sum(1 for _ in _decode(source, damage, {"skip_loop_filter": "all"}))
    return Reading([], length, "".join(damage))


def _decode(source: Source, damage: list[str], options: dict[str, str]) -> Iterator[av.VideoFrame]:
    """Yield the frames up to the first damage, and append its description to ``damage``."""
    length, missing, opened = 0, 0, False
    try:
        with source.open() as container:
            stream = video_stream(container)
            opened = True
            # Otherwise a broken frame is reconstructed from its neighbours.
            stream.codec_context.options = {"err_detect": "explode"} | options
            missing = promised_packets(container, stream)
            for packet in container.demux(stream):
                ends = not packet.size and packet.dts is None
                missing -= not ends
                if packet.size or ends:
                    for frame in packet.decode():
                        _refuse_colours(frame)
                        yield frame
                        length += 1
    except DAMAGE as error:
        where = f"frame {length} cannot be decoded: " if opened else ""
        damage.append(f"{where}{reason(error)}")
    else:
        if missing > 0:
            damage.append(f"it ends after {length} of {length + missing} frames")
        elif not length:
            damage.append("it holds no frame")


def promised_packets(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Return the number of packets that a file declares; 0 if it declares none.

    The header counts frames that an edit list omits or repeats, and AVI's empty chunks, which only
    represent time. The index does not, and is available before anything is read.

    Args:
        container: An open file.
        stream: The one that is read.
    """
    frames: int = stream.frames
    indexed = container.format.name.startswith("mov")
    if container.format.name == "avi":  # a truncated file has lost its index
        indexed = stream.duration == frames
    return len(stream.index_entries) if frames and indexed else frames


def _refuse_colours(frame: av.VideoFrame) -> None:
    """Raise ValueError if FFmpeg cannot convert a frame to RGB."""
    try:
        _graph(_form(frame), _SCALE, get_ident())
    except av.FFmpegError as error:
        said = f"{frame.format.name}, matrix {int(frame.colorspace)} of ITU-T H.273"
        raise ValueError(f"FFmpeg cannot convert its colours ({said})") from error
