"""Versions of the libraries that read and write pictures; pixels may differ between versions."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from typing import Any

_OPENCV = tuple(f"opencv-{kind}" for kind in ("python-headless", "python", "contrib-python",
                                              "contrib-python-headless"))  # fmt: skip
_X264 = re.compile(rb"x264 - core ([^-\0]+?) - ")


@cache
def media_versions() -> dict[str, str]:
    """Return the installed versions of Pillow, OpenCV, PyAV, FFmpeg's decoders and x264.

    OpenCV is looked up among its four packages; x264's version is read from an encoded picture, as
    x264 writes it into the stream.
    """
    found = {name: version for name in ("pillow", "av") if (version := _version(name))}
    if opencv := next(filter(None, map(_version, _OPENCV)), ""):
        found["opencv"] = opencv
    if find_spec("av") is not None:
        import av

        found["libavcodec"] = ".".join(map(str, av.library_versions["libavcodec"]))
        if "libx264" in av.codecs_available:
            found["libx264"] = _x264_version()
    return found


def _version(package: str) -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _x264_version() -> str:
    import av

    context: Any = av.CodecContext.create("libx264", "w")
    context.width = context.height = 16
    context.pix_fmt, context.thread_count = "yuv420p", 1
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.pts = 0
    stream = b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    core = _X264.search(stream)
    return core[1].decode("ascii", "replace") if core else "unknown"
