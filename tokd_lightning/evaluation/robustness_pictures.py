"""Figures of robustness: AUC over strength, and a frame at every strength."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tokd_lightning.data.perturbations import PERTURBATIONS, every_strength
from tokd_lightning.evaluation.roc import COLOURS
from tokd_lightning.looks import COLOURS as COLOURS_OF_RUNS
from tokd_lightning.looks import looks, short_labels

_WIDE = 4  # panels side by side
_DASHES = ("-", "--", ":")


def robustness_png(records: Sequence[dict[str, Any]], title: str) -> bytes:
    """Draw AUC over strength, one panel per perturbation.

    Args:
        records: Contents of the ``robustness.json`` files of one data set. A single one is drawn at
            frame and video level, several only at frame level.
        title: Title of the figure.

    Returns:
        A PNG.
    """
    names = [name for name in PERTURBATIONS if any(name in r["perturbations"] for r in records)]
    high = -(-(len(names) + 1) // _WIDE)
    wide = min(_WIDE, len(names) + 1)
    figure = Figure(figsize=(2.6 * wide + 0.6, 2.5 * high + 0.6), layout="constrained")
    grid = list(figure.subplots(high, wide, sharey=True, squeeze=False).flat)
    lines = _lines(records)
    for name, axes in zip(names, grid, strict=False):
        for style, curves in lines.values():
            if name in curves:
                axes.plot(range(6), curves[name], style[1], color=style[0], marker="o", ms=3.5)
        about = next(r["perturbations"][name] for r in records if name in r["perturbations"])
        axes.set_title(f"{about['title']}: {about['parameter']}", fontsize=9)
        axes.set_xticks(range(6), ["clean", *(f"{value:g}" for value in about["values"])])
        _plain(axes)
    for axes in grid[len(names) :]:
        axes.axis("off")
    for axes in grid[: len(names) : wide]:
        axes.set_ylabel("AUC (%)", fontsize=9)
    legend = grid[len(names)]
    for label, (style, _) in lines.items():
        legend.plot([], [], style[1], color=style[0], marker="o", ms=3.5, label=label)
    legend.legend(loc="upper left", frameon=False, fontsize=7, borderaxespad=0)
    figure.suptitle(title, fontsize="medium", wrap=True)
    return _png(figure)


def perturbations_png(image: Tensor, key: str, names: Sequence[str], title: str) -> bytes:
    """Draw one frame as the network sees it at every strength.

    Args:
        image: In [0, 1], ``(3, H, W)``.
        key: Key of the frame, see :func:`~tokd_lightning.data.perturbations.perturb`.
        names: Perturbations, a row each.
        title: Title of the figure.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(9.6, 1.75 * len(names) + 0.5), layout="constrained")
    grid = figure.subplots(len(names), 6, squeeze=False)
    for row, name in zip(grid, names, strict=True):
        perturbation = PERTURBATIONS[name]
        shown = [image, *(one[0] for one in every_strength(image[None], name, [key]))]
        labels = ["clean", *(f"{value:g}" for value in perturbation.values)]
        for axes, one, label in zip(row, shown, labels, strict=True):
            axes.imshow(one.cpu().permute(1, 2, 0).numpy(), vmin=0, vmax=1)
            axes.set_xlabel(label, fontsize=8, labelpad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(f"{perturbation.title}\n{perturbation.parameter}", fontsize=8)
    figure.suptitle(title, fontsize="medium", wrap=True)
    return _png(figure)


def _lines(records: Sequence[dict[str, Any]]) -> Mapping[str, tuple[Any, dict[str, list[float]]]]:
    """Return label -> (colour, dashes), and by perturbation AUC in percent, clean to strength 5."""
    lines = {}
    names = short_labels(records)
    chosen = looks(names)
    for number, (name_of_run, record) in enumerate(zip(names, records, strict=True)):
        for level in ("frame", "video") if len(records) == 1 else ("frame",):
            curves: dict[str, list[float]] = {}
            for name in record["perturbations"]:
                points = [record["clean"][level], *record["perturbations"][name][level]]
                curves[name] = [_percent(point["auc"]) for point in points]
            dashes = _DASHES[number // len(COLOURS_OF_RUNS) % len(_DASHES)]
            style, label = (chosen[name_of_run].colour, dashes), name_of_run
            if len(records) == 1:
                style, label = (COLOURS[level], "-"), f"{level}s"
            lines[label] = style, curves
    return lines


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _plain(axes: Axes) -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
