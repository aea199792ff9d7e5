"""Reader of data sets of all layouts, which detects the layout from the folder's content."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from tokd_lightning.data.layouts.celebdf import list_celebdf, scan_celebdf
from tokd_lightning.data.layouts.celebdf_tree import PARTS
from tokd_lightning.data.layouts.collections import (
    collection_of,
    list_collection,
    scan_collection,
)
from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.layouts.dfdc import find_metadata, is_metadata, list_dfdc, scan_dfdc
from tokd_lightning.data.layouts.ffpp import ALL_METHODS, FAKE, REAL, list_ffpp
from tokd_lightning.data.layouts.flat import is_flat, list_flat, scan_flat
from tokd_lightning.data.layouts.listed import UNKNOWN
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.layouts.video_folder import FOLDERS, NOT_VIDEOS, VIDEOS, Video, gather
from tokd_lightning.data.manifest import Scan
from tokd_lightning.data.qualities import ORIGINAL, best_first, same_quality
from tokd_lightning.errors import TokdError

MANIFEST = "manifest.csv"
_FFPP = (REAL, FAKE)


def root_of(path: Path, root: Path | None = None) -> Path:
    """Return the folder that the paths of :func:`read_any` are relative to.

    Args:
        path: A folder, or a file that lists frames.
        root: The folder that the user gave, if any.
    """
    if root is not None:
        return root
    return path if path.is_dir() else path.absolute().parent


def read_any(
    path: Path,
    quality: str | None = None,
    frames_per_video: int = 32,
    splits: Path | None = None,
    root: Path | None = None,
) -> Scan:
    """Index the frames of a data set of any known layout.

    The layouts, tried in this order: a table ``.csv``, DFDC's ``metadata.json``, a ``.json`` of
    DeepfakeBench, the trees of FF++ and Celeb-DF, the flat tree, a folder with a ``manifest.csv``,
    the trees of FFIW and WildDeepfake, and one with DFDC's list or parts. For FF++ all methods on
    disk are taken; videos of its split files that do not exist are listed as empty.

    Args:
        path: The folder or the file.
        quality: The quality to take; None takes all of them into one manifest.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.
        splits: FF++'s split files or Celeb-DF's test list, if they are elsewhere.
        root: Folder that the paths in a file are relative to; by default the file's folder.

    Returns:
        The manifest, not yet checked, with paths relative to :func:`root_of`.

    Raises:
        TokdError: The path is not such a data set, or has a fault that its layout does not allow.
    """
    kind = _kind(path)
    if kind == "csv":
        file = path / MANIFEST if path.is_dir() else path
        return scan_table(file, root, quality, frames_per_video)
    if kind == "dfdc":
        place = root_of(path, root)
        return scan_dfdc(place, find_metadata(path), quality or UNKNOWN, frames_per_video)
    if kind == "json":
        return scan_deepfakebench(path, root, quality, frames_per_video)
    if kind == "collection":
        return scan_collection(path, quality or UNKNOWN, frames_per_video)
    if kind == "flat":
        return scan_flat(path, quality or UNKNOWN, frames_per_video)
    if kind == "celebdf":
        found = [quality] if quality is not None else _celebdf_qualities(path, FOLDERS)
        return _together(
            [scan_celebdf(path, q, splits, frames_per_video=frames_per_video) for q in found]
        )
    return _together(
        [
            _scan_present(path, videos, frames_per_video)
            for videos in _list_ffpp(path, quality, splits, FOLDERS, strict=False)
        ]
    )


def list_any(
    path: Path, quality: str | None = None, splits: Path | None = None, strict: bool = True
) -> list[Video]:
    """List the video files of an FF++, Celeb-DF, FFIW, DFDC or flat tree.

    Args:
        path: The tree.
        quality: The quality to take; None takes all.
        splits: FF++'s split files or Celeb-DF's test list, if they are elsewhere.
        strict: Whether a missing video of these is an error; otherwise it is listed with its
            expected path.

    Raises:
        TokdError: The path is not such a tree, or has no video files.
    """
    kind = _kind(path)
    if kind in ("csv", "json") or path.is_file():
        raise TokdError(f"{path} lists frames, not video files: name the tree of the videos")
    if kind == "dfdc":
        return list_dfdc(path, find_metadata(path), quality or UNKNOWN)
    if kind == "collection":
        return list_collection(path, quality or UNKNOWN, files=True)
    if kind == "flat":
        return list_flat(path, quality or UNKNOWN, files=True)
    if kind == "celebdf":
        found = [quality] if quality is not None else _celebdf_qualities(path, (VIDEOS,))
        lists = [list_celebdf(path, q, splits, VIDEOS, strict=strict) for q in found]
    else:
        lists = list(_list_ffpp(path, quality, splits, (VIDEOS,), strict))
    return [video for videos in lists for video in videos]


def _kind(path: Path) -> str:
    """Return the layout of a path."""
    if path.is_file() and path.suffix.lower() == ".json" and is_metadata(path):
        return "dfdc"
    if path.is_file() and path.suffix.lower() in (".csv", ".json"):
        return path.suffix.lower()[1:]
    if not path.exists():
        raise TokdError(f"there is no {path}")
    if path.is_dir():
        if any((path / part).is_dir() for part in _FFPP):
            return "ffpp"
        names = {part.lower() for part in PARTS}
        if any(place.name.lower() in names and place.is_dir() for place in path.iterdir()):
            return "celebdf"
        if is_flat(path):
            return "flat"
        if (path / MANIFEST).is_file():
            return "csv"
        if collection_of(path):
            return "collection"
        if find_metadata(path):
            return "dfdc"
        if {"real", "fake"} <= {place.name.lower() for place in path.iterdir()}:
            raise TokdError(
                f"{path} has real/ and fake/ but no splits: move both below train/, and the videos "
                "of other people below val/ and test/"
            )
    raise TokdError(
        f"{path} is not a data set of a known layout: neither a .csv nor a .json file, nor "
        f"a folder with {_FFPP[0]}/ (FF++), Celeb-real/ (Celeb-DF), train/real/ (flat) or "
        f"{MANIFEST}"
    )


def _list_ffpp(
    root: Path, quality: str | None, splits: Path | None, kinds: Sequence[str], strict: bool
) -> list[list[Video]]:
    """List the videos of an FF++ tree by quality, with the methods that have any."""
    parts = {method: _qualities([root / _FFPP[1] / method], kinds) for method in ALL_METHODS}
    found = _qualities([root / _FFPP[1] / method for method in ALL_METHODS], kinds)
    if not found:
        way_out = (
            "get the data set's videos"  # for tokd prepare, which must not recommend itself
            if list(kinds) == ["videos"]
            else "extract them with `tokd prepare ffpp`"
        )
        raise TokdError(
            f"{root} has no {' or '.join(kinds)} in {_FFPP[1]}/<method>/<quality>/: {way_out}, or "
            "check that the path is the tree's root"
        )
    wanted = [q for i, q in enumerate(found) if not any(same_quality(q, p) for p in found[:i])]
    if quality is not None:
        if not any(same_quality(quality, q) for q in found):
            raise TokdError(f"{root} has no quality {quality!r}: choose from {', '.join(found)}")
        wanted = [quality]
    methods = {
        name: [m for m, there in parts.items() if any(same_quality(name, q) for q in there)]
        for name in wanted
    }
    folder = VIDEOS if kinds == (VIDEOS,) else None
    return [
        list_ffpp(root, name, splits, folder, members, strict=strict)
        for name, members in methods.items()
    ]


def _celebdf_qualities(root: Path, kinds: Sequence[str]) -> list[str]:
    """List the qualities of a Celeb-DF tree; without quality folders it is ``original``."""
    lower = {part.lower() for part in PARTS}
    parts = [place for place in root.iterdir() if place.name.lower() in lower]
    found = _qualities(parts, kinds)
    bare = not any((part / ORIGINAL).is_dir() for part in parts) and any(
        (part / kind).is_dir() for part in parts for kind in kinds
    )
    return [ORIGINAL, *found] if bare or not found else found


def _qualities(parts: Iterable[Path], kinds: Sequence[str]) -> list[str]:
    """List the parts' folders that contain a folder of one of the kinds, best quality first."""
    names = {
        place.name
        for part in parts
        if part.is_dir()
        for place in part.iterdir()
        if not place.name.startswith(".")
        and place.name not in NOT_VIDEOS
        and any((place / kind).is_dir() for kind in kinds)
    }
    return sorted(names, key=best_first)


def _scan_present(root: Path, videos: list[Video], frames_per_video: int) -> Scan:
    """Choose the frames of the videos that exist; the others count as empty."""
    there = [v for v in videos if (root / v.place).exists()]
    missing = [v.place for v in videos if not (root / v.place).exists()]
    scan = gather(root, there, frames_per_video)
    return scan._replace(empty=[*scan.empty, *missing])


def _together(scans: list[Scan]) -> Scan:
    """Merge the scans of a tree's qualities into one."""
    manifest = pd.concat([scan.manifest for scan in scans], ignore_index=True)
    empty = [place for scan in scans for place in scan.empty]
    dropped = tuple(place for scan in scans for place in scan.dropped)
    notes = tuple(dict.fromkeys(note for scan in scans for note in scan.notes))
    listed: Counter[str] = Counter()
    for scan in scans:
        listed.update(scan.listed)
    return Scan(manifest, empty, dropped, notes=notes, listed=dict(listed))
