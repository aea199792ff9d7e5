"""Report of a preparation: the manifest, the problems, and a table of both."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from tokd_lightning.data.manifest import COLUMNS
from tokd_lightning.data.missed import shares
from tokd_lightning.data.qualities import CRF, as_text
from tokd_lightning.prepare.options import Options
from tokd_lightning.prepare.plan import PreparePlan, Version

PROBLEM_COLUMNS = ("dataset", "method", "video", "quality", "problem", "detail")
UNLISTED = "unlisted"
PASSED_OVER = "passed_over"
TRACK = "every kept frame, scene by scene"
"""Face tracking method, as recorded in ``prepare.json``."""
EXTRA_COLUMNS = (
    *("encoding", "reencoded", "crf", "detector", "margin", "stored"),
    *("x", "y", "side"),
)
_KINDS = {
    "missing": "the tree or its split files name it, but it does not exist",
    "unreadable": "no frame of it can be decoded",
    "truncated": "it ends too early; the frames before that are used",
    "wrong_crf": "its encoder states another compression than its folder's name; it is used",
    "no_face": "no face was found, so it has no frames",
    "face_lost": "the face is not on all of the frames; those without it are left out",
    "several_faces": "several faces are about as large and which was changed is not known; the "
    "largest is used",
    "short": "it has fewer frames than wanted; all are used",
    "lengths_differ": "another quality has fewer frames; those that all have are used",
    "no_mask": "it has no mask video",
    "mask_short": "its mask video is shorter than the fake; frames beyond it have no mask",
    "mask_shape": "its mask video has another shape than the fake; it is not used",
}


class Outcome(NamedTuple):
    """Results of all groups.

    Attributes:
        rows: By path in the output: path, frame, x, y, side of every frame.
        problems: By path in the output: kind and detail.
        crfs: By path in the output: the CRF that x264 was given, if the stream states it.
    """

    rows: dict[str, list[list[Any]]]
    problems: dict[str, list[tuple[str, str]]]
    crfs: dict[str, CRF]


def manifest_text(plan: PreparePlan, outcome: Outcome, options: Options, detector: str) -> str:
    """Return the manifest: every frame in the order of the plan, without fakes across splits.

    Args:
        plan: The plan.
        outcome: Its results.
        options: How faces were cropped and stored.
        detector: Face detector, see :func:`~.finders.fingerprint`.
    """
    rows: list[Sequence[Any]] = [(*COLUMNS, *EXTRA_COLUMNS)]
    for version in plan.versions:
        if version.out in plan.across:
            continue
        v = version.video
        about = (v.dataset, v.method, v.name, v.target, v.source, v.quality)
        twin = "" if version.crf is None else version.crf
        crf = as_text(outcome.crfs.get(version.out))
        made = (options.stored_as, twin, crf, detector, options.margin, options.size)
        label = int(v.method != "real")
        for path, frame, *square in outcome.rows[version.out]:
            rows.append((path, *about, frame, label, v.split, *made, *square))
    return _csv(rows)


def count_crfs(plan: PreparePlan, outcome: Outcome) -> dict[str, dict[str, int]]:
    """Count the videos of each quality by the CRF that their streams state.

    Args:
        plan: The plan.
        outcome: Its results.

    Returns:
        By quality: number of videos by CRF, ``lossless`` or ``unknown``.
    """
    counts: dict[str, Counter[str]] = {}
    for version in plan.versions:
        said = as_text(outcome.crfs.get(version.out)) or "unknown"
        counts.setdefault(version.video.quality, Counter())[said] += 1
    return {quality: dict(sorted(found.items())) for quality, found in counts.items()}


def problems_text(plan: PreparePlan, outcome: Outcome) -> str:
    """Return the problems as CSV, in the order of the plan."""
    rows: list[Sequence[Any]] = [PROBLEM_COLUMNS]
    for version in plan.versions:
        v = version.video
        for problem in outcome.problems.get(version.out, []):
            rows.append((v.dataset, v.method, v.name, v.quality, *problem))
    for place in plan.unlisted:
        _, method, quality, _, file = PurePosixPath(place).parts
        rows.append(("", method, PurePosixPath(file).stem, quality, UNLISTED, place))
    rows += [("", "", PurePosixPath(p).stem, "", PASSED_OVER, p) for p in plan.passed_over]
    return _csv(rows)


def summary_table(plan: PreparePlan, outcome: Outcome, where: str) -> Table:
    """Return a table of videos, frames and problems by data set, quality and method.

    Args:
        plan: The plan.
        outcome: Its results.
        where: The file that lists the problems.
    """
    kinds = [kind for kind in _KINDS if kind in set(_kinds(outcome, plan.versions))]
    notes = [f"{kind}: {_KINDS[kind]}" for kind in kinds]
    if plan.unlisted:
        notes.append(
            f"{UNLISTED}: {len(plan.unlisted)} video files of the tree are named by no split, or "
            "are of a method or quality that is known by another name; they are left out"
        )
    if plan.passed_over:
        found = Counter(PurePosixPath(place).suffix or "no suffix" for place in plan.passed_over)
        several = ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(4))
        notes.append(
            f"{PASSED_OVER}: files in the videos' folders that are not videos by name ({several})"
        )
    if missed := shares(count_missed(plan, outcome)):
        notes.append(
            f"{missed}: where the shares differ, what is left out depends on the class; a YuNet "
            ".onnx as --detector misses fewer than haar"
        )
    listed = kinds or plan.unlisted or plan.passed_over
    notes += [f"all are listed in {where}"] if listed else ["no problems"]
    if plan.across:
        fakes = {v.video[:3] for v in plan.versions if v.out in plan.across}
        notes.append(
            f"{len(fakes)} fakes whose donor is across the border of train and val have "
            "frames but are not in the manifest"
        )
    table = Table(title="Prepared", title_justify="left", caption=escape("\n".join(notes)))
    table.caption_justify = "left"
    for column in ("data set", "quality", "method"):
        table.add_column(column)
    for column in ("videos", "frames", *kinds):
        table.add_column(column, justify="right")
    cells: dict[tuple[str, str, str], list[Version]] = {}
    for version in plan.versions:
        v = version.video
        cells.setdefault((v.dataset, v.quality, v.method), []).append(version)
    for key, versions in cells.items():
        frames = sum(len(outcome.rows[version.out]) for version in versions)
        found = Counter(_kinds(outcome, versions))
        table.add_row(
            *map(escape, key), str(len(versions)), str(frames), *(str(found[k]) for k in kinds)
        )
    return table


def count_missed(plan: PreparePlan, outcome: Outcome) -> dict[str, tuple[int, int]]:
    """Count the videos without a face, and all videos, by class.

    Args:
        plan: The plan.
        outcome: Its results.
    """
    count: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for version in plan.versions:
        name = "real" if version.video.method == "real" else "fake"
        count[name] += 1
        missed[name] += "no_face" in _kinds(outcome, [version])
    return {name: (missed[name], count[name]) for name in ("real", "fake") if count[name]}


def subset_lines(plan: PreparePlan, outcome: Outcome) -> list[str]:
    """Return which part of the published videos was prepared, or a hint at ``--subset``."""
    if plan.subset is not None:
        return [f"a part of the published videos, {line}" for line in plan.subset.lines]
    missing = _kinds(outcome, plan.versions).count("missing")
    if not missing:
        return []
    return [
        f"{missing} of {len(plan.versions)} video files that the split files name are not there: "
        "--subset takes those that are, and trims the split files"
    ]


def _kinds(outcome: Outcome, versions: Iterable[Version]) -> list[str]:
    return [kind for v in versions for kind, _ in outcome.problems.get(v.out, [])]


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
