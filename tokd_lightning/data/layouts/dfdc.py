"""Video lists of DFDC and of its preview, as rows of the manifest."""

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tokd_lightning.data.layouts.listed import (
    SPLIT_NAMES,
    UNKNOWN,
    shown,
    stray_character,
    with_slashes,
)
from tokd_lightning.data.layouts.video_folder import FOLDERS, VIDEO_SUFFIXES, Video, gather
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.data.packed import PACK_SUFFIX
from tokd_lightning.errors import TokdError

LISTS = ("metadata.json", "dataset.json")  # of DFDC and of its preview
_HEAD = re.compile(rb'\s*\{\s*"[^"]+\.(?:mp4|avi|mov|mkv|webm)"\s*:\s*\{', re.IGNORECASE)
_LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1}


def is_metadata(file: Path) -> bool:
    """Return whether a JSON file is a list of video files with their labels."""
    try:
        with file.open("rb") as content:
            return _HEAD.match(content.read(4096).removeprefix(b"\xef\xbb\xbf")) is not None
    except OSError:
        return False


def find_metadata(path: Path) -> list[Path]:
    """Find the lists at a path: the file itself, those in a folder, or else in its subfolders."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and is_metadata(path) else []
    for pattern in ("{}", "*/{}"):
        found = sorted(p for name in LISTS for p in path.glob(pattern.format(name)))
        if found := [file for file in found if is_metadata(file)]:
            return found
    return []


def list_dfdc(root: Path, files: Sequence[Path], quality: str = UNKNOWN) -> list[Video]:
    """List the videos of DFDC, each with the path of its file.

    A list is ``{"<video>.mp4": {"label": "FAKE", "split": "train", "original": "<video>.mp4"}}``;
    the preview's has ``set`` for the split, the test's ``is_fake`` for the label. The target of a
    fake is its original, so both must be in one split; identities are otherwise unknown.

    Args:
        root: Folder that paths are relative to.
        files: The lists, each next to its videos.
        quality: Quality given to the videos.

    Raises:
        TokdError: A list is not as described, or a video is listed twice.
    """
    videos: dict[str, Video] = {}
    for file in files:
        base = file.absolute().parent
        try:
            folder = base.relative_to(root.absolute()).as_posix()
        except ValueError as error:
            raise TokdError(f"{file} is not below {root}: name its folder (--data.root)") from error
        for key, about in _content(file).items():
            video = _video(file, "" if folder == "." else f"{folder}/", key, about, quality)
            if videos.setdefault(f"{video.method}/{video.name}", video) is not video:
                raise TokdError(f"{file} lists {shown(key)}, which is listed before")
    order = {split: i for i, split in enumerate(SPLITS)}
    return sorted(videos.values(), key=lambda v: (order[v.split], v.target, v.method != "real"))


def scan_dfdc(
    root: Path, files: Sequence[Path], quality: str = UNKNOWN, frames_per_video: int = 32
) -> Scan:
    """Index the frames of DFDC: folders or packs named after the videos, next to the list.

    They are searched for in ``faces``, ``frames`` and ``images``, and then directly in the folder
    of the videos.

    Args:
        root: Folder that paths are relative to.
        files: The lists, see :func:`list_dfdc`.
        quality: Quality given to the rows.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.

    Raises:
        TokdError: A list is not as described, or no video has frames.
    """
    videos = list_dfdc(root, files, quality)
    placed = [(v, frames_place(root, v.place)) for v in videos]
    scan = gather(root, (v._replace(place=p) for v, p in placed if p), frames_per_video)
    if not len(scan.manifest):
        raise TokdError(
            f"{files[0]} lists {len(videos)} videos, but none has frames in "
            f"{{{','.join(FOLDERS)}}}/<video>/ next to it: extract them first, as `tokd prepare "
            "folder` does"
        )
    absent = [v for v, place in placed if not place]
    listed = dict(scan.listed)
    for v in absent:
        listed[v.split] = listed.get(v.split, 0) + 1
    return scan._replace(empty=[*scan.empty, *(v.place for v in absent)], listed=listed)


def frames_place(root: Path, place: str) -> str:
    """Return the folder or pack of a video file's frames; an empty string if there is none."""
    folder, _, name = place.rpartition("/")
    stem = name.rpartition(".")[0]
    for kind in (*FOLDERS, ""):
        found = "/".join(part for part in (folder, kind, stem) if part)
        for end in ("", PACK_SUFFIX):
            if (root / f"{found}{end}").exists():
                return f"{found}{end}"
    return ""


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokdError(f"{file} is not a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise TokdError(f"{file} is not an object of videos and their labels")
    return content


def _video(file: Path, folder: str, key: str, about: Any, quality: str) -> Video:
    path = PurePosixPath(with_slashes(key))
    if stray_character(key) or path.is_absolute() or ".." in path.parts:
        raise TokdError(f"{file} lists {shown(key)}, which is not a video below its folder")
    if path.suffix.lower() not in VIDEO_SUFFIXES or not isinstance(about, dict):
        raise TokdError(f"{file}: {shown(key)} is {shown(about)} where a video should be described")
    told = about.get("label", about.get("is_fake"))
    label = _LABELS.get(str(int(told) if isinstance(told, bool) else told).strip().casefold())
    if label is None:
        raise TokdError(f"{file}: {shown(key)} has the label {shown(told)}, not REAL or FAKE")
    name = about.get("split", about.get("set", "test"))
    split = SPLIT_NAMES.get(name.casefold()) if isinstance(name, str) else None
    if split is None:
        raise TokdError(f"{file}: {shown(key)} has the split {shown(name)}: train, val or test")
    original = about.get("original")
    background = PurePosixPath(original).stem if label and isinstance(original, str) else ""
    method = "fake" if label else "real"
    who = (background or path.stem, "", quality, split)
    return Video("dfdc", method, path.stem, *who, f"{folder}{path}", background)
