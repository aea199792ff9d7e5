"""Counts of videos and frames per split, method and quality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from rich.markup import escape
from rich.table import Table

from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.verify.findings import printable
from tokd_lightning.verify.inventory import Clip

_ORDER = (*SPLITS, "")


def count(clips: Sequence[Clip], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Count videos and frames.

    Args:
        clips: The videos.
        lengths: Number of frames of each; negative if unknown, which counts as 0.

    Returns:
        A dict per data set, quality, kind of files, split and method; splits in order, ``""`` for
        videos without a split.
    """
    found: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for clip, length in zip(clips, lengths, strict=True):
        v = clip.video
        cell = found[v.dataset, v.quality, clip.kind, v.split, v.method]
        cell[0] += 1
        cell[1] += max(0, length)
    names = ("dataset", "quality", "kind", "split", "method")
    order = sorted(
        found, key=lambda k: (*k[:3], _ORDER.index(k[3]) if k[3] in _ORDER else 9, k[4] != "real")
    )
    return [
        dict(zip(names, map(printable, key), strict=True))
        | {"videos": found[key][0], "frames": found[key][1]}
        for key in order
    ]


def counts_table(counts: Sequence[dict[str, Any]]) -> Table:
    """Draw the table of :func:`count` for a terminal: videos, and their frames in brackets."""
    table = Table(title="Videos (frames)", title_justify="left")
    for name in ("data set", "quality", "files", "split"):
        table.add_column(name)
    methods = list(dict.fromkeys(sorted((c["method"] for c in counts), key=lambda m: m != "real")))
    for method in methods:
        table.add_column(escape(method), justify="right", overflow="fold")
    rows: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for c in counts:
        row = (c["dataset"], c["quality"], c["kind"], c["split"] or "none")
        rows[row][c["method"]] = f"{c['videos']} ({c['frames']})"
    for key, after in zip_longest(rows, list(rows)[1:]):
        last = after is not None and key[:3] != after[:3]
        cells = (*key, *(rows[key].get(m, "–") for m in methods))
        table.add_row(*map(escape, cells), end_section=last)
    return table
