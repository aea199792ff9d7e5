"""A twin of a video at another quality, for data sets that were published at one only."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType

from tokd_lightning.data.video import (
    DAMAGE,
    Matrix,
    Reading,
    Source,
    read_frames,
    through_filters,
    video_stream,
)

_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
_USUAL_RATE = Fraction(25)
_ALL = range(1 << 40)
# What a frame says of its colours, and the numbers that say nothing of YUV (0 is RGB).
_COLOURS = {
    "colorspace": (0, 2, 3),
    "color_range": (0,),
    "color_primaries": (0, 2, 3),
    "color_trc": (0, 2, 3),
}
# As in the demo: with AVX-512 and B-frames, x264's macroblock tree reads memory it never wrote.
_REPEATABLE = {"x264-params": "mbtree=0"}


def reencode(path: Path, crf: int) -> tuple[Source, Reading[Matrix]]:
    """Encode a video again by libx264 at a CRF, all its frames, in memory.

    The pixel format is kept where libx264 has it with 8 bits; a picture whose sides are not even
    goes to 4:4:4, which needs no even ones. Matrix, range, primaries and transfer are handed on, so
    that the twin is shown in the colours of the original. Equal videos give equal bytes.

    Args:
        path: The video; it is read up to the first damage.
        crf: H.264's constant rate factor, 0 to 51.

    Returns:
        The twin, and how the original could be read; if not at all, the twin is empty.
    """
    target = io.BytesIO()
    original = Source(path)
    rate = _rate(original)
    streams: list[av.VideoStream] = []
    container = av.open(target, "w", format="mp4")

    def add(index: int, frame: av.VideoFrame) -> Matrix:
        matrix = original.display(frame)
        if not streams:
            streams.append(container.add_stream("libx264", rate, options=_options(crf)))
            frame = _fit(frame, *_form(frame))
            _describe(streams[0], frame)
        stream = streams[0]
        frame = _fit(frame, stream.width, stream.height, stream.pix_fmt)
        frame.pts, frame.time_base = index, 1 / rate
        # The encoder would repeat the choices of the first one.
        frame.pict_type = PictureType.NONE
        container.mux(stream.encode(frame))
        return matrix

    reading = read_frames(original, _ALL, add)
    if not streams:
        return Source(b""), reading
    container.mux(streams[0].encode(None))
    container.close()
    return Source(target.getvalue(), reading.kept[0]), reading


def _rate(source: Source) -> Fraction:
    try:
        with source.open() as container:
            rate = video_stream(container).average_rate
    except DAMAGE:
        return _USUAL_RATE
    return rate or _USUAL_RATE


def _options(crf: int) -> dict[str, str]:
    return {"crf": str(crf)} | _REPEATABLE


def _form(frame: av.VideoFrame) -> tuple[int, int, str]:
    """Return width, height and pixel format that a frame is encoded in."""
    known = frame.format.name if frame.format.name in _FORMATS else "yuv420p"
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    return frame.width, frame.height, known if even else "yuv444p"


def _fit(frame: av.VideoFrame, width: int, height: int, form: str | None) -> av.VideoFrame:
    """Convert a frame; its matrix and range stay, those of RGB become YUV's usual ones."""
    if (frame.width, frame.height, frame.format.name) == (width, height, form):
        return frame
    scale = ("scale", f"{width}:{height}:flags=bicubic")
    return through_filters(frame, (scale, ("format", f"pix_fmts={form}")))


def _describe(stream: av.VideoStream, frame: av.VideoFrame) -> None:
    """Tell the encoder size, format and colours of its frames, where those are known."""
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    stream.thread_count = 1
    context: Any = stream.codec_context
    for name, unknown in _COLOURS.items():
        if (value := int(getattr(frame, name))) not in unknown:
            setattr(context, name, value)
