"""Plot of the scaling section: time and memory against each size, on logarithmic axes."""

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.figures import Curve, Row
from tokd_lightning.files import write_bytes


def draw(rows: Iterable[Row], file: Path) -> bool:
    """Draw one panel for each quantity and axis that has a curve.

    Args:
        rows: Figures; those without a curve are skipped.
        file: The PNG; written atomically.

    Returns:
        Whether there was a curve to draw.

    Raises:
        TokdError: The file cannot be written.
    """
    panels: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for row in rows:
        if row.curve is not None:
            what = row.what.split(" of ", 1)[1].split(":")[0]
            panels.setdefault((row.curve.axis, row.curve.quantity), []).append((what, row))
    if not panels:
        return False
    axes_names = list(dict.fromkeys(axis for axis, _ in panels))
    figure, grid = plt.subplots(
        2, len(axes_names), figsize=(3.1 * len(axes_names), 5.6), squeeze=False
    )
    for column, axis in enumerate(axes_names):
        for line, quantity in enumerate(("time", "memory")):
            panel = grid[line][column]
            found = panels.get((axis, quantity), [])
            panel.set_visible(bool(found))
            for number, (what, row) in enumerate(found):
                assert row.curve is not None
                _line(panel, what, row.curve, row.spread.median, f"C{number}")
            if found:
                _finish(panel, axis, quantity, found)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    plt.close(figure)
    write_bytes(file, drawn.getvalue())
    return True


def _line(panel: Axes, what: str, curve: Curve, slope: float, colour: str) -> None:
    x = np.array([at for at, _ in curve.points])
    median, low, high = (np.array(part) for part in zip(*(s for _, s in curve.points), strict=True))
    bars = np.stack([median - low, high - median]).clip(0)
    panel.errorbar(x, median, bars, fmt="o", color=colour, markersize=4, capsize=2)
    fitted = np.exp(np.log(median).mean() + slope * (np.log(x) - np.log(x).mean()))
    panel.plot(x, fitted, "--", color=colour, linewidth=1, label=f"{what}: {slope:.2f}")


def _finish(panel: Axes, axis: str, quantity: str, found: list[tuple[str, Row]]) -> None:
    curve = found[0][1].curve
    assert curve is not None
    panel.set_xscale("log")
    panel.set_yscale("log")
    ticks = [at for at, _ in curve.points]
    panel.set_xticks(ticks, [f"{at:g}" for at in ticks])
    panel.minorticks_off()
    values = [s.median for _, row in found if row.curve for _, s in row.curve.points]
    room = max(1.25, (max(values) / min(values)) ** 0.4)  # for the legend
    low, high = min(values) / 1.25, max(values) * room
    steps = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    shown = [step * 10.0**power for power in range(-4, 8) for step in steps]
    inside = [value for value in shown if low <= value <= high]
    panel.set_yticks(inside, [f"{value:g}" for value in inside])
    panel.set_ylim(low, high)
    panel.set_xlabel(axis)
    panel.set_ylabel(f"{quantity}, {curve.unit}")
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", fontsize=7, title="exponent of the fit", title_fontsize=7)
