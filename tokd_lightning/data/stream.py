"""What a video file says of itself without being decoded."""

import re
from pathlib import Path
from typing import BinaryIO, Literal

_OPTIONS = re.compile(rb"x264 - core [^\0]*? options: ([^\0]*)")
_CRF = re.compile(rb"(?<!\S)crf=([0-9]+(?:\.[0-9]+)?)(?!\S)")
_LOSSLESS = re.compile(rb"(?<!\S)(?:qp=0|crf=0(?:\.0+)?)(?!\S)")


def encoder_crf(path: Path) -> float | Literal["lossless"] | None:
    """Read the quality that x264 was asked for, from the options it leaves in the stream.

    x264 writes its options as user data into the first packet; encoders and programs that copy or
    strip streams may leave nothing.

    Args:
        path: A video file.

    Returns:
        The CRF, ``lossless`` for QP 0, or None where the stream does not tell.

    Raises:
        OSError: The file cannot be opened as a video (av.FFmpegError among them).
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            return None
        packet = next(container.demux(container.streams.video[0]), None)
        first = b"" if packet is None else bytes(packet)
    if (options := _OPTIONS.search(first)) is None:
        return None
    if _LOSSLESS.search(options[1]):
        return "lossless"
    crf = _CRF.search(options[1])
    return None if crf is None else float(crf[1])


def frame_count(source: Path | BinaryIO) -> int:
    """Count the frames of a video by its packets, which is exact for a whole file of H.264.

    What the header says is not asked, as headers lie about files that were cut off; a packet that
    cannot be decoded counts all the same.

    Args:
        source: A video file, or an open one.

    Raises:
        OSError: The file cannot be opened as a video (av.FFmpegError among them).
        ValueError: It holds no video stream, or is none (av.FFmpegError among them).
    """
    import av

    with av.open(str(source) if isinstance(source, Path) else source, "r") as container:
        if not container.streams.video:
            raise ValueError("it holds no video stream")
        packets = container.demux(container.streams.video[0])
        return sum(packet.size > 0 and not packet.is_discard for packet in packets)
