"""Fault-tolerant listing of DeepfakeBench's JSON, which reports faulty entries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokd_lightning.data.layouts.deepfakebench import (
    leading_folders,
    of_quality,
    people,
    quality_of,
)
from tokd_lightning.data.layouts.deepfakebench_json import JsonVideo, read_entries
from tokd_lightning.data.layouts.numbering import frame_numbers
from tokd_lightning.data.layouts.video_folder import FOLDERS, Video
from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

_WAY_OUT = "train with --data.val_fraction 0.1, which keeps those of the test out of training"


def read_json(file: Path, root: Path, quality: str | None, report: Report) -> list[Clip]:
    """List the videos of a DeepfakeBench JSON.

    A video in several splits is reported, and then assigned as with ``--data.val_fraction``: to
    ``test`` if one of the splits is ``test``, otherwise to ``train``.

    Args:
        file: A JSON as :func:`~tokd_lightning.data.layouts.deepfakebench.scan_deepfakebench`
            reads it.
        root: Folder that contains its files.
        quality: The quality to take; None takes all.
        report: Takes ``video-in-two-splits``, ``wrong-label``, ``same-frame``, ``missing-file``
            (a path outside the root), ``windows-path`` and ``not-listed``.

    Raises:
        TokdError: It is not such a file, or has no video of the quality.
    """
    entries = of_quality(file, _sound_part(file, report), quality)
    if b"\\\\" in file.read_bytes():
        report.add("windows-path", file.name)
    frames = {e.where: _frames(e, report) for e in entries}
    extra = leading_folders(root, [paths[0] for paths in frames.values() if paths])
    clips = []
    for e in _in_one_split(entries, report):
        files = []
        for path in frames[e.where]:
            if place := "/".join(path.split("/")[extra:]):
                files.append(place)
            else:
                report.add("missing-file", path, "a folder less deep than the others")
        place = files[0].rpartition("/")[0] if files else "/".join(e.where)
        called = quality_of(e, quality)
        video = Video(e.dataset, e.method, e.name, *people(e), called, e.split, place)
        kind = next((part for part in place.split("/") if part in FOLDERS), FOLDERS[0])
        numbers = frame_numbers([name.rpartition("/")[2] for name in files])
        clips.append(Clip(video, kind, tuple(files), tuple(numbers)))
    return clips


def _sound_part(file: Path, report: Report) -> list[JsonVideo]:
    """Read the entries up to the first error in the file's structure, and report that error."""
    entries: list[JsonVideo] = []
    try:
        for entry in read_entries(file):
            entries.append(entry)
    except TokdError as error:
        if not entries:
            raise
        report.add("not-listed", file.name, str(error))
    return entries


def _frames(e: JsonVideo, report: Report) -> list[str]:
    """List a video's frames, each once, and report errors in its entry."""
    where = "/".join(e.where)
    try:
        e.check_label()
    except TokdError as error:
        report.add("wrong-label", where, str(error))
    try:
        paths = Counter(e.frames())
    except TokdError as error:
        report.add("not-listed", where, str(error))
        return []
    for path, times in paths.items():
        if times > 1:
            report.add("same-frame", path, f"listed {times} times for {where}")
    return list(paths)


def _in_one_split(entries: Sequence[JsonVideo], report: Report) -> Iterator[JsonVideo]:
    """Yield every video in one split, once per quality."""
    splits: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for e in entries:
        splits[e.dataset, e.method, e.name].add(e.split)
    for video, several in splits.items():
        if len(several) > 1:
            told = " and ".join(sorted(several, key=SPLITS.index))
            report.add("video-in-two-splits", "/".join(video), f"{told}; {_WAY_OUT}")
    listed: set[tuple[str, ...]] = set()
    taken: set[tuple[str, ...]] = set()
    for e in sorted(entries, key=lambda e: e.split != "test"):
        video = (e.dataset, e.method, e.name)
        if (entry := (*video, e.quality, e.split)) in listed:
            report.add("same-frame", "/".join(e.where), "the video is listed a second time")
        listed.add(entry)
        if (form := (*video, e.quality)) not in taken:
            taken.add(form)
            several = splits[video]
            split = e.split if len(several) == 1 else "test" if "test" in several else "train"
            yield e._replace(split=split)
