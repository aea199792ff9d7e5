"""Data sets listed in DeepfakeBench's JSON files, as rows of the manifest."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from tokd_lightning.data.layouts.celebdf_tree import SYNTHESIS, people_of
from tokd_lightning.data.layouts.deepfakebench_json import JsonVideo, read_entries
from tokd_lightning.data.layouts.listed import UNKNOWN, is_there, shown
from tokd_lightning.data.layouts.numbering import frame_numbers
from tokd_lightning.data.layouts.video_folder import beyond
from tokd_lightning.data.lmdb_frames import holds, locate
from tokd_lightning.data.manifest import SPLITS, Scan, build
from tokd_lightning.data.qualities import names_of
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError

# Data set -> form of a video's name: target, donor.
_PEOPLE = {
    "ffpp": re.compile("([^_]+)(?:_([^_]+))?"),
    "dfd": re.compile("([^_]+)(?:_([^_]+))?__.*"),
    "celebdf": re.compile("([^_]+)(?:_([^_]+))?_[^_]+"),
}
_OWN_QUALITY = {"celebdf": "original"}
_LOOKED_FOR = 16


def scan_deepfakebench(
    file: Path,
    root: Path | None = None,
    quality: str | None = None,
    frames_per_video: int = 32,
    merge: bool = False,
) -> Scan:
    r"""Read a data set's JSON of DeepfakeBench (``FaceForensics++.json``, ``Celeb-DF-v2.json``, …).

    Yan et al., "DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection", NeurIPS 2023. The
    file is ``{data set: {label: {split: {video: {"label": …, "frames": […]}}}}}``, in FF++ with the
    compression between split and video.

    Frames are searched for below ``root``. Paths may be absolute, come from another machine or have
    backslashes (``.\datasets\rgb\FaceForensics++\…``): leading folders that do not exist below the
    root are removed, as few as possible and the same number from all paths of the file. If the
    frames are not there as files, they are read in place from ``<name>_lmdb`` below the root, which
    DeepfakeBench's ``dataset2lmdb`` writes.

    FF++'s labels become its methods (``FF-F2F``: Face2Face), and people are read from the names of
    videos in FF++, DeepFakeDetection and Celeb-DF. For other data sets the label is the method, and
    the people are unknown.

    Args:
        file: The JSON.
        root: Folder that contains the frames; by default the file's folder.
        quality: The compression to take; None takes all. If the file has no compressions, it is the
            quality given to the videos (None: ``original`` for Celeb-DF, ``unknown`` elsewhere).
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.
        merge: How to handle a video in two splits. DeepfakeBench's Celeb-DF uses the test list for
            validation and keeps it in training too; for some data sets all splits are equal. False
            raises an error; True moves such a video to ``test`` if one of its splits is ``test``,
            otherwise to ``train``.

    Returns:
        The manifest, ordered by identity within each split, and the videos without frames.

    Raises:
        TokdError: The file is not as described, a video is in two splits, no video has the quality,
            or frames are missing.
    """
    entries = _in_one_split(list(read_entries(file)), merge)
    chosen = of_quality(file, entries, quality)
    chosen.sort(key=lambda e: (SPLITS.index(e.split), people(e), e.name, e.method != "real"))
    place = file.absolute().parent if root is None else root
    scan = _scan(file, place, chosen, quality, frames_per_video)
    left = Counter(e.quality for e in entries) - Counter(e.quality for e in chosen)
    notes = (f"{number} videos of quality {name} are not used" for name, number in left.items())
    return scan._replace(notes=(*notes, *scan.notes))


def of_quality(file: Path, entries: Sequence[JsonVideo], quality: str | None) -> list[JsonVideo]:
    """Return the videos of one quality, or all; ``unknown`` also matches a file's only quality.

    Raises:
        TokdError: There are no such videos.
    """
    if not entries:
        raise TokdError(f"{file} lists no videos")
    qualities = {e.quality for e in entries}
    if quality == UNKNOWN and len(qualities) == 1:
        return list(entries)
    names = (*names_of(quality or ""), "")
    chosen = [e for e in entries if quality is None or e.quality in names]
    if not chosen:
        there = ", ".join(sorted(qualities))
        raise TokdError(
            f"{file} has no videos of quality {quality!r}: choose from {there} (--data.quality)"
        )
    return chosen


def quality_of(e: JsonVideo, quality: str | None) -> str:
    """Return the name of a video's quality, given the requested one."""
    if quality == UNKNOWN and e.quality:
        return e.quality
    return quality or e.quality or _OWN_QUALITY.get(e.dataset, UNKNOWN)


