"""Helpers shared by all layouts: videos as files or folders of frames, and choosing frames."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokd_lightning.data.layouts.frame_cache import Choice, FrameCache
from tokd_lightning.data.layouts.listed import is_there
from tokd_lightning.data.layouts.numbering import frame_numbers, numeric_order
from tokd_lightning.data.manifest import Scan, build
from tokd_lightning.data.media import VIDEOS as _VIDEO_SUFFIXES
from tokd_lightning.data.packed import PACK_SUFFIX, pack_frames
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError, reason

FOLDERS = ("faces", "frames", "images")
VIDEOS = "videos"  # kind of a folder of video files
VIDEO_SUFFIXES = frozenset(_VIDEO_SUFFIXES)
# Folders next to the qualities and kinds of frames that hold no training videos.
NOT_VIDEOS = frozenset({"masks", "models", "landmarks"})
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


class Video(NamedTuple):
    """Video at one quality, as found by a layout.

    Attributes:
        dataset: Name of the data set.
        method: ``real``, or the name of the manipulation.
        name: The video's name, unique within its data set and method.
        target: Identity on screen.
        source: The donor's identity; empty for a real video or where it is unknown.
        quality: Compression, as the data set names it.
        split: ``train``, ``val`` or ``test``.
        place: The video file or the folder of its frames, relative to the root.
        background: Name of the real video that a fake was made from; empty where unknown.
    """

    dataset: str
    method: str
    name: str
    target: str
    source: str
    quality: str
    split: str
    place: str
    background: str = ""


def videos_in(folder: Path, files: bool = False) -> dict[str, str]:
    """Find the videos directly in a folder.

    Hidden entries and circular links are skipped. A broken link counts as a video, so that reading
    it raises an error that names it.

    Args:
        folder: Folder of one method at one quality.
        files: Whether to find video files; otherwise frames are found (folders and packs).

    Returns:
        Name of the video -> name of its file, folder or pack, sorted. A pack takes precedence over
        a folder of the same name.

    Raises:
        TokdError: The folder cannot be read, or the names of two files differ only in the suffix.
    """
    found: dict[str, str] = {}
    for name, is_folder in sorted(_entries(folder), key=lambda entry: not entry[1]):
        stem, suffix = (name, "") if is_folder else os.path.splitext(name)  # noqa: PTH122 - many
        if files and not is_folder and suffix.lower() in VIDEO_SUFFIXES:
            if stem in found:
                raise TokdError(
                    f"{folder} has {found[stem]} and {name}: two files of one video; keep one"
                )
            found[stem] = name
        elif not files and (is_folder or suffix == PACK_SUFFIX):
            found[stem] = name
    return dict(sorted(found.items()))


def folders_in(root: Path, place: str = "") -> list[str]:
    """Return the names of the folders in a folder, except hidden ones; empty if it is missing."""
    folder = root / place
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the name of each entry and whether it is a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                dead = False
                if entry.is_symlink():
                    try:
                        end = Path(entry.path).resolve(strict=True)
                        if folder.resolve().is_relative_to(end):
                            continue
                    except FileNotFoundError:
                        dead = "." not in entry.name
                    except (OSError, RuntimeError):  # a circle; depends on the Python version
                        continue
                yield entry.name, dead or entry.is_dir()
    except OSError as error:
        raise TokdError(f"cannot list {folder}: {reason(error)}") from error


def list_frames(folder: Path) -> list[str]:
    """List the images of a video's folder in temporal order.

    Args:
        folder: One video's frames; hidden files and files without an image suffix are skipped.

    Returns:
        File names, sorted numerically.
    """
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if os.path.splitext(e.name)[1].lower() in SUFFIXES]  # noqa: PTH122 - called for every one of 2.5 million names
    return sorted((name for name in names if not name.startswith(".")), key=numeric_order)


def choose_frames(place: Path, count: int) -> Choice:
    """Choose evenly spaced frames of one video.

    Args:
        place: The folder of the video's frames, or its pack.
        count: Number of frames to choose.

    Returns:
        ``(frame number, end of its path)`` in order, such as ``(12, "/0012.png")`` in a folder and
        ``(12, "#3")`` in a pack; empty if there are no frames.

    Raises:
        OSError: The place does not exist or cannot be read.
        TokdError: It is a file but not a pack.
    """
    return choose_counted(place, count)[0]


def choose_counted(place: Path, count: int) -> tuple[Choice, int]:
    """Choose as :func:`choose_frames` does; return the choice and the number of all frames."""
    if place.is_file():
        numbers = pack_frames(place)
        chosen = evenly_spaced(len(numbers), count)
        return [(numbers[i], f"#{i}") for i in chosen], len(numbers)
    names = list_frames(place)
    numbers = frame_numbers(names)
    order: Sequence[int] = range(len(names))
    if numbers != sorted(numbers):  # the frame number is not the first number in a name
        order = sorted(order, key=numbers.__getitem__)
    chosen = [order[i] for i in evenly_spaced(len(names), count)]
    return [(numbers[i], f"/{names[i]}") for i in chosen], len(names)


def gather(root: Path, videos: Iterable[Video], frames_per_video: int) -> Scan:
    """Choose the frames of many videos.

    Choices are cached in ``$XDG_CACHE_HOME/tokd_lightning`` while their folders do not change. A
    pack that cannot be read counts as a video without frames and is not cached; see
    :func:`refuse_broken_packs`.

    Args:
        root: Folder that the videos' places are relative to.
        videos: Folders of frames or packs, in the order of the rows.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.

    Returns:
        The manifest, and the videos without frames.

    Raises:
        TokdError: A folder cannot be read, a file is not named like a pack, or a name is not UTF-8.
    """
    rows: list[tuple[Any, ...]] = []
    empty: list[str] = []
    listed: Counter[str] = Counter()
    unused = 0
    cache = FrameCache(frames_per_video)
    for v in videos:
        try:
            frames, there = cache.choose(root / v.place, choose_counted)
            unused += there - len(frames)
        except OSError as error:
            raise TokdError(f"cannot read {root / v.place}: {reason(error)}") from error
        except TokdError:
            if not v.place.endswith(PACK_SUFFIX):
                raise
            frames = []
        listed[v.split] += 1
        if not frames:
            empty.append(v.place)
        try:
            "".join((v.place, *(end for _, end in frames))).encode()
        except UnicodeEncodeError as error:
            name = str(root / v.place)
            raise TokdError(f"a name in {name!r} is not UTF-8: rename it") from error
        about = (v.dataset, v.method, v.name, v.target, v.source, v.quality)
        label = int(v.method != "real")
        rows += [(v.place + end, *about, number, label, v.split) for number, end in frames]
    cache.save()
    notes = beyond(unused, len(rows), frames_per_video)
    return Scan(build(rows), empty, notes=notes, listed=dict(listed))


def beyond(unused: int, used: int, frames_per_video: int) -> tuple[str, ...]:
    """Return a note on the frames left out by the limit of frames per video."""
    if not unused:
        return ()
    return (
        f"{unused} of {unused + used} frames are not used: at most {frames_per_video} of a video "
        "are (--data.frames_per_video)",
    )


def refuse_broken_packs(root: Path, empty: Iterable[str]) -> None:
    """Check that no video without frames is a broken pack.

    Args:
        root: Folder that the places are relative to.
        empty: Videos without frames, as :func:`gather` lists them.

    Raises:
        TokdError: One is a pack that cannot be read.
    """
    for place in empty:
        if place.endswith(PACK_SUFFIX) and is_there(root / place):
            pack_frames(root / place)
