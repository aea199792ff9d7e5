"""Reliability diagram: fraction of fakes over P(fake), and a histogram of P(fake)."""

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tokd_lightning.evaluation.roc import COLOURS
from tokd_lightning.metrics.calibration import BINS


def reliability_png(calibration: dict[str, Any], title: str) -> bytes:
    """Draw the fraction of fakes over P(fake), and below it a histogram of P(fake).

    Args:
        calibration: As returned by :func:`~tokd_lightning.metrics.calibration.calibration`.
        title: Title of the figure.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(5.2, 6.8), layout="constrained")
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    middles, width = (np.arange(BINS) + 0.5) / BINS, 0.4 / BINS
    for number, (level, found) in enumerate(calibration.items()):
        count = np.array(found["bins"]["count"])
        there = count > 0
        said = np.array(found["bins"]["p_fake"], dtype=np.float64)[there]
        fakes = np.array(found["bins"]["fake"])[there]
        label = f"{count.sum()} {level}s: ECE {100 * found['ece']:.2f} %"
        style = {"color": COLOURS[level], "linewidth": 1.6, "markersize": 5, "clip_on": False}
        curve.plot(said, fakes / count[there], "o-", label=label, **style)
        places = middles + (number - 0.5) * width
        histogram.bar(places, 100 * count / count.sum(), width, color=COLOURS[level])
    curve.set(ylabel="share that is fake", xlim=(0, 1), ylim=(0, 1))
    histogram.set(xlabel="P(fake), mean of a bin", ylabel="% of them")
    for axes in (curve, histogram):
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title, fontsize="medium", wrap=True)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
