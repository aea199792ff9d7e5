"""Figures of evaluations: AUC over strength, and fraction of fakes over P(fake)."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tokd_lightning.looks import looks, short_labels
from tokd_lightning.report.evaluations import LEVELS, Evaluated, EvaluatedOn
from tokd_lightning.report.figures import panels
from tokd_lightning.report.svg import OURS, PAPER, SERIES, SOFT, STYLE
from tokd_lightning.tables.evaluation_tables import aucs

MAX_RUNS = 8  # in a figure
_WIDE = 4  # panels in a row
_LETTER = 7.2  # width in pixels of a letter of the legend
_LINE = 34  # letters in a line of a panel's title


def best(runs: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the :data:`MAX_RUNS` runs with the highest AUC, in the given order."""
    ranked = sorted(runs, key=lambda one: -(one.metric("frame/auc") or 0))[:MAX_RUNS]
    return [one for one in runs if one in ranked]


@matplotlib.rc_context(STYLE)
def robustness_figure(its: EvaluatedOn) -> Figure | None:
    """Draw frame AUC over strength, a panel per perturbation; None if no AUC is known."""
    runs = best([one for one in its.runs if one.robustness])
    curves = [{name: _curve(one, name) for name in its.perturbations} for one in runs]
    every = [value for lines in curves for line in lines.values() for value in line[1:]]
    if np.isnan(every).all():  # data of a single class have no AUC
        return None
    labels = short_labels([one.record for one in runs])
    colours = {name: SERIES[look.number] for name, look in looks(labels).items()}
    widest = _LETTER * max(map(len, labels)) + 60
    width = max(252.0 * min(_WIDE, len(its.perturbations)), widest)
    columns = max(1, int(width // widest))
    below = 20 * -(-len(labels) // columns) + 14
    size = width / min(_WIDE, len(its.perturbations)), 222
    figure, grid = panels(len(its.perturbations), _WIDE, size, below, sharey=True)
    for axes, (name, about) in zip(grid, its.perturbations.items(), strict=True):
        axes.set_title(f"{about['title']}: {about['parameter']}", size=12, weight="normal")
        for label, lines in zip(labels, curves, strict=True):
            axes.plot(lines[name], color=colours[label], marker="o", ms=4.5, linewidth=1.6)
        ticks = ["clean", *(f"{value:g}" for value in about["values"])]
        axes.set_xticks(range(len(ticks)), ticks, size=11)
        axes.grid(visible=False, axis="x")
    low, high = grid[0].get_ylim()
    grid[0].set_ylim(min(low, 50), max(high, 60))
    for axes in grid[::_WIDE]:
        axes.set_ylabel("AUC %")
    handles = [Line2D([], [], color=colours[label], label=label) for label in labels]
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)
    return figure


def _curve(one: Evaluated, name: str) -> list[float]:
    """Return AUC in percent, clean and at each strength; NaN where undefined."""
    measured = one.robustness or {}
    found = measured["perturbations"].get(name)
    if found is None:
        return []
    values = [measured["clean"]["frame"]["auc"], *aucs(found, "frame")]
    return [np.nan if value is None else 100 * value for value in values]


@matplotlib.rc_context(STYLE)
def reliability_figure(its: EvaluatedOn) -> Figure:
    """Draw the fraction of fakes over P(fake) and a histogram of P(fake), a panel per run."""
    runs = best(its.runs)
    labels = short_labels([one.record for one in runs])
    wide = min(_WIDE, len(runs))
    high = -(-len(runs) // wide)
    width = max(252, 540 / wide)
    figure, grid = panels(
        2 * wide * high, wide, (width, 150), 28, height_ratios=[3.4, 1] * high, sharex=True
    )
    for number, (label, one) in enumerate(zip(labels, runs, strict=True)):
        row, column = divmod(number, wide)
        above, below = (grid[(2 * row + part) * wide + column] for part in (0, 1))
        above.set_title(_in_lines(label), size=11, weight="normal")
        above.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        for level, colour in zip(LEVELS, (OURS, PAPER), strict=True):
            bins = one.record["calibration"][level]["bins"]
            found = zip(bins["count"], bins["p_fake"], bins["fake"], strict=True)
            points = [(p, fake / count) for count, p, fake in found if count]
            above.plot(*zip(*points, strict=True), color=colour, marker="o", ms=4.5, linewidth=1.6)
        above.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), yticks=(0, 0.5, 1), xticks=(0, 0.5, 1))
        counts = one.record["calibration"]["frame"]["bins"]["count"]
        below.bar((np.arange(len(counts)) + 0.5) / len(counts), counts, 0.6 / len(counts),
                  color=OURS)  # fmt: skip
        below.set_yticks([])
        below.grid(visible=False)
        below.tick_params(axis="x", labelbottom=True)
        if column == 0:
            above.set_ylabel("share that is fake")
    for axes in grid:
        if not axes.has_data():
            axes.remove()
    figure.supxlabel("P(fake); bars: number of frames", size=12, color=SOFT)
    handles = [
        Line2D([], [], color=colour, label=f"{level}s")
        for level, colour in zip(LEVELS, (OURS, PAPER), strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2)
    return figure


def _in_lines(name: str) -> str:
    """Split a name that is too long for a panel at the underscore nearest to its middle."""
    marks = [place for place, letter in enumerate(name) if letter == "_" and place]
    if len(name) <= _LINE or not marks:
        return name
    at = min(marks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:at]}\n{name[at:]}"
