"""Fault-tolerant listing of manifests, which reports faulty rows."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.layouts.cells import Cells
from tokd_lightning.data.layouts.listed import LABELS, SPLIT_NAMES, UNKNOWN, below, spellings
from tokd_lightning.data.layouts.numbering import frame_numbers, numeric_order
from tokd_lightning.data.layouts.stills import Image, name_videos
from tokd_lightning.data.layouts.video_folder import FOLDERS, Video
from tokd_lightning.data.manifest import COLUMNS
from tokd_lightning.data.packed import split_path
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip

_ALL = sys.maxsize


def read_table(file: Path, root: Path, quality: str | None, report: Report) -> list[Clip]:
    """List the videos of a manifest.

    Args:
        file: A CSV file as :func:`~tokd_lightning.data.layouts.table.scan_table` reads it.
        root: Folder that its paths are relative to.
        quality: Quality of the rows to take; None takes all.
        report: Takes ``windows-path``, ``wrong-label``, ``split-file`` (an unknown split),
            ``missing-file`` (a path outside the root), ``video-in-two-splits`` and ``same-frame``.

    Raises:
        TokdError: It is not a table, or lacks a column path or split, or both label and method.
    """
    cells = Cells(file, COLUMNS)
    columns = cells.columns
    if lacking := [c for c in ("path", "split") if c not in columns]:
        raise TokdError(f"{file} lacks the columns {', '.join(lacking)}: it is not a manifest")
    if not {"label", "method"} & set(columns):
        raise TokdError(
            f"{file} has neither a column label nor a column method: it is not a manifest"
        )
    nothing = [""] * len(cells.lines)
    roots = spellings(root)
    found: list[_Row] = []
    for line, values in zip(
        cells.lines, zip(*(columns.get(c, nothing) for c in COLUMNS), strict=True), strict=True
    ):
        cell = dict(zip(COLUMNS, values, strict=True))
        where = f"{file.name}, line {line}"
        if "\\" in cell["path"]:
            report.add("windows-path", where, cell["path"])
        try:
            path = below(cell["path"], roots)
        except ValueError as error:
            report.add("missing-file", cell["path"], f"line {line}: {error}")
            continue
        frame = cell["frame"].strip().removesuffix(".0")
        found.append(_Row(_video(cell, path, where, report), path, frame, where))
    videos: dict[tuple[str, ...], Video] = {}
    rows: dict[Video, list[tuple[str, str]]] = defaultdict(list)
    for row, name in zip(found, name_videos([_image(row) for row in found]).videos, strict=True):
        video = row.video._replace(name=name)
        if quality not in (None, video.quality):
            continue
        known = videos.setdefault((video.dataset, video.method, name, video.quality), video)
        if known.split != video.split:
            key = f"{video.dataset}/{video.method}/{name}"
            detail = f"{known.split}, and {video.split} in {row.where}"
            report.add("video-in-two-splits", key, detail)
        rows[known].append((row.path, row.frame))
    for video, frames in rows.items():
        first: dict[str, str] = {}
        for path, number in frames:
            if number and first.setdefault(number, path) != path:
                report.add("same-frame", path, f"also {first[number]}")
        for path in {p for p, _ in frames if [q for q, _ in frames].count(p) > 1}:
            report.add("same-frame", path, f"listed twice for {video.method}/{video.name}")
    return list(_clips(rows))


class _Row(NamedTuple):
    """Row of a manifest: its video (perhaps without a name), path, frame and line."""

    video: Video
    path: str
    frame: str
    where: str


def _video(row: dict[str, str], path: str, where: str, report: Report) -> Video:
    """Read the video of a row, and report contradictions."""
    text, method = row["label"].strip().casefold(), row["method"].strip()
    label = LABELS.get(text)
    if label is None and (text or not method):
        report.add("wrong-label", where, f"label {row['label']!r}, method {method!r}")
    if not method:
        method = "real" if label == 0 else "fake"
    elif label is not None and (label == 0) != (method.casefold() == "real"):
        report.add("wrong-label", where, f"label {text}, method {method}")
    split = SPLIT_NAMES.get(row["split"].strip().casefold(), "")
    if not split:
        report.add("split-file", where, f"split {row['split']!r} is not train, val or test")
    place, record = split_path(path)
    if record is None:
        place = place.rpartition("/")[0]
    about = (row["target"], row["source"], row["quality"] or UNKNOWN, split, place)
    return Video(row["dataset"] or "manifest", method, row["video"], *about)


def _image(row: _Row) -> Image:
    file, record = split_path(row.path)
    v = row.video
    about = (v.dataset, v.method, v.quality, v.split, v.name)
    return Image(file, record is not None, *about, bool(row.frame))


def _clips(rows: dict[Video, list[tuple[str, str]]]) -> Iterator[Clip]:
    for video, frames in rows.items():
        files = dict.fromkeys(split_path(path)[0] for path, _ in frames)
        kind = next((part for part in video.place.split("/") if part in FOLDERS), FOLDERS[0])
        if any(split_path(path)[1] is not None for path, _ in frames):
            yield Clip(video, kind, tuple(files))
            continue
        told = dict.fromkeys(path for path, _ in frames)
        numbers = [number for _, number in {path: (path, n) for path, n in frames}.values()]
        if not all(number.isdecimal() for number in numbers):
            order = sorted(told, key=lambda path: numeric_order(path.rpartition("/")[2]))
            names = [path.rpartition("/")[2] for path in order]
            yield Clip(video, kind, tuple(order), tuple(frame_numbers(names)))
        else:
            yield Clip(video, kind, tuple(told), tuple(int(number) for number in numbers))
