"""Re-encoded copy of a video at another quality, for data sets published at one quality only."""

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
# Colour properties of a frame, and the values that do not specify a YUV colour space (0 is RGB).
_COLOURS = {
    "colorspace": (0, 2, 3),
    "color_range": (0,),
    "color_primaries": (0, 2, 3),
    "color_trc": (0, 2, 3),
}
# As in the demo: with AVX-512 and B-frames, x264's macroblock tree reads uninitialised memory.
_REPEATABLE = {"x264-params": "mbtree=0"}


def reencode(path: Path, crf: int) -> tuple[Source, Reading[Matrix]]:
    """Re-encode all frames of a video by libx264 at a CRF, in memory.

    The pixel format is kept if libx264 supports it with 8 bits, else it becomes 4:2:0; pictures
    with an odd side become 4:4:4, which allows them. Matrix, range, primaries and transfer are
    copied, so that the copy has the colours of the original. Equal videos give equal bytes.

    Args:
        path: The video; it is read up to the first damage.
        crf: H.264's constant rate factor, 0 to 51.

    Returns:
        The copy, and the result of reading the original; the copy is empty if no frame was read.
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
        # Otherwise the encoder would repeat the picture types of the first encoding.
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
    """Return the width, height and pixel format in which a frame is encoded."""
    known = frame.format.name if frame.format.name in _FORMATS else "yuv420p"
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    return frame.width, frame.height, known if even else "yuv444p"


def _fit(frame: av.VideoFrame, width: int, height: int, form: str | None) -> av.VideoFrame:
    """Convert a frame; its matrix and range are kept, RGB gets the defaults of YUV."""
    if (frame.width, frame.height, frame.format.name) == (width, height, form):
        return frame
    scale = ("scale", f"{width}:{height}:flags=bicubic")
    return through_filters(frame, (scale, ("format", f"pix_fmts={form}")))


def _describe(stream: av.VideoStream, frame: av.VideoFrame) -> None:
    """Set the encoder's size, pixel format and, where known, colour properties."""
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
    stream.thread_count = 1
    context: Any = stream.codec_context
    for name, unknown in _COLOURS.items():
        if (value := int(getattr(frame, name))) not in unknown:
            setattr(context, name, value)
