"""Figures of the report: both against rgb, accuracy by alpha (Fig. 3), cosines by d (Fig. 4)."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from tokd_lightning.errors import TokdError
from tokd_lightning.report import text
from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.curves import read_curves
from tokd_lightning.report.model import FilledEntry, TableReport
from tokd_lightning.report.reader import Reader
from tokd_lightning.report.svg import GROUND, INK, OURS, PAPER, SOFT, STYLE, pixels

MAX_HALF_WIDTH = 8.0  # of the both - rgb axis, in percentage points; means may exceed it
MAX_POINTS = 80  # of a curve
PARTS = {"rotated entries": "gradient/cosine_rotated", "all entries": "gradient/cosine_full"}
_DIAMOND: dict[str, Any] = {"marker": "D", "mfc": GROUND, "mec": PAPER, "ms": 6, "mew": 1.6}


def panels(
    number: int, wide: int, size: tuple[float, float], below: float = 0, **options: Any
) -> tuple[Figure, list[Any]]:
    """Return a figure and its panels, row by row; those beyond the number are removed.

    Args:
        number: Number of panels.
        wide: Maximum number in a row.
        size: Width and height of one, in pixels.
        below: Height of a legend below all, in pixels.
        **options: Of matplotlib's ``subplots``.
    """
    wide = min(wide, number)
    high = -(-number // wide)
    figure = Figure(figsize=pixels(wide * size[0], high * size[1] + below), layout="constrained")
    grid = list(figure.subplots(high, wide, squeeze=False, **options).flat)
    for axes in grid[number:]:
        axes.remove()
    return figure, grid[:number]


@matplotlib.rc_context(STYLE)
def pairs_figure(pairs: Sequence[Pair]) -> Figure | None:
    """Draw both - rgb of every method, one panel per row of Table 3; None without pairs."""
    rows = list(dict.fromkeys(pair.row for pair in pairs))
    methods = list(dict.fromkeys(pair.method for pair in pairs))
    if not rows:
        return None
    known = [pair.difference for pair in pairs if pair.difference]
    ends = [abs(pair.published) for pair in pairs if pair.published is not None]
    ends += [100 * max(abs(difference.low), abs(difference.high)) for difference in known]
    means = [1.15 * 100 * abs(difference.mean) for difference in known]
    limit = min(max([MAX_HALF_WIDTH, *means]), 1.15 * max([1.0, *ends]))
    size = 350, 27 * len(methods) + 72
    figure, grid = panels(len(rows), 3, size, 28 if len(rows) > 1 else 68, sharey=True)
    for axes, row in zip(grid, rows, strict=True):
        axes.set_title(row)
        axes.set(xlim=(-limit, limit), ylim=(len(methods) - 0.5, -0.5))
        axes.set_yticks(range(len(methods)), methods, color=INK)
        axes.tick_params(axis="y", pad=9)
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(lambda tick, _: text.signed(tick, 0 if limit > 2 else 1))
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=SOFT, linewidth=1)
        for pair in pairs:
            if pair.row == row:
                _draw_pair(axes, pair, methods.index(pair.method), limit)
    handles = [
        Line2D([], [], color=OURS, marker="o", label="ours, with its 95 % interval"),
        Line2D([], [], linestyle="", label="the paper’s", **_DIAMOND),
        Line2D([], [], linestyle="", label="points of accuracy; right of 0, both is better"),
    ]
    columns = 3 if len(rows) > 1 else 1
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)
    return figure


def _draw_pair(axes: Any, pair: Pair, y: int, limit: float) -> None:
    if pair.difference:
        difference = pair.difference
        low, mean, high = (100 * v for v in (difference.low, difference.mean, difference.high))
        inside = np.clip([low, high], -limit, limit)
        axes.plot(inside, [y, y], color=OURS, linewidth=2.4)
        for end, sign in ((low, -1), (high, 1)):
            beyond = sign * end > limit  # an arrow shows that the interval continues
            arrow = "<" if sign < 0 else ">"
            axes.plot(
                np.clip(end, -limit, limit), y, color=OURS, clip_on=False,
                marker=arrow if beyond else "|", ms=9, mew=0 if beyond else 1.6,
            )  # fmt: skip
        axes.plot(mean, y, "o", color=OURS, ms=8)
    if pair.published is not None:
        axes.plot(pair.published, y, **_DIAMOND)
    if not pair.difference:
        # On the side opposite to the paper's number.
        right = pair.published is None or pair.published <= 0
        at = 0.98 * limit if right else -0.98 * limit
        axes.text(at, y, pair.why, size=11, ha="right" if right else "left", va="center")


@matplotlib.rc_context(STYLE)
def alpha_figure(table: TableReport) -> Figure | None:
    """Draw accuracy by alpha (Fig. 3), one panel per data set; None without entries."""
    if not table.columns:
        return None
    figure, grid = panels(len(table.columns), 2, (450, 300), 26)
    for axes, column in zip(grid, table.columns, strict=True):
        entries = {float(row.rpartition(" ")[2]): table.entries[row, column] for row in table.rows}
        found = {alpha: entry.ours for alpha, entry in entries.items() if entry.ours}
        axes.set_title(column)
        axes.set(xscale="log", xlabel="alpha (log scale)")
        axes.set_xticks(list(entries), [f"{alpha:g}" for alpha in entries])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(visible=False, axis="x")
        axes.errorbar(
            list(found), [ours.mean for ours in found.values()],
            [ours.sd or 0 for ours in found.values()], color=OURS, marker="o", ms=7,
        )  # fmt: skip
        if not found:
            axes.set(ylim=(0, 100), xlim=(0.8 * min(entries), 1.25 * max(entries)))
        missing = [alpha for alpha, entry in entries.items() if entry.ours is None]
        axes.plot(missing, np.zeros(len(missing)) + 0.03, "x", color=SOFT, ms=7,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    handles = [Line2D([], [], color=OURS, marker="o", label="ours: mean and sd over seeds")]
    if any(entry.ours is None for entry in table.entries.values()):
        handles.append(Line2D([], [], color=SOFT, marker="x", linestyle="", label="not run"))
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def cosine_figure(table: TableReport, reader: Reader) -> Figure | None:
    """Draw cos(v_r, v_f) over training steps before and after rotation (Fig. 4), a panel per d."""
    if not table.rows:
        return None
    [column] = table.columns
    entries = {row: table.entries[row, column] for row in table.rows}
    curves = {row: _curves(entry, reader) for row, entry in entries.items()}
    wide = len(entries)
    figure, grid = panels(2 * wide, wide, (180, 196), 30, sharey=True, sharex="col")
    for number, part in enumerate(PARTS):
        for axes, (row, lines) in zip(grid[number * wide :], curves.items(), strict=False):
            shown = [(when, line) for p, when, line in lines if p == part and len(line)]
            axes.axhline(0, color=SOFT, linewidth=1)
            axes.grid(visible=False, axis="x")
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            if number == 0:
                axes.set_title(row, loc="center")
            axes.tick_params(axis="x", labelsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            for when, line in shown:
                colour, style = (PAPER, (0, (3, 2))) if when == "before" else (OURS, "-")
                axes.plot(line.index, line, color=colour, linestyle=style, linewidth=1.6)
            if not shown:
                why = "no rotation" if lines else entries[row].state
                axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
                axes.set_xticks([])
        grid[number * wide].set_ylabel(f"cosine over {part}", size=11)
    if any(map(len, curves.values())):
        figure.supxlabel("training step", size=12, color=SOFT)
    low, high = grid[0].get_ylim()
    grid[0].set_ylim(min(low, -0.1), max(high, 0.1))
    handles = [
        Line2D([], [], color=PAPER, linestyle=(0, (3, 2)), label="before rotation"),
        Line2D([], [], color=OURS, label="after rotation"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _curves(entry: FilledEntry, reader: Reader) -> list[tuple[str, str, "pd.Series[float]"]]:
    """Return (part, before or after, cosine by step) of each seed's gradients."""
    found = []
    for result in entry.results:
        try:
            table = read_curves(reader.runs / result.cell.name)
        except TokdError as error:
            reader.warn(str(error))
            continue
        for part, prefix in PARTS.items():
            for when in ("before", "after"):
                if (column := f"{prefix}_{when}") in table:
                    found.append((part, when, _thinned(table, column)))
    return found


def _thinned(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Average a curve over intervals of steps, so that at most :data:`MAX_POINTS` are left."""
    numbers = pd.to_numeric(table.set_index("step")[column], errors="coerce").dropna()
    numbers = numbers[~numbers.index.duplicated(keep="last")].sort_index()
    order = np.arange(len(numbers)) // max(1, math.ceil(len(numbers) / MAX_POINTS))
    steps = pd.Series(numbers.index, dtype=float).groupby(order).mean()
    return pd.Series(numbers.groupby(order).mean().to_numpy(float), index=steps.to_numpy())
