"""``gradcam.png``: evidence for fake and for real, overlaid on test frames."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.explain.drawing import WRONG, short, view
from tokd_lightning.files import write_bytes
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.detectors import Detector
from tokd_lightning.models.gradcam import grad_cam

# In inches: a picture, the gap between two, space for labels, titles and colour bars.
_SIDE, _GAP, _LABELS, _TITLES, _BARS = 1.15, 0.06, 1.35, 0.8, 0.5
_TEXT = {"size": 7.5}
_MAP = "inferno"
_KEYS = ("path", "method", "video", "frame", "label")


class Cams(NamedTuple):
    """Grad-CAM of some frames.

    Attributes:
        rows: ``path``, ``method``, ``video``, ``frame``, ``label`` and ``p_fake`` of each frame.
        images: The images as the network saw them, RGB in 0..255, ``(N, H, W, 3)``.
        names: Branch and stride of each map.
        maps: One array per name, ``(N, h, w)``, before the ReLU.
        panels: Title -> ``(N, h, w)`` in [0, 1], a detector's own maps.
    """

    rows: pd.DataFrame
    images: NDArray[np.uint8]
    names: list[tuple[str, int]]
    maps: list[NDArray[np.float32]]
    panels: dict[str, NDArray[np.float32]] = {}  # noqa: RUF012  # never modified


def look(
    network: Student | DualBranchTeacher | Detector,
    data: FrameDataModule,
    rows: pd.DataFrame,
    images: Tensor,
    strides: Sequence[int],
    extras: Mapping[str, Tensor] | None = None,
) -> Cams:
    """Compute Grad-CAM of normalised images, one after the other.

    Args:
        network: The network in ``eval()``, on its device.
        data: Gives the normalisation.
        rows: Rows of the split's table, one per image.
        images: ``(N, 3, H, W)``.
        strides: Strides of the maps.
        extras: Further arguments of a detector's ``forward``, one row per image.
    """
    device = next(network.parameters()).device
    p_fake, names, parts = [], [], []
    panels: dict[str, list[NDArray[np.float32]]] = {}
    for number, image in enumerate(images):
        x = image[None].to(device)
        its = {key: value[number, None].to(device) for key, value in (extras or {}).items()}
        logits, heats = grad_cam(network, x, strides, its)
        for title, panel in _panels(network, x, its).items():
            panels.setdefault(title, []).append(panel[0].float().cpu().numpy())
        p_fake.append(float(logits.double().softmax(1)[0, 1]))
        names = [(heat.branch, heat.stride) for heat in heats]
        parts.append([heat.values[0].float().cpu().numpy() for heat in heats])
    plain = images * data.normalise.std.to(images) + data.normalise.mean.to(images)
    colours = (plain.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    maps = [np.stack(column) for column in zip(*parts, strict=True)]
    own = {title: np.stack(found) for title, found in panels.items()}
    return Cams(rows[list(_KEYS)].assign(p_fake=p_fake), colours, names, maps, own)


@torch.no_grad()
def _panels(network: Any, x: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a detector's own maps of one image."""
    if not isinstance(network, Detector):
        return {}
    network.keeps_auxiliary = True
    try:
        return network.panels(network(x, **extras))
    finally:
        network.keeps_auxiliary = False


def write_maps(path: Path, cams: Cams) -> None:
    """Write the maps as ``.npz`` for other figures; :func:`read_maps` reads them."""
    arrays: dict[str, Any] = {key: cams.rows[key].to_numpy() for key in (*_KEYS, "p_fake")}
    for key in ("path", "method", "video"):
        arrays[key] = arrays[key].astype(str)
    arrays |= {f"map/{b}/{s}": m for (b, s), m in zip(cams.names, cams.maps, strict=True)}
    page = io.BytesIO()
    np.savez_compressed(page, images=cams.images, **arrays)
    write_bytes(path, page.getvalue())


def read_maps(path: Path) -> Cams:
    """Read a file written by :func:`write_maps`."""
    with np.load(path) as kept:
        keys = [key for key in kept.files if key.startswith("map/")]
        names = [(key.split("/")[1], int(key.split("/")[2])) for key in keys]
        rows = pd.DataFrame({key: kept[key] for key in (*_KEYS, "p_fake")})
        return Cams(rows, kept["images"], names, [kept[key] for key in keys])


class Column(NamedTuple):
    """A column of the sheet.

    Attributes:
        title: Text above it.
        heat: ``(N, h, w)``, overlaid on the frames where it is above 0; None shows only the frames.
        top: Value of the brightest colour.
        p_fake: P(fake) to write into each frame; None writes nothing.
    """

    title: str
    heat: NDArray[np.float32] | None = None
    top: float = 1.0
    p_fake: NDArray[np.float64] | None = None


def columns_of(cams: Cams) -> list[Column]:
    """Return the columns of a sheet: Grad-CAM for fake and for real, one scale per map."""
    found = [Column("frame")]
    for (branch, stride), heat in zip(cams.names, cams.maps, strict=True):
        top = float(np.abs(heat).max()) or 1.0
        name = f"{view(branch)}, stride {stride}"
        found += [Column(f"{name}\nfor fake", heat, top), Column(f"{name}\nfor real", -heat, top)]
    return found + [Column(title, panel) for title, panel in cams.panels.items()]


