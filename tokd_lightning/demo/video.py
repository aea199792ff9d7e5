"""Encoding and decoding of frames by a real H.264 encoder, as for FF++'s compressed versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.qualities import claimed_crf
from tokd_lightning.errors import TokdError

_WORST_CRF = 51
_FRAME_RATE = 25
# With AVX-512 and B-frames, x264's macroblock tree reads uninitialised memory: equal frames then
# give different files. All other options are x264's defaults.
_REPEATABLE = {"x264-params": "mbtree=0"}


def encoder_options(quality: str) -> dict[str, str]:
    """Return libx264's options for a quality folder: ``c23`` is CRF 23, ``c0`` and ``raw`` QP 0.

    Args:
        quality: Name of an FF++ quality folder.

    Raises:
        TokdError: The name is not a quality.
    """
    crf = claimed_crf(quality)
    if crf == "lossless":
        return {"qp": "0"}
    if crf is None or crf > _WORST_CRF:
        message = f"quality {quality!r} is unknown: use raw, c0, or c and H.264's CRF, as c23, c40"
        raise TokdError(message)
    return {"crf": f"{crf:g}"}


def encode(frames: NDArray[np.uint8], path: Path, quality: str) -> None:
    """Write frames as an MP4 by libx264, 4:4:4, at the CRF of the quality's name.

    Equal frames give equal bytes.

    Args:
        frames: RGB, ``(T, H, W, 3)``.
        path: The file to write.
        quality: Name of an FF++ quality folder, see :func:`encoder_options`.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", _FRAME_RATE, options=encoder_options(quality) | _REPEATABLE
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def decode(path: Path) -> NDArray[np.uint8]:
    """Read all frames of a video, RGB ``(T, H, W, 3)``."""
    from tokd_lightning.data.video import Source, read_frames

    source = Source(path)
    reading = read_frames(source, range(1 << 40), lambda _, frame: source.upright(frame))
    return np.stack(reading.kept)
