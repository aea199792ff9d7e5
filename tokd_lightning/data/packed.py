"""Packs: all frames of a video in one file of raw pixels; no decoding, but more disk space.

A pack is a NumPy file with one structured array, a record per frame: ``frame``, its index in the
video, and ``image``, its uint8 RGB pixels ``(3, S, S)``. ``numpy.load(path, mmap_mode="r")`` opens
it. In a manifest, ``000_003.npy#7`` is record number 7 of such a file.
"""

import io
import itertools
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import write_bytes

PACK_SUFFIX = ".npy"
LMDB = "data.mdb"
_RECORD = re.compile(r"(.*\.npy)#(\d+)", re.DOTALL)
_VALUE = re.compile(r"((?:.*/)?data\.mdb)#(.+)", re.DOTALL)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NUMBER = np.dtype("<i4")

Pixels = npt.NDArray[np.uint8]


class _Layout(NamedTuple):
    """Position of a pack's records: first byte, bytes per record, count, side in pixels."""

    start: int
    stride: int
    records: int
    side: int


def split_path(path: str) -> tuple[str, int | str | None]:
    """Split a manifest's path into a file and the number or the key of a record.

    Args:
        path: Such as ``faces/000_003.npy#7``, ``faces/000_003/0012.jpg``, or a record of an LMDB,
            see :mod:`tokd_lightning.data.lmdb_frames`.

    Returns:
        The pack and the record's number, the LMDB and the record's key, or the path unchanged and
        None.
    """
    if "#" not in path:
        return path, None
    if (match := _RECORD.fullmatch(path)) is not None:
        return match[1], int(match[2])
    match = _VALUE.fullmatch(path)
    return (path, None) if match is None else (match[1], match[2])


def write_pack(path: Path, frames: list[int], images: Pixels) -> None:
    """Write the frames of one video atomically; equal frames give equal bytes.

    Args:
        path: Ends in :data:`PACK_SUFFIX`.
        frames: Index of each frame in the video, increasing.
        images: ``(T, 3, S, S)``, RGB; T may be 0.

    Raises:
        TokdError: The file cannot be written.
        ValueError: Frames and images do not match each other or the format of a pack.
    """
    if path.suffix != PACK_SUFFIX:
        raise ValueError(f"a pack is named *{PACK_SUFFIX}, not {path.name}")
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1:] != (3, *images.shape[-1:] * 2)
    ):
        raise ValueError(f"images must be uint8 (T, 3, S, S), not {images.dtype} {images.shape}")
    if len(frames) != len(images) or any(b <= a for a, b in itertools.pairwise(frames)):
        raise ValueError(f"{len(images)} images need as many increasing numbers, not {frames}")
    records = np.empty(len(frames), [("frame", _NUMBER), ("image", np.uint8, images.shape[1:])])
    records["frame"] = frames
    records["image"] = images
    content = io.BytesIO()
    np.save(content, records, allow_pickle=False)
    write_bytes(path, content.getvalue())


def pack_frames(path: Path) -> list[int]:
    """Read the index in the video of each frame in a pack, in the order of the records.

    Raises:
        TokdError: It is not a pack, or is incomplete.
    """
    try:
        with path.open("rb", buffering=0) as file:
            layout = _layout_of(file, path)
            raw = bytearray()
            for record in range(layout.records):
                file.seek(layout.start + record * layout.stride)
                raw += file.read(_NUMBER.itemsize)
    except (OSError, ValueError) as error:
        raise TokdError(
            f"cannot read {path}: {reason(error)}; delete it and run `tokd prepare` again, or "
            "continue without this video (--data.on_error skip)"
        ) from error
    numbers: list[int] = np.frombuffer(raw, _NUMBER).tolist()
    return numbers


def read_record(path: Path, index: int) -> Pixels:
    """Read one frame of a pack.

    Args:
        path: The pack; its header is read again only if the file changes.
        index: Number of the record.

    Returns:
        ``(3, S, S)``, RGB, a new writable array.

    Raises:
        ValueError: It cannot be read; the message is a short reason.
    """
    try:
        with path.open("rb", buffering=0) as file:
            layout = _layout_of(file, path)
            if not 0 <= index < layout.records:
                raise ValueError(f"it has {layout.records} frames and no number {index}")
            image = np.empty((3, layout.side, layout.side), np.uint8)
            file.seek(layout.start + index * layout.stride + _NUMBER.itemsize)
            if file.readinto(image.data) != image.nbytes:
                raise ValueError("it ends too early")
    except OSError as error:
        raise ValueError(error.strerror or "unreadable") from error
    return image


def _layout_of(file: BinaryIO, path: Path) -> _Layout:
    """Read the header of an open pack, unless it is cached."""
    stat = os.fstat(file.fileno())
    return _read_layout(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _read_layout(path: Path, length: int, changed: int) -> _Layout:
    """Read the header of a pack of ``length`` bytes; ``changed`` only serves as a cache key."""
    with path.open("rb") as file:
        try:
            shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
            fields = {name: kind for name, (kind, *_) in (dtype.fields or {}).items()}
            side = fields["image"].shape[-1]
            wanted = np.dtype([("frame", _NUMBER), ("image", np.uint8, (3, side, side))])
        except (ValueError, LookupError) as error:
            raise ValueError("not a pack of frames") from error
        start = file.tell()
    if dtype != wanted or len(shape) != 1:
        raise ValueError("not a pack of frames")
    if length != start + shape[0] * dtype.itemsize:
        raise ValueError("a pack that is cut off or too long")
    return _Layout(start, dtype.itemsize, shape[0], side)
