"""Checks that open encoded videos: broken files, compression unlike the folder's name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tokd_lightning.data.layouts.cells import Cells
from tokd_lightning.data.manifest import COLUMNS
from tokd_lightning.data.qualities import CRF, as_crf, claimed_crf, wrong_crf
from tokd_lightning.errors import reason
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

if TYPE_CHECKING:
    from tokd_lightning.data.video import Source

_BLOCK = 1 << 20


class Stream(NamedTuple):
    """Result of examining one video file.

    Attributes:
        frames: Number of frames; -1 if the video is broken.
        crf: The encoder's setting; None if the stream does not record it.
        digest: Digest of the file; empty if it was not requested.
        problem: A kind of finding, or empty.
        detail: What is wrong.
    """

    frames: int = -1
    crf: CRF = None
    digest: bytes = b""
    problem: str = ""
    detail: str = ""


class StreamJob(NamedTuple):
    """Video file to be examined."""

    file: Path
    quick: bool


def examine(job: StreamJob) -> Stream:
    """Decode a video to its end; can run in another process."""
    from tokd_lightning.data.stream import encoder_crf
    from tokd_lightning.data.video import DAMAGE, Source

    source = Source(job.file)
    try:
        if not job.file.stat().st_size:
            return Stream(problem="empty-file")
        frames = _declared(source) if job.quick else _decoded(source)
        crf = encoder_crf(job.file)
        return Stream(frames, crf, b"" if job.quick else _digest(job.file))
    except FileNotFoundError:
        return Stream(problem="missing-file")
    except DAMAGE as error:
        return Stream(problem="broken-video", detail=reason(error))


def _declared(source: Source) -> int:
    """Return the number of frames that the container declares, or else the number of packets."""
    from tokd_lightning.data.stream import declared_frames, read_packets

    return declared_frames(source) or read_packets(source).length


def _decoded(source: Source) -> int:
    """Decode and count all frames; raise on any damage."""
    from tokd_lightning.data.video import count_frames

    reading = count_frames(source)
    if reading.damage:
        raise ValueError(reading.damage)
    return reading.length


def _digest(file: Path) -> bytes:
    whole = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            whole.update(block)
    return whole.digest()[:16]


def report_streams(clips: Sequence[Clip], found: Sequence[Stream], report: Report) -> None:
    """Report the problems of single videos."""
    for clip, stream in zip(clips, found, strict=True):
        if stream.problem:
            report.add(stream.problem, clip.video.place, stream.detail)


def find_wrong_crf(clips: Sequence[Clip], found: Sequence[Stream], report: Report) -> None:
    """Compare the encoder's own setting with the quality that the folder is named after."""
    for clip, stream in zip(clips, found, strict=True):
        quality = clip.video.quality
        if claimed_crf(quality) is None or stream.problem:
            continue
        if stream.crf is None:
            report.add("unknown-crf", clip.video.place)
        elif detail := wrong_crf(quality, stream.crf):
            report.add("wrong-crf", clip.video.place, detail)


def find_wrong_sources(manifest: Path, quality: str | None, report: Report) -> None:
    """Report videos of a manifest that were extracted from files of another compression.

    ``tokd prepare`` records each video's encoder setting in the column ``crf``.

    Args:
        manifest: The table.
        quality: Quality of the rows to check; None checks all.
        report: Takes ``wrong-crf``.

    Raises:
        TokdError: It is not a table.
    """
    columns = Cells(manifest, COLUMNS).columns
    if not {"crf", "quality", "video"} <= set(columns):
        return
    names = ("dataset", "method", "video", "quality", "crf")
    nothing = [""] * len(columns["crf"])
    rows = dict.fromkeys(zip(*(columns.get(name, nothing) for name in names), strict=True))
    for *key, named, crf in rows:
        if quality in (None, named) and (detail := wrong_crf(named, as_crf(crf))):
            report.add("wrong-crf", "/".join(filter(None, key)), f"cut from a file {detail}")
