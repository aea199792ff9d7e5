"""Location of Celeb-DF's videos on disk, and the authors' list of test videos."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from tokd_lightning.data.layouts.video_folder import (
    FOLDERS,
    VIDEO_SUFFIXES,
    VIDEOS,
    Video,
    folders_in,
    videos_in,
)
from tokd_lightning.data.qualities import ORIGINAL, PATTERN
from tokd_lightning.errors import TokdError

_LEVELS = 2  # Celeb-DF++ sorts its fakes by scenario and method
CELEB, YOUTUBE, SYNTHESIS = PARTS = ("Celeb-real", "YouTube-real", "Celeb-synthesis")
TEST_LIST = "List_of_testing_videos.txt"
_LINE = re.compile(r"(\S+)\s+(\S.*)")
NOT_A_VIDEO = re.compile(rf"{'|'.join(FOLDERS)}|{VIDEOS}|landmarks|masks|{PATTERN}")


def read_test_list(root: Path, splits: Path | None = None) -> set[tuple[str, str]]:
    """Read the list of test videos; in it 1 is real and 0 is fake.

    Args:
        root: The tree.
        splits: The list, or another folder that contains it.

    Returns:
        Pairs of a part and a video's name without its suffix. A part is one of :data:`PARTS` or,
        in Celeb-DF++, ``Celeb-synthesis/<scenario>/<method>``.

    Raises:
        TokdError: The list is missing or empty, a line is malformed, or a label contradicts the
            folder that the video is in.
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
    *folders, file = (match[2] if match else "").split("/")
    known = {p.lower(): p for p in PARTS}
    at = next((i for i, name in enumerate(folders) if name.lower() in known), None)
    inner = [] if at is None else [f for f in folders[at + 1 :] if not NOT_A_VIDEO.fullmatch(f)]
    if (
        match is None
        or at is None
        or match[1] not in {"0", "1"}
        or not (file and match[2].isprintable())
        or len(inner) not in (0, _LEVELS)
    ):
        raise TokdError(f"{where} is {line!r}: it should be like '1 {CELEB}/id1_0005.mp4'")
    part = known[folders[at].lower()]
    label = "0" if part == SYNTHESIS else "1"
    if match[1] != label:
        kind = "fake" if part == SYNTHESIS else "real"
        raise TokdError(
            f"{where} gives {part}/{file} the label {match[1]}, but {part} is {kind} and in "
            f"this list 1 is real, 0 is fake: write {label}, or fetch the list again"
        )
    name = PurePosixPath(file)
    stem = name.stem if name.suffix.lower() in VIDEO_SUFFIXES else name.name
    return "/".join((part, *inner)), stem


def part_of(place: str) -> str:
    """Return the part that contains a video, named as in :func:`read_test_list`."""
    top, *inner = place.split("/")[:-1]
    part = next(p for p in PARTS if p.lower() == top.lower())
    inner = [folder for folder in inner if not NOT_A_VIDEO.fullmatch(folder)]
    return "/".join((part, *(inner if part == SYNTHESIS else ())))


def method_of(part: str) -> str:
    """Return the method of a part: ``real``, ``Celeb-synthesis`` or a method folder's name."""
    top, _, inner = part.partition("/")
    return (inner.rpartition("/")[2] or SYNTHESIS) if top == SYNTHESIS else "real"


def people_of(name: str) -> tuple[str, str]:
    """Read target and donor from the name of a video.

    Swaps and reenactments are named ``<target>_<donor>_<number>``; voice-driven talking faces
    ``<target>_<number>_…``; celebrities ``<target>_<number>``; other people by a number only.
    """
    target, *rest = name.split("_")
    return target, rest[0] if len(rest) > 1 and not rest[0].isdigit() else ""


