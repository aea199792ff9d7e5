"""``bands.csv`` and its figure: how the scores drop as frequencies are removed from the images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tokd_lightning.explain.drawing import tidy
from tokd_lightning.explain.survey import Survey
from tokd_lightning.looks import looks
from tokd_lightning.metrics.classification import binary_metrics

MEASURES = ("auc", "balanced_acc", "p_fake_real", "p_fake_fake")
_COLUMNS = {"remove": "one band removed", "low-pass": "low-pass", "high-pass": "high-pass"}
_AXES = {
    "remove": "removed band, $u/H + v/W$",
    "low-pass": "all frequencies from here on removed",
    "high-pass": "all frequencies up to here removed",
}
_GREY = "0.91"


def band_table(found: Survey) -> pd.DataFrame:
    """Compute the metrics of a run under every filter.

    Returns:
        A row per filter: ``filter``, ``low`` and ``high`` (the removed band, or the band that a
        low- or high-pass keeps), ``frames``, ``auc``, ``balanced_acc``, the mean P(fake) of real
        and of fake frames (``p_fake_…``), the drops of AUC and balanced accuracy (``…_drop``), and
        for a removed band its share of the images' energy without the mean, in real and in fake
        frames (``energy_…``).
    """
    label = found.scores["label"].to_numpy(np.int64)
    total = found.energy.sum(axis=0)
    rows: list[dict[str, Any]] = []
    band = 0
    for name, p_fake in zip(found.filters, found.filtered, strict=True):
        metrics = binary_metrics(label, p_fake)
        row: dict[str, Any] = {"filter": name.kind, "low": name.low, "high": name.high}
        row |= {
            "frames": len(label),
            "auc": metrics["auc"],
            "balanced_acc": metrics["balanced_acc"],
        }
        row |= {"p_fake_real": _mean(p_fake[label == 0]), "p_fake_fake": _mean(p_fake[label == 1])}
        if name.kind == "remove":
            row |= dict(
                zip(("energy_real", "energy_fake"), found.energy[band] / total, strict=True)
            )
            band += 1
        rows.append(row)
    table = pd.DataFrame(rows)
    for measure in ("auc", "balanced_acc"):
        table[f"{measure}_drop"] = table[measure].iloc[0] - table[measure]
    return table


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def draw_bands(
    tables: Mapping[str, pd.DataFrame], title: str, cutoffs: Sequence[float] = ()
) -> Figure:
    """Draw the curves of all runs: one band removed, low-passed and high-passed.

    The shading behind the curves is the share of each band in the images' energy without the
    mean, on a logarithmic scale from 10^-5 to 1.

    Args:
        tables: Label of each run -> its :func:`band_table`, all with the same bands.
        title: Title of the figure.
        cutoffs: Cutoffs of the Eq. 1 filters of the runs' networks, to mark.
    """
    first = next(iter(tables.values()))
    bands = first[first["filter"] == "remove"]
    edges = [*bands["low"], bands["high"].iloc[-1]]
    figure = Figure(figsize=(10.5, 8.2), layout="constrained")
    grid = figure.subplots(3, len(_COLUMNS), sharex="col", sharey="row")
    energy = np.mean([_energy(table) for table in tables.values()], axis=0)
    for axes in grid.flat:
        _shade(axes, energy)
        for cutoff in cutoffs:
            place = float(np.interp(cutoff, edges, range(len(edges))))
            axes.axvline(place, color="0.45", linewidth=0.9, linestyle=":")
    chosen = looks(list(tables))
    for label, table in tables.items():
        _, colour, marker = chosen[label]
        look = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.3}
        for column, kind in enumerate(_COLUMNS):
            at, rows = _curve(table, kind, edges)
            for row, measure in enumerate(MEASURES[:2]):
                axes = grid[row, column]
                axes.plot(at, rows[measure], label=label, **look)
                whole = table[measure].iloc[0]
                if kind == "remove":
                    axes.axhline(whole, color=colour, linewidth=0.8, linestyle="-.", alpha=0.7)
            grid[2, column].plot(at, rows["p_fake_fake"], **look)
            grid[2, column].plot(
                at, rows["p_fake_real"], **{**look, "markerfacecolor": "white"}, linestyle="--"
            )
    _name(grid, edges)
    handles: list[Any] = list(grid[0, 0].get_legend_handles_labels()[0]) if len(tables) > 1 else []
    handles += [
        Line2D([], [], color="0.3", label="fake frames"),
        Line2D([], [], color="0.3", linestyle="--", label="real frames"),
        Line2D([], [], color="0.3", linestyle="-.", linewidth=0.8, label="nothing removed"),
        Patch(color=_GREY, label="share of the energy, $10^{-5}$ to 1"),
    ]
    if cutoffs:
        said = ", ".join(f"{cutoff:g}" for cutoff in cutoffs)
        handles.append(
            Line2D([], [], color="0.45", linestyle=":", label=f"cutoff of $x^F$, {said}")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title.replace("$", r"\$"), fontsize="medium")
    return figure


def _energy(table: pd.DataFrame) -> np.ndarray:
    bands = table[table["filter"] == "remove"]
    return np.asarray(bands[["energy_real", "energy_fake"]].mean(axis=1), np.float64)


def _shade(axes: Axes, energy: np.ndarray) -> None:
    """Shade the logarithm of each share, from 10^-5 at the bottom of the panel to 1 at its top."""
    heights = 1 + np.log10(energy.clip(1e-5, 1)) / 5
    axes.stairs(
        heights,
        range(len(energy) + 1),
        fill=True,
        color=_GREY,
        zorder=0,
        transform=axes.get_xaxis_transform(),
    )


def _curve(
    table: pd.DataFrame, kind: str, edges: Sequence[float]
) -> tuple[list[float], pd.DataFrame]:
    """Return the positions of a kind of filter on the band axis, and its rows."""
    rows = table[table["filter"] == kind]
    if kind == "remove":
        return [number + 0.5 for number in range(len(rows))], rows
    whole, nothing = table[table["filter"] == "none"], table[table["filter"] == "mean"]
    ends = (nothing, whole) if kind == "low-pass" else (whole, nothing)
    return [float(n) for n in range(len(edges))], pd.concat([ends[0], rows, ends[1]])


def _name(grid: Any, edges: Sequence[float]) -> None:
    """Label the axes of the panels."""
    ticks = range(len(edges))
    texts = [f"{edge:.2g}" for edge in edges]
    for column, (kind, title) in enumerate(_COLUMNS.items()):
        grid[0, column].set_title(f"({'abc'[column]}) {title}", fontsize="medium")
        grid[2, column].set_xlabel(_AXES[kind])
        for axes in grid[:, column]:
            axes.set_xticks(ticks, texts, rotation=60, fontsize=7)
            axes.set_xlim(0, len(edges) - 1)
            tidy(axes)
    for axes, text in zip(grid[:, 0], ("AUC", "balanced accuracy", "mean P(fake)"), strict=True):
        axes.set_ylabel(text)
        values = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2]
        least = float(np.nanmin(np.concatenate([*values, [0.43]])))
        axes.set_ylim(-0.02 if text.startswith("mean") else least - 0.03, 1.02)
