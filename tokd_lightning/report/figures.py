"""Figures of the report: both against rgb, accuracy by alpha (Fig. 3), cosines by d (Fig. 4)."""

import math
from collections.abc import Sequence

import pandas as pd

from tokd_lightning.errors import TokdError
from tokd_lightning.report import text
from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.curves import read_curves
from tokd_lightning.report.model import Place, TableReport
from tokd_lightning.report.reading import Reader
from tokd_lightning.report.svg import INK, OURS, PAPER, RULE, SOFT, Scale, Svg

_WIDEST = 8.0  # half-width limit of the both - rgb axis in percentage points; means may exceed it
_POINTS = 80  # maximum number of points of a curve
_PARTS = {"rotated entries": "gradient/cosine_rotated", "all entries": "gradient/cosine_full"}


def draw_pairs(pairs: Sequence[Pair]) -> Svg | None:
    """Draw both - rgb of every method, one panel per row of Table 3; None without pairs."""
    rows = list(dict.fromkeys(pair.row for pair in pairs))
    methods = list(dict.fromkeys(pair.method for pair in pairs))
    if not rows:
        return None
    ends = [abs(p.published) for p in pairs if p.published is not None]
    ends += [
        100 * max(abs(p.difference.low), abs(p.difference.high)) for p in pairs if p.difference
    ]
    means = [100 * abs(pair.difference.mean) for pair in pairs if pair.difference]
    limit = min(max([_WIDEST, *(1.15 * mean for mean in means)]), 1.15 * max([1.0, *ends]))
    wide, left, panel, step, head = min(3, len(rows)), 66, 326, 27, 34
    high = -(-len(rows) // wide)
    tall = head + step * len(methods) + 34
    below = 20 if wide == 1 else 0  # extra line for the legend, too long for a single panel
    title = "Both branches less RGB alone, by method"
    svg = Svg(left + wide * panel + 8, high * tall + 34 + below, title)
    for number, row in enumerate(rows):
        x0, y0 = left + number % wide * panel, number // wide * tall
        scale = Scale(-limit, limit, x0 + 16, x0 + panel - 24)
        bottom = y0 + head + step * len(methods)
        svg.text((x0 + 16, y0 + 18), row, INK, "start", 13, bold=True)
        for tick in scale.ticks(8):
            zero = abs(tick) < 1e-9
            svg.line((scale(tick), y0 + head - 6), (scale(tick), bottom), SOFT if zero else RULE)
            svg.text((scale(tick), bottom + 16), text.signed(tick, 0 if limit > 2 else 1))
        for place, method in enumerate(methods):
            y = y0 + head + step * (place + 0.5)
            if number % wide == 0:
                svg.text((left - 4, y + 4), method, INK, "end", 13)
            for pair in pairs:
                if (pair.row, pair.method) == (row, method):
                    _draw_pair(svg, pair, scale, y)
    y = high * tall + 16
    svg.dot((left + 16, y))
    svg.text((left + 26, y + 4), "ours, with its 95 % interval", anchor="start")
    svg.diamond((left + 226, y))
    svg.text((left + 236, y + 4), "the paper’s", anchor="start")
    at = (left + 26, y + 4 + below) if below else (left + 330, y + 4)
    svg.text(at, "points of accuracy; right of 0, both is better", anchor="start")
    return svg


def _draw_pair(svg: Svg, pair: Pair, scale: Scale, y: float) -> None:
    def inside(value: float) -> float:
        return scale(max(scale.low, min(scale.high, value)))

    if pair.difference:
        low, mean, high = (
            100 * v for v in (pair.difference.low, pair.difference.mean, pair.difference.high)
        )
        svg.line((inside(low), y), (inside(high), y), OURS, 2.4)
        for end, sign in ((low, -1), (high, 1)):
            x = inside(end)
            if sign * end > scale.high:  # the interval extends beyond the axis
                tip = [(x + 6 * sign, y), (x - 1 * sign, y - 5), (x - 1 * sign, y + 5)]
                svg.shape(tip, OURS)
            else:
                svg.line((x, y - 4), (x, y + 4), OURS, 1.6)
        svg.dot((inside(mean), y), radius=4.5)
    if pair.published is not None:
        svg.diamond((inside(pair.published), y))
    if not pair.difference:
        # On the side opposite to the paper's number.
        right = pair.published is None or pair.published <= 0
        at = scale.end - 4 if right else scale.start + 4
        svg.text((at, y + 4), pair.why, SOFT, "end" if right else "start", 11)


def draw_alphas(table: TableReport) -> Svg | None:
    """Draw accuracy by alpha (Fig. 3), one panel per data set; None without entries."""
    columns = table.columns
    if not columns:
        return None
    panel, left, top, bottom = 450, 58, 44, 268
    svg = Svg(panel * len(columns) + 8, 326, table.table.title)
    for number, column in enumerate(columns):
        places = {_alpha(row): table.places[row, column] for row in table.rows}
        known = [place.ours for place in places.values() if place.ours]
        ends = [ours.mean + sign * (ours.sd or 0) for ours in known for sign in (-1, 1)]
        low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
        pad = max(0.25, 0.15 * (high - low)) if ends else 0.0
        x = Scale(
            min(places), max(places), panel * number + left + 14, panel * (number + 1) - 18, True
        )
        y = Scale(low - pad, high + pad, bottom, top)
        svg.text((panel * number + left, 24), column, INK, "start", 13, bold=True)
        for tick in y.ticks(5):
            svg.line((panel * number + left, y(tick)), (panel * (number + 1) - 6, y(tick)))
            digits = 0 if high - low > 5 else 1
            svg.text((panel * number + left - 8, y(tick) + 4), f"{tick:.{digits}f}", anchor="end")
        for alpha, place in places.items():
            svg.line((x(alpha), bottom), (x(alpha), bottom + 5), SOFT)
            svg.text((x(alpha), bottom + 19), f"{alpha:g}")
            if place.ours is None:
                svg.text((x(alpha), bottom - 6), "×", SOFT, size=14)
        svg.text((panel * (number + 0.5) + 20, bottom + 42), "alpha (log scale)", SOFT)
        drawn = [(x(a), y(p.ours.mean), p.ours.sd) for a, p in places.items() if p.ours]
        if len(drawn) > 1:
            svg.path([(a, b) for a, b, _ in drawn], OURS)
        for a, b, sd in drawn:
            if sd:
                half = (y(0) - y(sd)) if sd else 0
                svg.line((a, b - half), (a, b + half), OURS, 1.4)
            svg.dot((a, b))
    missing = any(place.ours is None for place in table.places.values())
    said = "ours: mean and sd over seeds" + ("; × is not run" if missing else "")
    svg.text((svg.width - 12, 24), said, SOFT, "end")
    return svg


def _alpha(row: str) -> float:
    return float(row.rpartition(" ")[2])


def draw_cosines(table: TableReport, reader: Reader) -> Svg | None:
    """Draw cos(v_r, v_f) over training steps before and after rotation (Fig. 4), a panel per d."""
    if not table.rows:
        return None
    curves = {row: _curves(table.places[row, table.columns[0]], reader) for row in table.rows}
    panel, left, top, tall, gap = 176, 62, 58, 130, 34
    svg = Svg(left + panel * len(curves) + 8, top + tall * 2 + gap + 56, table.table.title)
    every = [v for lines in curves.values() for _, _, line in lines for _, v in line]
    low, high = (min([-0.1, *every]), max([0.1, *every]))
    for column, (row, lines) in enumerate(curves.items()):
        x0 = left + panel * column
        svg.text((x0 + panel / 2 - 6, 22), row, INK, size=13, bold=True)
        for line_of, part in enumerate(_PARTS):
            y0 = top + line_of * (tall + gap)
            y = Scale(low, high, y0 + tall - 4, y0 + 4)
            for tick in y.ticks(4):
                zero = abs(tick) < 1e-9
                svg.line((x0, y(tick)), (x0 + panel - 12, y(tick)), SOFT if zero else RULE)
                if column == 0:
                    svg.text((left - 8, y(tick) + 4), text.signed(tick, 1), anchor="end")
            if column == 0:
                svg.text((left, y0 - 8), f"cosine over {part}", SOFT, "start")
            shown = [(when, line) for p, when, line in lines if p == part and line]
            if not shown:
                why = table.places[row, table.columns[0]].state
                why = why if not lines else "no rotation"
                svg.text((x0 + panel / 2 - 6, y0 + tall / 2 - 6), why, SOFT)
            last = max([1.0, *(step for _, line in shown for step, _ in line)])
            x = Scale(0, last, x0 + 2, x0 + panel - 14)
            for when, line in shown:
                colour, dashes = (PAPER, "5 3") if when == "before" else (OURS, "")
                svg.path([(x(a), y(b)) for a, b in line], colour, 1.6, dashes)
    y_legend = svg.height - 14
    svg.text((left, y_legend - 22), "training step, from the first to the last", anchor="start")
    for at, label, colour, dashes in (
        (left, "before rotation", PAPER, "5 3"),
        (left + 150, "after rotation", OURS, ""),
    ):
        svg.line((at, y_legend - 4), (at + 26, y_legend - 4), colour, 2, dashes)
        svg.text((at + 32, y_legend), label, anchor="start")
    return svg


def _curves(place: Place, reader: Reader) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Return (part, before or after, points) of each seed's gradient cosines."""
    found = []
    for result in place.results:
        try:
            table = read_curves(reader.runs / result.cell.name)
        except TokdError as error:
            reader.warn(str(error))
            continue
        for part, prefix in _PARTS.items():
            for when in ("before", "after"):
                if (column := f"{prefix}_{when}") in table:
                    found.append((part, when, _thinned(table, column)))
    return found


def _thinned(table: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    """Average a curve over intervals of steps, so that at most :data:`_POINTS` points are left."""
    values = table.set_index("step")[column]
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    numbers = numbers[~numbers.index.duplicated(keep="last")].sort_index()
    if numbers.empty:
        return []
    width = max(1, math.ceil(len(numbers) / _POINTS))
    order = pd.Series(range(len(numbers)), index=numbers.index) // width
    means, steps = numbers.groupby(order).mean(), numbers.index.to_series().groupby(order).mean()
    return list(zip(steps.astype(float), means.astype(float), strict=True))
