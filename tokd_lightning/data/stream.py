"""Information in a video file that can be read without decoding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.qualities import CRF
from tokd_lightning.data.video import Source, promised_packets, video_stream

_OPTIONS = re.compile(rb"x264 - core [^\0]*? options: ([^\0]*)")
_CRF = re.compile(rb"(?<!\S)crf=([0-9]+(?:\.[0-9]+)?)(?!\S)")
_LOSSLESS = re.compile(rb"(?<!\S)(?:qp=0|crf=0(?:\.0+)?)(?!\S)")
_MOST_PACKETS = 5_000_000


class Packets(NamedTuple):
    """Packets of a video.

    Attributes:
        length: Number of frames, counted by packets, which is exact for a whole file of H.264.
        keys: Which of them are key frames.
        size: Width and height of the coded frames.
        crf: The encoder's setting in the first packet.
    """

    length: int
    keys: list[int]
    size: tuple[int, int]
    crf: CRF


def read_packets(source: Source) -> Packets:
    """Read the packets of a video.

    The header is not used, because it is wrong for truncated files; a packet that cannot be decoded
    is counted, one that an edit list hides is not.

    Args:
        source: The video.

    Raises:
        OSError: The file cannot be opened as a video (including av.FFmpegError).
        ValueError: It has no video stream, or is not a video (including av.FFmpegError).
    """
    keys: list[int] = []
    length = 0
    first: bytes | None = None
    with source.open() as container:
        stream = video_stream(container)
        size = stream.codec_context.width, stream.codec_context.height
        for packet in container.demux(stream):
            first = bytes(packet) if first is None else first
            if packet.size > 0 and not packet.is_discard:
                if packet.is_keyframe:
                    keys.append(length)
                length += 1
                if length > _MOST_PACKETS:
                    break
    return Packets(length, keys, size, crf_of(first or b""))


def declared_frames(source: Source) -> int:
    """Return the number of frames in a file's header or index; 0 if they do not give it.

    Raises:
        OSError: The file cannot be opened as a video (including av.FFmpegError).
        ValueError: It has no video stream.
    """
    with source.open() as container:
        stream = video_stream(container)
        promised = promised_packets(container, stream)
        hidden = sum(entry.is_discard for entry in stream.index_entries) if promised else 0
        return promised - hidden


def encoder_crf(path: Path) -> CRF:
    """Read the quality that was set in x264, from the options that it records in the stream.

    x264 writes its options as user data into the first packet; other encoders, and programs that
    copy or strip streams, may leave nothing.

    Args:
        path: A video file.

    Returns:
        The CRF, ``lossless`` for QP 0, or None if the stream does not record it.

    Raises:
        OSError: The file cannot be opened as a video (including av.FFmpegError).
        ValueError: It has no video stream.
    """
    with Source(path).open() as container:
        packet = next(container.demux(video_stream(container)), None)
        return crf_of(b"" if packet is None else bytes(packet))


def crf_of(packet: bytes) -> CRF:
    """Return the encoder's setting in the first packet of a video, see :func:`encoder_crf`."""
    if (options := _OPTIONS.search(packet)) is None:
        return None
    if _LOSSLESS.search(options[1]):
        return "lossless"
    crf = _CRF.search(options[1])
    return None if crf is None else float(crf[1])
