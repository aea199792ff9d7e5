"""A twin of a video at another quality, for data sets that were published at one only."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import PictureType

from tokd_lightning.data.video import DAMAGE, Reading, Source, read_frames, video_stream

_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
_USUAL_RATE = Fraction(25)
_ALL = range(1 << 40)
# As in the demo: with AVX-512 and B-frames, x264's macroblock tree reads memory it never wrote.
_REPEATABLE = {"x264-params": "mbtree=0"}


def reencode(path: Path, crf: int) -> tuple[Source, Reading[int]]:
    """Encode a video again by libx264 at a CRF, all its frames, in memory.

    The pixel format is kept where libx264 has it with 8 bits; a picture whose sides are not even
    goes to 4:4:4, which needs no even ones. Equal videos give equal bytes.

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

    def add(index: int, frame: av.VideoFrame) -> int:
        if not streams:
            streams.append(_add_stream(container, frame, rate, crf))
        stream = streams[0]
        rotation: int = frame.rotation
        frame = frame.reformat(stream.width, stream.height, stream.pix_fmt)
        frame.pts, frame.time_base = index, 1 / rate
        # The encoder would repeat the choices of the first one.
        frame.pict_type = PictureType.NONE
        container.mux(stream.encode(frame))
        return rotation

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


def _add_stream(
    container: av.container.OutputContainer, frame: av.VideoFrame, rate: Fraction, crf: int
) -> av.VideoStream:
    stream = container.add_stream("libx264", rate, options={"crf": str(crf)} | _REPEATABLE)
    stream.width, stream.height = frame.width, frame.height
    known = frame.format.name if frame.format.name in _FORMATS else "yuv420p"
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    stream.pix_fmt = known if even else "yuv444p"
    stream.thread_count = 1
    return stream
