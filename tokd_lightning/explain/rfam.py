"""``rfam.png``: attention of a teacher's RFAMs, as the mean of each method and on frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tokd_lightning.explain.drawing import short, view
from tokd_lightning.explain.survey import Attention

_BRANCHES = ("rgb", "frequency")
# In inches: a picture, the gap between two, space for labels, titles and a colour bar.
_SIDE, _GAP, _LABELS, _TITLES, _BAR = 0.95, 0.06, 0.8, 0.8, 0.52
_TEXT = {"size": 7.5}


def rfam_table(found: Attention, methods: dict[str, int]) -> pd.DataFrame:
    """Average the attention over space.

    Returns:
        A row per RFAM, branch and method: ``rfam`` (from 1), ``branch``, ``method``, ``frames`` and
        the mean ``attention`` in (0, 1).
    """
    rows = [
        {
            "rfam": number // 2 + 1,
            "branch": _BRANCHES[number % 2],
            "method": method,
            "frames": frames,
            "attention": float(values[index].mean()),
        }
        for number, values in enumerate(found.maps)
        for index, (method, frames) in enumerate(methods.items())
    ]
    return pd.DataFrame(rows)


def fake_less_real(
    values: NDArray[np.float64], methods: dict[str, int], fake: Sequence[bool]
) -> Any:
    """Subtract the mean map of all real frames from that of all fake frames.

    Args:
        values: Mean map of each method, ``(methods, h, w)``.
        methods: Names of the methods, and the number of frames of each.
        fake: Which of them are forgeries.

    Returns:
        ``(h, w)``; NaN if a class is missing.
    """
    weight = np.array(list(methods.values()), np.float64)
    chosen = np.array(fake)
    means = []
    for kind in (chosen, ~chosen):
        if not weight[kind].sum():
            return np.full(values.shape[1:], np.nan)
        means.append(np.average(values[kind], axis=0, weights=weight[kind]))
    return means[0] - means[1]


def draw_rfam(
    found: Attention,
    methods: dict[str, int],
    fake: Sequence[bool],
    frames: pd.DataFrame,
    images: NDArray[np.uint8],
    single: list[NDArray[np.float32]],
    heading: str,
) -> Figure:
    """Draw a sheet, a row per RFAM and branch.

    Three groups of columns: means per method, fake minus real, and single frames; each row of a
    group has its own scale. The mean frame or the single frame is above its column.

    Args:
        found: The means.
        methods: Names of the methods, and the number of frames of each.
        fake: Which of them are forgeries.
        frames: ``method``, ``video`` and ``frame`` of the single frames.
        images: The single frames, ``(N, H, W, 3)``.
        single: Their attention, in the order of ``found.maps``, ``(N, h, w)`` each.
        heading: Text at the top.
    """
    step, rows = _SIDE + _GAP, len(found.maps)
    groups = [len(methods), 1, len(frames)]
    starts = np.cumsum([_LABELS, groups[0] * step + _BAR, step + _BAR])
    wide = float(starts[2]) + groups[2] * step + _BAR
    tall = step * (rows + 1) + _TITLES + 0.1
    figure = Figure(figsize=(wide, tall))

    def show(group: int, number: int, row: int, picture: Any, **scale: Any) -> Any:
        place = (
            (float(starts[group]) + step * number) / wide,
            (0.1 + step * (rows - 1 - row)) / tall,
            _SIDE / wide,
            _SIDE / tall,
        )
        axes = figure.add_axes(place, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes.imshow(picture, **scale)

    titles = [[f"{short(name)}\n{count} frames" for name, count in methods.items()]]
    titles += [["fake − real"], [f"{short(str(m))}" for m in frames["method"]]]
    for group, names in enumerate(titles):
        for number, name in enumerate(names):
            x = (float(starts[group]) + step * number + _SIDE / 2) / wide
            y = (0.1 + step * (rows + (group != 1)) + 0.02) / tall
            figure.text(x, y, name, _TEXT, ha="center", va="bottom")
    for number in range(groups[0]):
        show(0, number, -1, found.images[number].clip(0, 1))
    for number, image in enumerate(images):
        show(2, number, -1, image)
    for row, (values, own) in enumerate(zip(found.maps, single, strict=True)):
        name = f"RFAM {row // 2 + 1}\non {view(_BRANCHES[row % 2])}"
        middle = (0.1 + step * (rows - 1 - row) + _SIDE / 2) / tall
        figure.text((_LABELS - 0.1) / wide, middle, name, _TEXT, ha="right", va="center")
        difference = fake_less_real(values, methods, fake)
        most = float(np.nanmax(np.abs(difference), initial=0)) or 1e-6
        scales: list[dict[str, Any]] = [
            {"vmin": np.nanmin(values), "vmax": np.nanmax(values), "cmap": "viridis"},
            {"vmin": -most, "vmax": most, "cmap": "RdBu_r"},
            {"vmin": own.min(), "vmax": own.max(), "cmap": "viridis"},
        ]
        drawn: list[Any] = [values, [difference], own]
        for group, pictures in enumerate(drawn):
            scale = scales[group] | {"interpolation": "bilinear"}
            shown = [show(group, n, row, picture, **scale) for n, picture in enumerate(pictures)]
            left = (float(starts[group]) + step * groups[group] + 0.02) / wide
            bottom = 0.1 + step * (rows - 1 - row)
            bar = figure.add_axes(
                (left, (bottom + 0.08) / tall, 0.06 / wide, (_SIDE - 0.16) / tall)
            )
            figure.colorbar(shown[0], cax=bar).outline.set_visible(False)
            low, top = scale["vmin"], scale["vmax"]
            bar.set_yticks([low, top], [f"{low:.2f}", f"{top:.2f}"], size=6)
    figure.text(0.08 / wide, 1 - 0.1 / tall, heading.replace("$", r"\$"), size=8.5, va="top")
    return figure
