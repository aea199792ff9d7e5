"""Figures from ``metrics.csv``: training curves, and gradient conflict of the branches (Fig. 4)."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes
from tokd_lightning.looks import looks

_STYLES: list[Literal["-", "--", ":", "-."]] = ["-", "--", ":", "-."]
# Title of a panel -> candidate columns; the first that exists is drawn.
_TRAINING = {
    "validation AUC": ("val/frame/auc",),
    "validation accuracy": ("val/frame/acc",),
    "validation cross-entropy": ("val/loss",),
    "training cross-entropy": ("train/ce", "train/loss"),
    "training loss, RGB branch": ("train/rgb",),
    "training loss, frequency branch": ("train/frequency",),
}
_GRADIENTS = {"rotated entries": "gradient/cosine_rotated", "all entries": "gradient/cosine_full"}
_WHEN: dict[str, Literal["--", "-"]] = {"before": "--", "after": "-"}

Curves = Mapping[str, pd.DataFrame]


def read_curves(folder: Path) -> pd.DataFrame:
    """Read the curves of a run.

    Args:
        folder: A run's folder.

    Returns:
        ``metrics.csv``: ``epoch``, ``step`` and one sparse column per metric; no rows if the run
        has not logged yet.

    Raises:
        TokdError: The file exists but is not such a table.
    """
    path = folder / "metrics.csv"
    try:
        curves = pd.read_csv(path)
        return curves.astype({"epoch": int, "step": int})
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame({"epoch": [], "step": []}, dtype=int)
    except (OSError, ValueError, KeyError) as error:
        raise TokdError(f"{path} is not a table of epochs and steps: remove it") from error


def draw_training(curves: Curves, path: Path, about: str = "") -> bool:
    """Draw validation metrics and losses per epoch, one line per run.

    The part of a label before its first comma selects the colour, the rest the line style, so that
    seeds and qualities of one method share a colour.

    Args:
        curves: Label of each run -> its ``read_curves``, in the order of the legend.
        path: The PNG to write, atomically.
        about: Description of the data, for the title.

    Returns:
        Whether there was anything to draw.

    Raises:
        TokdError: The file cannot be written.
    """
    panels = {}
    for what, columns in _TRAINING.items():
        found = {label: _per_epoch(table, columns) for label, table in curves.items()}
        if lines := {label: line for label, line in found.items() if len(line)}:
            panels[what] = lines
    if not panels:
        return False

    drawn = [label for label in curves if any(label in lines for lines in panels.values())]
    kinds = list(dict.fromkeys(label.partition(", ")[0] for label in drawn))
    variants = list(dict.fromkeys(label.partition(", ")[2] for label in drawn))

    dots: dict[str, dict[str, Any]] = {
        kind: {"color": its.colour, "marker": its.marker, "markersize": 4}
        for kind, its in looks(kinds, marked=True).items()
    }

    def drawn_as(label: str) -> dict[str, Any]:
        kind, _, variant = label.partition(", ")
        style = _STYLES[variants.index(variant) % len(_STYLES)]
        return dots[kind] | {"linestyle": style}

    wide = min(3, len(panels))
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(3.9 * wide, 2.7 * high + 0.8), layout="constrained")
    grid = figure.subplots(high, wide, squeeze=False).flat
    for axes, (what, lines) in zip(grid, panels.items(), strict=False):
        for label, line in lines.items():
            axes.plot(line.index + 1, line, **drawn_as(label))
        axes.set(ylabel=what, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _tidy(axes)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    handles = [Line2D([], [], label=kind, **dots[kind]) for kind in kinds]
    if len(variants) > 1:
        handles += [
            Line2D([], [], color="0.3", linestyle=_STYLES[n % len(_STYLES)], label=v)
            for n, v in enumerate(variants)
            if v
        ]
    _finish(figure, handles, "Training", about, path)
    return True


def draw_gradients(curves: Curves, path: Path, about: str = "") -> bool:
    """Draw cos(v_r, v_f) over the steps, before and after rotation (Fig. 4).

    The raw curve is drawn faintly behind its moving average.

    Args:
        curves: Label of each run -> its ``read_curves``; runs without such gradients are left out.
        path: The PNG to write, atomically.
        about: Description of the data, for the title.

    Returns:
        Whether there was anything to draw.

    Raises:
        TokdError: The file cannot be written.
    """
    panels = {
        part: lines
        for part, prefix in _GRADIENTS.items()
        if (lines := {key: line for key, line in _per_step(curves, prefix).items() if len(line)})
    }
    if not panels:
        return False

    drawn = [
        label for label in curves if any(label == key[0] for p in panels.values() for key in p)
    ]
    colours = {label: its.colour for label, its in looks(drawn).items()}
    figure = Figure(figsize=(5.4 * len(panels), 4.4), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for axes, (part, lines) in zip(grid, panels.items(), strict=True):
        axes.axhline(0, color="0.6", linewidth=0.8)
        for (label, when), line in lines.items():
            axes.plot(line.index, line, color=colours[label], alpha=0.3, linewidth=0.6)
            axes.plot(line.index, _smooth(line), color=colours[label], linestyle=_WHEN[when])
        axes.set(title=part, xlabel="step")
        _tidy(axes)
    figure.axes[0].set_ylabel(r"cosine of $v_r$ and $v_f$")
    handles = [Line2D([], [], color=colour, label=label) for label, colour in colours.items()]
    handles += [
        Line2D([], [], color="0.3", linestyle=style, label=f"{when} rotation")
        for when, style in _WHEN.items()
    ]
    _finish(figure, handles, "Conflict of the branches' gradients", about, path)
    return True


def _per_epoch(table: pd.DataFrame, columns: tuple[str, ...]) -> "pd.Series[float]":
    column = next((column for column in columns if column in table), None)
    if column is None:
        return pd.Series(dtype=float)
    return table.groupby("epoch")[column].mean().dropna()


def _per_step(curves: Curves, prefix: str) -> dict[tuple[str, str], "pd.Series[float]"]:
    """Collect (run, before or after rotation) -> values by step; of a repeated step, the last."""
    lines = {}
    for label, table in curves.items():
        for when in _WHEN:
            if (column := f"{prefix}_{when}") in table:
                values = table.set_index("step")[column].dropna()
                lines[label, when] = values[~values.index.duplicated(keep="last")].sort_index()
    return lines


def _smooth(line: "pd.Series[float]") -> "pd.Series[float]":
    return line.rolling(max(5, len(line) // 20), min_periods=1, center=True).mean()


def _tidy(axes: Any) -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _finish(figure: Figure, handles: list[Line2D], title: str, about: str, path: Path) -> None:
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, int(12 * figure.get_figwidth() / (longest + 8)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(f"{title}, {about}" if about else title)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_bytes(path, png.getvalue())