def together(runs: Sequence[tuple[str, Cams]]) -> tuple[pd.DataFrame, Any, list[Column]]:
    """Combine runs on the frames they have in common: Grad-CAM for fake side by side.

    Args:
        runs: Label and Grad-CAM of each run.

    Returns:
        The frames' rows, their images and the columns; no rows without a common frame.
    """
    first = runs[0][1]
    common = set.intersection(*(set(cams.rows["path"]) for _, cams in runs))
    paths = [path for path in first.rows["path"] if path in common]
    columns = [Column("frame")]
    for label, cams in runs:
        at = pd.Index(cams.rows["path"]).get_indexer(pd.Index(paths))
        for (branch, stride), heat in zip(cams.names, cams.maps, strict=True):
            what = f"stride {stride}" if branch == "student" else f"{view(branch)}, stride {stride}"
            p_fake = cams.rows["p_fake"].to_numpy()[at]
            top = float(np.abs(heat).max()) or 1.0
            columns.append(Column(f"{short(label)}\n{what}", heat[at], top, p_fake))
    at = pd.Index(first.rows["path"]).get_indexer(pd.Index(paths))
    return first.rows.iloc[at].drop(columns="p_fake"), first.images[at], columns


def draw_cams(
    rows: pd.DataFrame, images: NDArray[np.uint8], columns: Sequence[Column], heading: str
) -> Figure:
    """Draw a sheet, a row per frame.

    Args:
        rows: ``method``, ``video``, ``frame``, ``label`` of each frame, and ``p_fake`` for a sheet
            of one network.
        images: ``(N, H, W, 3)``.
        columns: Columns of the sheet.
        heading: Text at the top.
    """
    step, high = _SIDE + _GAP, len(rows)
    wide, tall = _LABELS + step * len(columns) + 0.25, _BARS + step * high + _TITLES
    figure = Figure(figsize=(wide, tall))
    for number, column in enumerate(columns):
        left = _LABELS + step * number
        for row in range(high):
            bottom = _BARS + step * (high - 1 - row)
            place = (left / wide, bottom / tall, _SIDE / wide, _SIDE / tall)
            axes = figure.add_axes(place, xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if column.heat is None:
                axes.imshow(images[row])
                continue
            axes.imshow(_grey(images[row]), cmap="gray", vmin=0, vmax=1)
            heat = _enlarged(column.heat[row], images.shape[1:3]).clip(0) / column.top
            axes.imshow(heat, cmap=_MAP, vmin=0, vmax=1, alpha=(1.4 * heat).clip(0, 0.8))
            if column.p_fake is not None:
                p_fake = float(column.p_fake[row])
                right = (p_fake > 0.5) == (rows["label"].iloc[row] == 1)
                axes.text(
                    0.04, 0.04, f"{p_fake:.2f}", transform=axes.transAxes, size=7,
                    bbox={"boxstyle": "square,pad=0.2", "fc": "white" if right else WRONG, "lw": 0},
                    color="black" if right else "white",
                )  # fmt: skip
        middle = (left + _SIDE / 2) / wide
        top = (_BARS + step * high) / tall
        figure.text(middle, top, column.title, _TEXT, ha="center", va="bottom")
        if column.heat is not None:
            _bar(
                figure,
                ((left + 0.12) / wide, 0.34 / tall, (_SIDE - 0.24) / wide, 0.07 / tall),
                column.top,
            )
    _label(figure, rows, wide, tall)
    figure.text(_GAP / wide, 1 - 0.12 / tall, heading.replace("$", r"\$"), size=8.5, va="top")
    return figure


def _label(figure: Figure, rows: pd.DataFrame, wide: float, tall: float) -> None:
    step = _SIDE + _GAP
    for number, frame in enumerate(rows.to_dict("records")):
        lines = [str(frame["method"]), str(frame["video"]), f"frame {frame['frame']}"]
        colour = "black"
        if "p_fake" in frame:
            lines.append(f"P(fake) {frame['p_fake']:.2f}")
            colour = "black" if (frame["p_fake"] > 0.5) == (frame["label"] == 1) else WRONG
        x, y = (_LABELS - 0.08) / wide, (_BARS + step * (len(rows) - number - 0.5)) / tall
        text = "\n".join(short(line) for line in lines)
        figure.text(x, y, text, _TEXT, ha="right", va="center", color=colour)


def _bar(figure: Figure, place: tuple[float, float, float, float], top: float) -> None:
    axes = figure.add_axes(place)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, top), _MAP), cax=axes, orientation="horizontal"
    )
    bar.set_ticks([0, top], labels=["0", f"{top:.2g}"], size=6.5)
    bar.outline.set_visible(False)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey: NDArray[np.float64] = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    return grey


def _enlarged(heat: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Upsample a map to the size of the image, which it covers from edge to edge."""
    whole = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(heat))[None, None], size, mode="bilinear"
    )
    return np.asarray(whole[0, 0].numpy(), np.float32)
