"""Figures of evaluations: AUC over strength, and fraction of fakes over P(fake)."""

from collections.abc import Mapping, Sequence

from tokd_lightning.looks import looks, short_labels
from tokd_lightning.report.evaluations import LEVELS, Evaluated, EvaluatedOn, figure_name
from tokd_lightning.report.svg import INK, OURS, PAPER, RULE, SOFT, Point, Scale, Svg
from tokd_lightning.tables.further import aucs

MOST = 8  # maximum number of runs in a figure
# The palette's colours in its order, as variables of the page, which has a light and a dark theme.
_COLOURS = (
    *("var(--c7, #1c2430)", "var(--c6, #b07a00)", "var(--c1, #0072b2)", "var(--c2, #d55e00)"),
    *("var(--c3, #007a5a)", "var(--c4, #b4457f)", "var(--c5, #2f9fd0)"),
)
_WIDE = 4  # panels side by side
_LETTER = 6.1  # width in pixels of a letter at font size 11 px


def evaluated_figures(evaluated: Sequence[EvaluatedOn]) -> dict[str, Svg]:
    """Draw robustness and reliability of the best eight runs on each data set."""
    figures = {}
    for its in evaluated:
        if curves := draw_robustness(its):
            figures[figure_name("robustness", its.name)] = curves
        figures[figure_name("reliability", its.name)] = draw_reliability(its)
    return figures


