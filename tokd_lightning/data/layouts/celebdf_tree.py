"""Where the videos of Celeb-DF lie on disk, and the authors' list of those for testing."""

import re
from pathlib import Path, PurePosixPath

from tokd_lightning.data.layouts.video_folder import FOLDERS, VIDEO_SUFFIXES, videos_in
from tokd_lightning.errors import TokdError

CELEB, YOUTUBE, SYNTHESIS = PARTS = ("Celeb-real", "YouTube-real", "Celeb-synthesis")
TEST_LIST = "List_of_testing_videos.txt"
ORIGINAL = "original"
VIDEOS = "videos"
_LINE = re.compile(r"(\S+)\s+(?:.*/)?([^/]+)/([^/]+)")
_NOT_A_VIDEO = re.compile(rf"{'|'.join(FOLDERS)}|{VIDEOS}|landmarks|masks|{ORIGINAL}|raw|c\d+")


def read_test_list(root: Path, splits: Path | None = None) -> set[tuple[str, str]]:
    """Read which videos are for testing; in that list 1 is real and 0 is fake.

    Args:
        root: The tree.
        splits: The list, or another folder that holds it.

    Returns:
        Pairs of one of :data:`PARTS` and a video's name without its suffix.

    Raises:
        TokdError: The list is missing or empty, a line is of another form, or a line calls a video
            real that lies among the fakes or the other way round.
    """
    place = root if splits is None else splits
    file = place / TEST_LIST if place.is_dir() else place
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise TokdError(
            f"no test list {file}: put Celeb-DF's {TEST_LIST} there, or name its folder with "
            "--data.splits"
        ) from error
    except (OSError, ValueError) as error:
        raise TokdError(f"{file} is not a readable text file: {error}") from error
    names: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        if line.strip():
            names.add(_read_line(line.strip(), f"line {number} of {file}"))
    if not names:
        raise TokdError(f"{file} names no video: fetch it again")
    return names


def _read_line(line: str, where: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line.replace("\\", "/"))
    part = match and next((p for p in PARTS if p.lower() == match[2].lower()), None)
    if not match or not part or match[1] not in {"0", "1"} or not match[3].isprintable():
        raise TokdError(f"{where} is {line!r}: it should be like '1 {CELEB}/id1_0005.mp4'")
    label = "0" if part == SYNTHESIS else "1"
    if match[1] != label:
        kind = "fake" if part == SYNTHESIS else "real"
        raise TokdError(
            f"{where} gives {part}/{match[3]} the label {match[1]}, but {part} is {kind} and in "
            f"this list 1 is real, 0 is fake: write {label}, or fetch the list again"
        )
    name = PurePosixPath(match[3])
    return part, name.stem if name.suffix.lower() in VIDEO_SUFFIXES else name.name


def find_folders(root: Path, quality: str, folder: str | None) -> dict[str, Path]:
    """Find the folder of each part in which its videos lie, the same kind for all of them.

    Args:
        root: The tree.
        quality: ``original``, or a re-encoded twin such as ``c40``.
        folder: A kind of frames, or ``videos`` for files; by default the first that exists.

    Returns:
        By :data:`PARTS`; any of these may be the part itself.

    Raises:
        TokdError: There is no such tree, or a part lacks that quality or that kind.
    """
    parts = _find_parts(root)
    kinds = [*FOLDERS, ""] if folder is None else [folder]
    for kind in kinds:
        found = {part: _find_folder(place, quality, kind) for part, place in parts.items()}
        if any(found.values()):
            break
    folders = {part: place for part, place in found.items() if place is not None}
    lacking = [place for part, place in parts.items() if part not in folders]
    if folders and lacking:
        raise TokdError(
            f"no {quality} {kind or 'folders of frames'} in {lacking[0]}, although other parts "
            "have them: extract its frames, or choose others with --data.folder"
        )
    if lacking:
        _explain(parts, quality, folder)
    return folders


def find_videos(folder: Path, files: bool) -> dict[str, str]:
    """Find the videos of a part, passing over folders that sort them by quality or kind.

    Args:
        folder: What :func:`find_folders` found.
        files: Whether videos are files or frames.

    Returns:
        Name of the video -> name of its file, folder or pack.
    """
    found = videos_in(folder, files)
    return {name: place for name, place in found.items() if not _NOT_A_VIDEO.fullmatch(name)}


def _find_parts(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise TokdError(f"no data folder {root}: name the root of the Celeb-DF tree by --data.root")
    there = [place for place in sorted(root.iterdir()) if place.is_dir()]
    parts: dict[str, Path] = {}
    for part in PARTS:
        match [place for place in there if place.name.lower() == part.lower()]:
            case [place]:
                parts[part] = place
            case [one, other, *_]:
                raise TokdError(f"{root} has both {one.name} and {other.name}: keep one of them")
    if not parts:
        raise TokdError(f"{root} is not a Celeb-DF tree: it has none of {', '.join(PARTS)}")
    if missing := [part for part in PARTS if part not in parts]:
        raise TokdError(f"no folder {root / missing[0]}: this part of Celeb-DF belongs there")
    return parts


def _find_folder(part: Path, quality: str, kind: str) -> Path | None:
    places = [part / quality / kind] if kind else []
    if quality == ORIGINAL:
        places += [part / kind] if kind else []
        if kind in ("", VIDEOS) and find_videos(part, files=kind == VIDEOS):
            places.append(part)
    return next((place for place in places if place.is_dir()), None)


def _explain(parts: dict[str, Path], quality: str, folder: str | None) -> None:
    """Say what there is in place of what was asked for."""
    part = parts[CELEB]
    if folder == VIDEOS:
        raise TokdError(f"no {quality} videos in {part}: the files themselves belong there")
    if any(_find_folder(place, quality, VIDEOS) for place in parts.values()):
        wanted = part / quality / (folder or FOLDERS[0])
        raise TokdError(
            f"{part} has only videos: extract their frames to {wanted}/<video>/ first, as `tokd "
            "prepare celebdf` does"
        )
    names = {ORIGINAL} | {place.name for place in part.iterdir() if place.is_dir()}
    kinds = (*FOLDERS, "") if folder is None else (folder,)
    there = sorted(n for n in names if any(_find_folder(part, n, kind) for kind in kinds))
    raise TokdError(
        f"no {folder or 'frames'} of quality {quality!r} in {part}: "
        + (f"there is {', '.join(there)} (--data.quality)" if there else "extract them first")
    )
