"""What a video file says of itself without being decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.quality import CRF
from tokd_lightning.data.video import Source, promised_packets, video_stream

_OPTIONS = re.compile(rb"x264 - core [^\0]*? options: ([^\0]*)")
_CRF = re.compile(rb"(?<!\S)crf=([0-9]+(?:\.[0-9]+)?)(?!\S)")
_LOSSLESS = re.compile(rb"(?<!\S)(?:qp=0|crf=0(?:\.0+)?)(?!\S)")
_MOST_PACKETS = 5_000_000


class Packets(NamedTuple):
    """The packets of a video.

    Attributes:
        length: Number of frames, counted by packets, which is exact for a whole file of H.264.
        keys: Which of them are key frames.
        size: Width and height of the frames as they are coded.
        crf: What the first packet says of the encoder.
    """

    length: int
    keys: list[int]
    size: tuple[int, int]
    crf: CRF


def read_packets(source: Source) -> Packets:
    """Read the packets of a video.

    What the header says is not asked, as headers lie about files that were cut off; a packet that
    cannot be decoded counts all the same, one that an edit list hides does not.

    Args:
        source: The video.

    Raises:
        OSError: The file cannot be opened as a video (av.FFmpegError among them).
        ValueError: It holds no video stream, or is none (av.FFmpegError among them).
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
    """Return how many frames a file's header or index says there are; 0 where they do not say.

    Raises:
        OSError: The file cannot be opened as a video (av.FFmpegError among them).
        ValueError: It holds no video stream.
    """
    with source.open() as container:
        stream = video_stream(container)
        promised = promised_packets(container, stream)
        hidden = sum(entry.is_discard for entry in stream.index_entries) if promised else 0
        return promised - hidden


def encoder_crf(path: Path) -> CRF:
    """Read the quality that x264 was asked for, from the options it leaves in the stream.

    x264 writes its options as user data into the first packet; encoders and programs that copy or
    strip streams may leave nothing.

    Args:
        path: A video file.

    Returns:
        The CRF, ``lossless`` for QP 0, or None where the stream does not tell.

    Raises:
        OSError: The file cannot be opened as a video (av.FFmpegError among them).
        ValueError: It holds no video stream.
    """
    with Source(path).open() as container:
        packet = next(container.demux(video_stream(container)), None)
        return crf_of(b"" if packet is None else bytes(packet))


def crf_of(packet: bytes) -> CRF:
    """Return what the first packet of a video says of the encoder, see :func:`encoder_crf`."""
    if (options := _OPTIONS.search(packet)) is None:
        return None
    if _LOSSLESS.search(options[1]):
        return "lossless"
    crf = _CRF.search(options[1])
    return None if crf is None else float(crf[1])