def _in_one_split(entries: Sequence[JsonVideo], merge: bool) -> list[JsonVideo]:
    """Raise if a video is in two splits or, with ``merge``, assign it to one."""
    splits: dict[tuple[str, ...], set[str]] = {}
    listed: dict[tuple[str, ...], JsonVideo] = {}
    for e in entries:
        splits.setdefault((e.dataset, e.method, e.name), set()).add(e.split)
        if (key := (e.dataset, e.method, e.name, e.quality, e.split)) in listed:
            raise e.wrong("is listed there a second time")
        listed[key] = e
    double = [video for video, several in splits.items() if len(several) > 1]
    if double and not merge:
        several = sorted(set().union(*(splits[video] for video in double)), key=SPLITS.index)
        raise TokdError(
            f"{entries[0].file} lists {len(double)} videos in more than one split "
            f"({', '.join(several)}), e.g. {shown('/'.join(double[0][1:]))}: pass "
            "--data.val_fraction 0.1 to keep those of the test out of training and to hold "
            "validation out of the rest"
        )
    once: dict[tuple[str, ...], JsonVideo] = {}
    for e in sorted(entries, key=lambda e: e.split != "test"):
        several = sorted(splits[e.dataset, e.method, e.name])
        split = e.split if len(several) == 1 else "test" if "test" in several else "train"
        once.setdefault((e.dataset, e.method, e.name, e.quality), e._replace(split=split))
    return list(once.values())


def people(e: JsonVideo) -> tuple[str, str]:
    """Read target and donor from a video's name."""
    form = _PEOPLE.get(e.dataset)
    if form is None:
        return "", ""
    if e.dataset == "celebdf" and e.method not in ("real", SYNTHESIS):
        return people_of(e.name)
    match = form.fullmatch(e.name)
    return (match[1], match[2] or "") if match else (e.name, "")


def _scan(
    file: Path, root: Path, entries: Sequence[JsonVideo], quality: str | None, count: int
) -> Scan:
    """Choose frames, and find them below the root or in an LMDB there."""
    counted = [_choose(e, count) for e in entries]
    chosen = [frames for frames, _ in counted]
    whole = sum(number for _, number in counted)
    place, there = _places(root, [frames[0][1] for frames in chosen if frames])
    rows: list[tuple[Any, ...]] = []
    empty: list[str] = []
    missing: list[str] = []
    for e, frames in zip(entries, chosen, strict=True):
        if not frames:
            empty.append("/".join(e.where))
            continue
        places = [place(path) for _, path in frames]
        if not all(places) or not there(places[0]):
            missing.append(frames[0][1])
        about = (e.dataset, e.method, e.name, *people(e), quality_of(e, quality))
        label = int(e.method != "real")
        rows += [
            (found, *about, number, label, e.split)
            for found, (number, _) in zip(places, frames, strict=True)
        ]
    if missing:
        raise TokdError(
            f"{file} lists {len(missing)} of {len(entries)} videos whose frames are not below "
            f"{root}, e.g. {shown(missing[0])}: name the folder that holds them (--data.root)"
        )
    if not rows:
        raise TokdError(f"{file} lists {len(empty)} videos, but none with a frame")
    listed = Counter(e.split for e in entries)
    notes = beyond(whole - len(rows), len(rows), count)
    return Scan(build(rows), empty, notes=notes, listed=dict(listed))


def _places(root: Path, paths: Sequence[str]) -> tuple[Callable[[str], str], Callable[[str], bool]]:
    """Return how a path is written in the manifest, and whether such a frame exists."""
    extra = leading_folders(root, paths)

    def place(path: str) -> str:
        return "/".join(path.split("/")[extra:])

    def there(found: str) -> bool:
        return is_there(root / found)

    some = [*_some(paths)]
    if not any(there(place(path)) for path in some if place(path)):
        record = locate(root, some)
        if record is not None:
            return record, partial(holds, root)
    return place, there


def _choose(e: JsonVideo, count: int) -> tuple[list[tuple[int, str]], int]:
    """Return a video's evenly spaced frames with their numbers, and the number of all frames."""
    e.check_label()
    paths = e.frames()
    numbers = frame_numbers([path.rpartition("/")[2] for path in paths])
    frames = sorted(zip(numbers, paths, strict=True), key=itemgetter(0))
    return [frames[i] for i in evenly_spaced(len(paths), count)], len(paths)


def leading_folders(root: Path, paths: Sequence[str]) -> int:
    """Return how many leading folders to remove: the fewest with which one of the files exists.

    Args:
        root: Folder that contains the files.
        paths: One of each video; a sample of them is checked.
    """
    for path in _some(paths):
        parts = path.split("/")
        for extra in range(len(parts)):
            if is_there(root / "/".join(parts[extra:])):
                return extra
    return 0


def _some(paths: Sequence[str]) -> Iterable[str]:
    return (paths[i] for i in evenly_spaced(len(paths), _LOOKED_FOR))
