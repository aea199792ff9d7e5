"""Checks that open images: unreadable ones, odd sizes, wrong suffixes."""

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
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
# Kinds of frames that usually hold whole pictures: their size is that of the video.
_WHOLE = {"frames", "images"}


class Frame(NamedTuple):
    """Result of examining one image.

    Attributes:
        size: Width and height; None if it could not be read.
        digest: Digest of its content; empty if it could not be read or was not requested.
        problem: A kind of finding, or empty.
        detail: What is wrong.
    """

    size: tuple[int, int] | None = None
    digest: bytes = b""
    problem: str = ""
    detail: str = ""


class Frames(NamedTuple):
    """Results of examining the images of one clip, in the order of its files or records."""

    numbers: tuple[int, ...]
    frames: tuple[Frame, ...]

    @property
    def length(self) -> int:
        """Number of frames; -1 for a pack that cannot be read."""
        return -1 if self.frames and not self.numbers else len(self.numbers)


class FileJob(NamedTuple):
    """Images of one clip, to be examined."""

    root: Path
    files: tuple[str, ...]
    numbers: tuple[int, ...]
    is_pack: bool
    quick: bool


def examine(job: FileJob) -> Frames:
    """Read and decode all images of a clip; can run in another process.

    JPEGs are decoded at an eighth of their size: the whole file is read, few pixels are computed.
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
    except Exception as error:  # decoders raise anything for damaged bytes; all are findings
        return Frame(problem="unreadable-frame", detail=str(error))
    return Frame(size, b"" if quick else _digest(data), "wrong-suffix" if lies else "", detail)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, without decoding it."""
    # In a PNG without EXIF data before the pixels, Pillow searches after them.
    return 1 if image.format == "PNG" and "exif" not in image.info else orientation_of(image)


def report_frames(clips: Sequence[Clip], found: Sequence[Frames], report: Report) -> None:
    """Report the problems of single images."""
    for clip, frames in zip(clips, found, strict=True):
        for index, frame in enumerate(frames.frames):
            if frame.problem:
                report.add(frame.problem, clip.files[0 if clip.is_pack else index], frame.detail)


def find_odd_sizes(
    clips: Sequence[Clip], found: Sequence[Frames], size: int | None, report: Report
) -> None:
    """Find images whose size differs from that of their neighbours.

    Neighbours are all images of a quality and kind if most of them have one size, as crops do.
    Otherwise, and for whole frames, they are the images of the same video.

    Args:
        clips: Videos as frames.
        found: Results for their images.
        size: Side that all images should have; None compares them with their neighbours.
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
    """Return the size of more than half of the images, or None."""
    size, count = next(iter(sizes.most_common(1)), (None, 0))
    return size if 2 * count > sizes.total() else None
