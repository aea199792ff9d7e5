"""Finders that open encoded videos: broken ones, and compression that the folder's name denies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tokd_lightning.data.verify.findings import Report
from tokd_lightning.data.verify.inventory import Clip

_CLAIM = re.compile(r"c([0-9]{1,2})")
_LOSSLESS = ("raw", "c0")
_BLOCK = 1 << 20


class Stream(NamedTuple):
    """What one video file turned out to be.

    Attributes:
        frames: How many there are; -1 where the video is broken.
        crf: The encoder's setting; None where the stream does not tell.
        digest: Of the file; empty where it was not asked for.
        problem: A kind of finding, or nothing.
        detail: What is wrong.
    """

    frames: int = -1
    crf: float | Literal["lossless"] | None = None
    digest: bytes = b""
    problem: str = ""
    detail: str = ""


class Job(NamedTuple):
    """One video file."""

    file: Path
    quick: bool


def examine(job: Job) -> Stream:
    """Decode a video to its end; made to run in another process."""
    import av

    from tokd_lightning.data.stream import encoder_crf

    try:
        if not job.file.stat().st_size:
            return Stream(problem="empty-file")
        frames = _declared(job.file) if job.quick else _decoded(job.file)
        crf = encoder_crf(job.file)
        return Stream(frames, crf, b"" if job.quick else _digest(job.file))
    except FileNotFoundError:
        return Stream(problem="missing-file")
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Stream(problem="broken-video", detail=reason)


def _declared(file: Path) -> int:
    """Return how many frames the container says there are, or else how many packets it holds."""
    from tokd_lightning.data.video import Source, video_stream

    with Source(file).open() as container:
        stream = video_stream(container)
        return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))


def _decoded(file: Path) -> int:
    """Decode all frames without forgiving anything, and count them."""
    from tokd_lightning.data.video import Source, video_stream

    with Source(file).open() as container:
        stream = video_stream(container)
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
        count = sum(1 for _ in container.decode(stream))
        if count < stream.frames:
            raise ValueError(f"it ends after {count} of {stream.frames} frames")
    return count


def _digest(file: Path) -> bytes:
    whole = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            whole.update(block)
    return whole.digest()[:16]


def report_streams(clips: Sequence[Clip], found: Sequence[Stream], report: Report) -> None:
    """Report what is wrong with single videos."""
    for clip, stream in zip(clips, found, strict=True):
        if stream.problem:
            report.add(stream.problem, clip.video.place, stream.detail)


def find_wrong_crf(clips: Sequence[Clip], found: Sequence[Stream], report: Report) -> None:
    """Hold the encoder's own setting against the quality that the folder is named after.

    ``c23`` claims CRF 23, ``c0`` and ``raw`` lossless coding; other names claim nothing.
    """
    for clip, stream in zip(clips, found, strict=True):
        quality = clip.video.quality
        match = _CLAIM.fullmatch(quality)
        claim: float | str | None = float(match[1]) if match else None
        if quality in _LOSSLESS:
            claim = "lossless"
        if claim is None or stream.problem:
            continue
        crf = "lossless" if stream.crf == 0 else stream.crf
        if crf is None:
            report.add("unknown-crf", clip.video.place)
        elif crf != claim:
            said = crf if isinstance(crf, str) else f"CRF {crf:g}"
            report.add("wrong-crf", clip.video.place, f"encoded at {said}")