def best(runs: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the :data:`MOST` runs with the highest AUC, in the given order."""
    ranked = sorted(runs, key=lambda one: -(one.metric("frame/auc") or 0))[:MOST]
    return [one for one in runs if one in ranked]


def draw_robustness(its: EvaluatedOn) -> Svg | None:
    """Draw frame AUC over strength, a panel per perturbation; None if no AUC is known."""
    runs = best([one for one in its.runs if one.robustness])
    every = [100 * v for one in runs for v in _every(one)]
    if not every:  # data of a single class have no AUC
        return None
    panels, left, panel, tall, head = its.perturbations, 46, 252, 168, 34
    wide = min(_WIDE, len(panels))
    high = -(-len(panels) // wide)
    said = f"AUC over strength on {its.title}"
    labels = short_labels([one.record for one in runs])
    colours = {name: _COLOURS[its.number] for name, its in looks(labels).items()}
    widest = int(_LETTER * max(map(len, labels))) + 36  # widest entry of the legend
    width = left + max(wide * panel, widest) + 8
    names = _columns(labels, width - 8)
    svg = Svg(width, high * (tall + head + 26) + 24 + 18 * len(names), said)
    low, high_end = min([50.0, *every]), max([60.0, *every])
    for number, (name, about) in enumerate(panels.items()):
        x0, y0 = left + number % wide * panel, number // wide * (tall + head + 26) + head
        x, y = Scale(0, 5, x0 + 14, x0 + panel - 22), Scale(low, high_end, y0 + tall - 6, y0 + 6)
        svg.text((x0 + 4, y0 - 10), f"{about['title']}: {about['parameter']}", INK, "start", 12)
        for tick in y.ticks(4):
            svg.line((x0 + 4, y(tick)), (x0 + panel - 12, y(tick)))
            if number % wide == 0:
                svg.text((left - 4, y(tick) + 4), f"{tick:.0f}", anchor="end", size=11)
        if number % wide == 0:
            svg.text((left - 4, y0 - 10), "AUC %", anchor="end", size=11)
        for place, label in enumerate(["clean", *(f"{value:g}" for value in about["values"])]):
            svg.text((x(place), y0 + tall + 12), label, size=11)
        for label, one in zip(labels, runs, strict=True):
            _curve(svg, one, name, x, y, colours[label])
    _legend(svg, names, colours, left, svg.height - 18 * len(names) - 8)
    return svg


def _curve(svg: Svg, one: Evaluated, name: str, x: Scale, y: Scale, colour: str) -> None:
    found = (one.robustness or {})["perturbations"].get(name)
    if found is None:
        return
    values = [(one.robustness or {})["clean"]["frame"]["auc"], *aucs(found, "frame")]
    places = [(x(n), y(100 * value)) for n, value in enumerate(values) if value is not None]
    svg.path(places, colour, 1.6)
    for place in places:
        svg.dot(place, colour, 2.4)


def _every(one: Evaluated) -> list[float]:
    found = (one.robustness or {})["perturbations"].values()
    values = [v for its in found for v in aucs(its, "frame")]
    return [v for v in [one.metric("frame/auc"), *values] if v is not None]


def draw_reliability(its: EvaluatedOn) -> Svg:
    """Draw the fraction of fakes over P(fake) and a histogram of P(fake), a panel per run."""
    runs = best(its.runs)
    labels = short_labels([one.record for one in runs])
    left, panel, tall, below, head = 46, 252, 190, 46, 44
    wide = min(_WIDE, len(runs))
    step = head + tall + below + 34
    high = -(-len(runs) // wide)
    width = max(left + wide * panel + 8, 530)
    svg = Svg(width, high * step + 26, f"Reliability on {its.title}")
    for number, one in enumerate(runs):
        x0, y0 = left + number % wide * panel, number // wide * step + head
        x, y = Scale(0, 1, x0 + 8, x0 + panel - 22), Scale(0, 1, y0 + tall, y0)
        for line, part in enumerate(reversed(_halves(labels[number]))):
            svg.text((x0 + 6, y0 - 10 - 14 * line), part, INK, "start", 11)
        for tick in (0, 0.5, 1):
            svg.line((x(0), y(tick)), (x(1), y(tick)))
            svg.text((x(tick), y0 + tall + below + 18), f"{tick:g}", size=11)
            if number % wide == 0:
                svg.text((left, y(tick) + 4), f"{tick:g}", anchor="end", size=11)
        svg.line((x(0), y(0)), (x(1), y(1)), SOFT, 1, "3 3")
        for level, colour in zip(LEVELS, (OURS, PAPER), strict=True):
            bins = one.record["calibration"][level]["bins"]
            found = zip(bins["count"], bins["p_fake"], bins["fake"], strict=True)
            places = [(x(p), y(fake / count)) for count, p, fake in found if count]
            svg.path(places, colour, 1.6)
            for place in places:
                svg.dot(place, colour, 2.6)
        _histogram(svg, one, x, y0 + tall + below)
    y_legend = svg.height - 8
    for at, word, colour in ((left, "frames", OURS), (left + 80, "videos", PAPER)):
        svg.line((at, y_legend - 4), (at + 22, y_legend - 4), colour, 2)
        svg.text((at + 28, y_legend), word, anchor="start", size=11)
    said = "share that is fake over P(fake); bars: how many frames"
    svg.text((left + 160, y_legend), said, anchor="start", size=11)
    return svg


def _histogram(svg: Svg, one: Evaluated, x: Scale, bottom: float) -> None:
    counts = one.record["calibration"]["frame"]["bins"]["count"]
    top = Scale(0, max(counts), bottom, bottom - 34)
    for n, count in enumerate(counts):
        if count:
            middle = x((n + 0.5) / len(counts))
            svg.line((middle, bottom), (middle, top(count)), OURS, 9)
    svg.line((x(0), bottom), (x(1), bottom), RULE)


def _columns(names: Sequence[str], width: float) -> list[Sequence[str]]:
    """Distribute names over the lines of a legend."""
    room = max(1, int(width // (_LETTER * max(map(len, names)) + 52)))
    return [names[n : n + room] for n in range(0, len(names), room)]


def _legend(
    svg: Svg, lines: list[Sequence[str]], colours: Mapping[str, str], left: float, top: float
) -> None:
    step = _LETTER * max(len(name) for line in lines for name in line) + 52
    for row, line in enumerate(lines):
        for column, name in enumerate(line):
            at: Point = (left + column * step, top + 18 * row + 14)
            svg.line((at[0], at[1] - 4), (at[0] + 22, at[1] - 4), colours[name], 2)
            svg.text((at[0] + 28, at[1]), name, anchor="start", size=11)


def _halves(name: str) -> list[str]:
    """Split a name that is too long for a panel at the underscore nearest to its middle."""
    if len(name) <= 34 or "_" not in name[1:]:
        return [name]
    places = [n for n, letter in enumerate(name) if letter == "_"]
    at = min(places, key=lambda n: abs(n - len(name) / 2))
    return [name[:at], name[at:]]
