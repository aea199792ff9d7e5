"""Figure of an audit: every AUC of a run with its interval, on one axis."""

from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from tokd_lightning.report.svg import INK, OURS, PAPER, SERIES, SOFT, STYLE, pixels

_ROW, _MARGIN, _WIDTH = 23, 62, 760
_MAX_LABEL = 46


class _Line(NamedTuple):
    label: str
    found: dict[str, float]
    colour: str


@matplotlib.rc_context(STYLE)
def auc_figure(audit: dict[str, Any]) -> Figure | None:
    """Draw the AUC of data sets, forgeries, reals against reals, shortcuts and linear probe.

    Returns:
        None if no AUC is known.
    """
    lines = _lines(audit)
    if not lines:
        return None
    size = pixels(_WIDTH, _ROW * len(lines) + _MARGIN)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.axvline(50, color=SOFT, linewidth=1.2)
    for row, (_, found, colour) in enumerate(lines):
        low, high = 100 * found["low"], 100 * found["high"]
        axes.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(100 * found["value"], row, "o", color=colour, ms=6)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], color=INK)
    axes.set(xlim=(0, 100), ylim=(len(lines) - 0.5, -0.5))
    axes.set_xticks(range(0, 101, 10))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(
        "AUC over videos in percent, with its 95 % interval; the line at 50 is guessing"
    )
    return figure


def _lines(audit: dict[str, Any]) -> list[_Line]:
    lines = [_Line(one["name"], one["video"]["auc"], OURS) for one in audit["ranking"]]
    for row in audit["forgeries"]:
        unseen = ", unseen" if row["seen"] is False else ""
        on = f" ({row['on']})" if len(audit["ranking"]) > 1 else ""
        lines.append(_Line(f"  {row['method']}{unseen}{on}", row["auc"], SERIES[2]))
    if found := audit["probe"].get("probe_auc"):
        lines.append(
            _Line(f"linear probe, {audit['probe']['about']['backbone']}", found, SERIES[4])
        )
    for row in audit["real_floor"]:
        lines.append(_Line(f"real: {row['b']} above {row['a']}", row["auc"], PAPER))
    for row in audit["shortcuts"].get("rows", ()):
        lines.append(_Line(f"only {row['name']}", row["auc"], SERIES[5]))
    known = [line for line in lines if line.found]
    return [line._replace(label=_short(line.label)) for line in known]


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}…"
