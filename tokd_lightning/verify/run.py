"""``tokd verify``: checks of a data set for everything that can silently spoil it."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tokd_lightning.data.missed import missed_faces
from tokd_lightning.data.parallel import in_processes
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text
from tokd_lightning.terminal import keep_words
from tokd_lightning.verify import duplicates, files, looks, streams, structure
from tokd_lightning.verify.counts import count, counts_table
from tokd_lightning.verify.expectations import EXPECTED, FRAMES, Expected, hold_against
from tokd_lightning.verify.findings import Report, printable
from tokd_lightning.verify.inventory import Clip
from tokd_lightning.verify.kinds import SEVERITIES
from tokd_lightning.verify.masks import find_masks
from tokd_lightning.verify.read import read, report_refusal

J = TypeVar("J")
R = TypeVar("R")
_FEW = 64


def verify(
    path: Path,
    *,
    root: Path | None = None,
    expect: Expected | None = None,
    splits: Path | None = None,
    quality: str | None = None,
    json: Path | bool | None = None,
    workers: int | None = None,
    frames: int | None = None,
    size: int | None = None,
    quick: bool = False,
) -> int:
    """Verify a data set on disk, video files and frames alike, and print the findings.

    Args:
        path: A tree (FF++, Celeb-DF, DFDC or flat), a manifest or a DeepfakeBench JSON.
        root: Folder that the paths in a manifest or JSON are relative to; default its folder.
        expect: Compare the numbers of videos with the published ones of this data set.
        splits: Folder of the split files or of Celeb-DF's list, if they are elsewhere.
        quality: Verify only this quality.
        json: Print JSON instead of tables (True), or write it to this file in addition to them.
        workers: Number of processes; default one per core.
        frames: Number of frames that every video should have; default the most common number of its
            kind, at most 32, and 32 if ``expect`` is ``ffpp``.
        size: Side in pixels that every image should have; default that of its neighbours.
        quick: Read headers only: neither decode nor compare contents.

    Returns:
        0 if there is no error and no warning, 1 otherwise.

    Raises:
        TokdError: There is nothing to verify, an argument is invalid, or the JSON cannot be
            written.
    """
    if expect is not None and expect not in EXPECTED:
        raise TokdError(f"cannot expect {expect!r}: choose one of {', '.join(EXPECTED)}")
    for name, number in (("frames", frames), ("size", size), ("workers", workers)):
        if number is not None and number < 1:
            raise TokdError(f"--{name} must be at least 1, not {number}")
    if expect == "ffpp" and frames is None:
        frames = FRAMES
    report = Report()
    place, clips = read(path, root, quality, splits, report)
    lengths = _look_inside(place, clips, workers, frames, size, quick, report)
    structure.find_leaks(clips, report)
    structure.find_missing_reals(clips, report)
    structure.find_one_class(clips, lengths, report)
    structure.find_repeated_numbers(clips, report)
    looks.find_labels(clips, report)
    looks.find_numbers(clips, report)
    looks.find_subset(place, report)
    if expect is not None:
        hold_against(clips, expect, report)
    if missed := missed_faces(place):
        report.add("missed-faces", str(path), missed)
    if not all(clip.is_file for clip in clips):
        report_refusal(path, root, quality, splits, report)
    structure.find_not_for_training(clips, lengths, report)
    counts = count(clips, lengths)
    told = {
        "path": printable(str(path)),
        "counts": counts,
        "findings": report.as_json(),
        "ok": report.ok,
    }
    text = jsonlib.dumps(told, indent=2, ensure_ascii=False) + "\n"
    if json is True:
        sys.stdout.write(text)
        return 0 if report.ok else 1
    if isinstance(json, Path):
        write_text(json, text)
    _print(path, report, counts_table(counts))
    return 0 if report.ok else 1


def _look_inside(
    root: Path,
    clips: Sequence[Clip],
    workers: int | None,
    frames: int | None,
    size: int | None,
    quick: bool,
    report: Report,
) -> list[int]:
    """Open every file, report problems, and return the number of frames of each clip."""
    encoded = [clip for clip in clips if clip.is_file]
    jobs = [streams.StreamJob(root / clip.video.place, quick) for clip in encoded]
    found = _each(streams.examine, jobs, "Videos", workers)
    streams.report_streams(encoded, found, report)
    streams.find_wrong_crf(encoded, found, report)

    images = [clip for clip in clips if not clip.is_file]
    sheets = [files.FileJob(root, c.files, c.numbers, c.is_pack, quick) for c in images]
    seen = _each(files.examine, sheets, "Frames", workers)
    files.report_frames(images, seen, report)
    files.find_odd_sizes(images, seen, size, report)
    looks.find_shapes(images, seen, report)
    if not quick:
        find_masks(root, images, seen, report)

    duplicates.find_duplicates(encoded, [[stream.digest] for stream in found], report)
    duplicates.find_duplicates(images, [[f.digest for f in s.frames] for s in seen], report)
    structure.find_unpaired(encoded, [stream.frames for stream in found], report)
    structure.find_unpaired(images, [s.numbers for s in seen], report)
    known = {id(clip): stream.frames for clip, stream in zip(encoded, found, strict=True)}
    known |= {id(clip): s.length for clip, s in zip(images, seen, strict=True)}
    lengths = [known[id(clip)] for clip in clips]
    structure.find_short(clips, lengths, frames, report)
    return lengths


def _print(path: Path, report: Report, counts: Table) -> None:
    console = Console()
    console.print(keep_words(counts, console))
    findings = report.findings()
    if findings:
        console.print(keep_words(report.table(), console))
    number = {
        name: sum(len(f.items) for f in findings if f.severity == name) for name in SEVERITIES
    }
    kinds = [f"{n} {name}{'s' * (n > 1)}" for name, n in number.items() if n]
    what = ", ".join(kinds) or "nothing wrong"
    console.print(f"{printable(str(path))}: {what}", markup=False, highlight=False, soft_wrap=True)


def _each(function: Callable[[J], R], jobs: Sequence[J], note: str, workers: int | None) -> list[R]:
    """Apply a function to all jobs, in processes if there are many, and show the progress."""
    number = min(workers or os.cpu_count() or 1, 1 + len(jobs) // _FEW)
    results = in_processes(partial(_numbered, function), list(enumerate(jobs)), number)
    console = Console(stderr=True)
    shown = track(results, note, len(jobs), console=console, transient=True, disable=not jobs)
    return [result for _, result in sorted(shown, key=itemgetter(0))]


def _numbered(function: Callable[[J], R], job: tuple[int, J]) -> tuple[int, R]:
    """Return a job's number with its result, because results come in any order."""
    return job[0], function(job[1])
