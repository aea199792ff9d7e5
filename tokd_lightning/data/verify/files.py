"""Finders that open images: unreadable ones, odd sizes, names that lie."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from tokd_lightning.data.image import orientation, orientation_of, upright_size
from tokd_lightning.data.packed import pack_frames, read_record
from tokd_lightning.data.verify.findings import Report
from tokd_lightning.data.verify.inventory import Clip
from tokd_lightning.errors import TokdError

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
# Kinds of frames that hold whole pictures as a rule: their size is the video's own.
_WHOLE = {"frames", "images"}


class Frame(NamedTuple):
    """What one image turned out to be.

    Attributes:
        size: Width and height; None where it could not be read.
        digest: Of its content; empty where it could not be read or was not asked for.
        problem: A kind of finding, or nothing.
        detail: What is wrong.
    """

    size: tuple[int, int] | None = None
    digest: bytes = b""
    problem: str = ""
    detail: str = ""


class Frames(NamedTuple):
    """What the images of one clip turned out to be, in the order of its files or records."""

    numbers: tuple[int, ...]
    frames: tuple[Frame, ...]

    @property
    def length(self) -> int:
        """How many frames there are; -1 for a pack that cannot be read."""
        return -1 if self.frames and not self.numbers else len(self.numbers)


class Job(NamedTuple):
    """The images of one clip."""

    root: Path
    files: tuple[str, ...]
    numbers: tuple[int, ...]
    is_pack: bool
    quick: bool


def examine(job: Job) -> Frames:
    """Read and decode all images of a clip; made to run in another process.

    JPEGs are decoded to an eighth of their size: all of the file is read, few pixels are computed.
    """
    if not job.is_pack:
        return Frames(job.numbers, tuple(_examine(job.root / f, job.quick) for f in job.files))
    pack = job.root / job.files[0]
    try:
        if not pack.exists():
            return Frames((), (Frame(problem="missing-file"),))
        if not pack.stat().st_size:
            return Frames((), (Frame(problem="empty-file"),))
        numbers = pack_frames(pack)
        if job.quick:
            return Frames(tuple(numbers), ())
        records = [read_record(pack, index) for index in range(len(numbers))]
    except (OSError, ValueError, TokdError) as error:
        return Frames((), (Frame(problem="unreadable-frame", detail=str(error)),))
    sides = [(record.shape[2], record.shape[1]) for record in records]
    digests = [_digest(record.tobytes()) for record in records]
    return Frames(tuple(numbers), tuple(map(Frame, sides, digests)))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _examine(file: Path, quick: bool) -> Frame:
    try:
        data = b"" if quick else file.read_bytes()
        if not (file.stat().st_size if quick else data):
            return Frame(problem="empty-file")
        with Image.open(file if quick else io.BytesIO(data)) as image:
            size = upright_size(image, _orientation(image) if quick else orientation(data))
            lies = image.format != _FORMATS.get(file.suffix.lower(), image.format)
            detail = f"it is {image.format}" if lies else ""
            if not quick:
                image.draft(None, (1, 1))
                image.load()
    except FileNotFoundError:
        return Frame(problem="missing-file")
    except UnidentifiedImageError:
        return Frame(problem="unreadable-frame", detail="not an image")
    except Exception as error:  # decoders of damaged bytes fail in many ways; all are findings
        return Frame(problem="unreadable-frame", detail=str(error))
    return Frame(size, b"" if quick else _digest(data), "wrong-suffix" if lies else "", detail)


def _orientation(image: Image.Image) -> int:
    """Return how an image is to be turned, without decoding it."""
    # Pillow looks for a PNG's behind the pixels where there is none before them.
    return 1 if image.format == "PNG" and "exif" not in image.info else orientation_of(image)


def report_frames(clips: Sequence[Clip], found: Sequence[Frames], report: Report) -> None:
    """Report what is wrong with single images."""
    for clip, frames in zip(clips, found, strict=True):
        for index, frame in enumerate(frames.frames):
            if frame.problem:
                report.add(frame.problem, clip.files[0 if clip.is_pack else index], frame.detail)


def find_odd_sizes(
    clips: Sequence[Clip], found: Sequence[Frames], size: int | None, report: Report
) -> None:
    """Find images whose size is not that of their neighbours.

    Neighbours are all images of a quality and kind where most of them are of one size, as crops
    are, and otherwise, or where whole frames are kept, the images of the same video.

    Args:
        clips: Videos as frames.
        found: What their images are.
        size: Side that all of them should have instead.
        report: Takes ``odd-size``.
    """
    groups: dict[tuple[str, str, str], Counter[tuple[int, int]]] = defaultdict(Counter)
    for clip, frames in zip(clips, found, strict=True):
        group = (clip.video.dataset, clip.video.quality, clip.kind)
        groups[group].update(f.size for f in frames.frames if f.size)
    for clip, frames in zip(clips, found, strict=True):
        group = (clip.video.dataset, clip.video.quality, clip.kind)
        mine = Counter(f.size for f in frames.frames if f.size)
        neighbours = mine if clip.kind in _WHOLE else groups[group]
        wanted = (size, size) if size else _usual(neighbours) or _usual(mine)
        for index, frame in enumerate(frames.frames):
            if frame.size and wanted and frame.size != wanted:
                item = clip.files[0 if clip.is_pack else index]
                detail = "{}x{}, not {}x{}".format(*frame.size, *wanted)
                report.add("odd-size", item, detail)


def _usual(sizes: Counter[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the size that more than half of the images have, if there is one."""
    size, count = next(iter(sizes.most_common(1)), (None, 0))
    return size if 2 * count > sizes.total() else None