def describe(
    part: str, name: str, quality: str, split: str, place: str, dataset: str = "celebdf"
) -> Video:
    """Describe a video by its part of the tree and its name.

    Args:
        part: Its part, see :func:`read_test_list`.
        name: Its name.
        quality: Its quality.
        split: Its split.
        place: Its path relative to the root.
        dataset: Data set name given to it.
    """
    method, background = method_of(part), ""
    target, source = people_of(name)
    if part == YOUTUBE:
        target, source = name, ""
    elif part == SYNTHESIS and name.count("_") == 2:
        target, source, _ = name.split("_")
    if method != "real" and (rest := name.split("_")[2 if source else 1 :]):
        background = f"{target}_{rest[0]}"
    source = "" if method == "real" else source
    return Video(dataset, method, name, target, source, quality, split, place, background)


def list_folders(
    folders: Callable[[str], Sequence[str]], part: str
) -> Iterator[tuple[str, str, str]]:
    """Yield the folders of a part that can hold videos, as (quality, kind, path).

    Args:
        folders: Returns the names of the folders in a folder, given its path relative to the root.
        part: Path of the part.
    """
    kinds = (VIDEOS, *FOLDERS)
    there = folders(part)
    yield ORIGINAL, VIDEOS, part
    yield ORIGINAL, FOLDERS[1], part
    yield from ((ORIGINAL, kind, f"{part}/{kind}") for kind in kinds if kind in there)
    for quality in (name for name in there if re.fullmatch(PATTERN, name)):
        inside = folders(f"{part}/{quality}")
        yield from ((quality, kind, f"{part}/{quality}/{kind}") for kind in kinds if kind in inside)


def name_groups(names: Sequence[str], inside: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Find the methods of Celeb-DF++ in ``Celeb-synthesis``.

    Args:
        names: Names of the folders in it.
        inside: Returns the names of the folders in one of these.

    Returns:
        ``<scenario>/<method>``, a path in the folder, -> part, see :func:`read_test_list`; empty
        where all fakes are of one method, as in versions 1 and 2.
    """
    found: dict[str, str] = {}
    for group in names:
        if NOT_A_VIDEO.fullmatch(group):
            continue
        methods = [name for name in inside(group) if not NOT_A_VIDEO.fullmatch(name)]
        if not methods:
            return {}  # a video's own folder
        found |= {f"{group}/{name}": f"{SYNTHESIS}/{group}/{name}" for name in methods}
    return found


def find_folders(root: Path, quality: str, folder: str | None) -> dict[str, Path]:
    """Find each part's folder of videos, of the same kind for all parts.

    Args:
        root: The tree.
        quality: ``original``, or a re-encoded copy such as ``c40``.
        folder: Kind of frames, or ``videos`` for files; by default the first that exists.

    Returns:
        Part, see :func:`read_test_list`, -> folder, which may be the part itself.

    Raises:
        TokdError: The tree does not exist, or a part lacks that quality or that kind.
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
    """Find the videos of a part, skipping folders that sort them by quality or kind.

    Args:
        folder: A folder that :func:`find_folders` returned.
        files: Whether videos are files; otherwise they are frames.

    Returns:
        Name of the video -> name of its file, folder or pack.
    """
    found = videos_in(folder, files)
    return {name: place for name, place in found.items() if not NOT_A_VIDEO.fullmatch(name)}


def _find_parts(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise TokdError(
            f"no data folder {root}: name the root of the Celeb-DF tree with --data.root"
        )
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
    fakes = parts[SYNTHESIS]
    if groups := name_groups(folders_in(fakes), partial(folders_in, fakes)):
        del parts[SYNTHESIS]
        parts |= {part: fakes / place for place, part in groups.items()}
    return parts


def _find_folder(part: Path, quality: str, kind: str) -> Path | None:
    places = [part / quality / kind] if kind else []
    if quality == ORIGINAL:
        places += [part / kind] if kind else []
        if kind in ("", VIDEOS) and find_videos(part, files=kind == VIDEOS):
            places.append(part)
    return next((place for place in places if place.is_dir()), None)


def _explain(parts: dict[str, Path], quality: str, folder: str | None) -> None:
    """Raise an error that lists what exists instead of the requested videos or frames."""
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
        + (f"choose from {', '.join(there)} (--data.quality)" if there else "extract them first")
    )
