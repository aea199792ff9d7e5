"""``pictures.png``: test frames of a run, their x^F (Eq. 1) and attention or energy maps."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.frames import Batch, Unreadable
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes
from tokd_lightning.frequency import high_pass
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.detectors import Detector, extras_of
from tokd_lightning.models.look import attention_maps, energy
from tokd_lightning.modules import DetectionModule
from tokd_lightning.modules.checkpoint import read_checkpoint
from tokd_lightning.modules.partial import HEADER

CUTOFF = 0.33  # the teacher's, used for a student whose teacher is not available
# Of the sheet, in inches: side of a picture, gap between two, margins for labels and titles.
_SIDE, _GAP, _LABELS, _TITLES = 1.4, 0.08, 1.7, 0.75
_DPI, _TEXT, _LETTERS = 130, {"size": 8}, 24
_MIDDLE_GREY = 0.5
_MOST = 16  # forgeries including real that are shown by default


class Column(NamedTuple):
    """One kind of picture of every frame.

    Attributes:
        title: Heading of the column.
        values: ``(N, h, w)`` values, or ``(N, h, w, 3)`` colours.
        scaling: Matplotlib's interpolation. Averaging pixels would remove just what x^F consists
            of: ``nearest`` shows its pixels unchanged.
    """

    title: str
    values: NDArray[np.float32]
    scaling: str = "bilinear"


def write_pictures(
    model: DetectionModule, data: FrameDataModule, folder: Path, count: int | None = None
) -> None:
    """Draw frames of the test that a model has just completed, in its run's folder.

    Args:
        model: Model with the test's ``scores``.
        data: Data module that reads the frames.
        folder: The run's folder.
        count: Number of frames; 0 draws nothing, None one real frame and one of each forgery.

    Raises:
        TokdError: A frame cannot be read any more, or the file cannot be written.
    """
    each = min(model.scores["method"].nunique(), _MOST)
    rows = choose(model.scores, each if count is None else count)
    if len(rows):
        batch = _read(data, rows.index.tolist())
        columns = look(model, data, batch["image"], extras_of(model.network, batch))
        write_bytes(folder / "pictures.png", draw(columns, rows, folder.name))


def _read(data: FrameDataModule, rows: list[int]) -> Batch:
    """Read rows of the test split as the network saw them, normalised."""
    batch = data.test_dataloader().dataset.__getitems__(rows)
    if isinstance(batch, Unreadable):
        raise TokdError(batch.message)
    return data.on_after_batch_transfer(cast(Batch, batch), 0)


def choose(scores: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return frames, the same for one data set: real, then each forgery, then again from real.

    Args:
        scores: One row per frame, with ``label`` and ``method``.
        count: Number of frames, or fewer if there are fewer.
    """
    order = np.random.default_rng(0).permutation(len(scores))
    drawn = scores.iloc[order]
    turn = drawn.groupby("method", sort=False).cumcount()
    drawn = drawn.assign(_turn=turn).sort_values(["_turn", "label", "method"], kind="stable")
    return drawn.drop(columns="_turn").head(count)


@torch.no_grad()
def look(
    model: DetectionModule,
    data: FrameDataModule,
    images: Tensor,
    extras: Mapping[str, Tensor] | None = None,
) -> list[Column]:
    """Compute the columns of normalised images ``(N, 3, H, W)``.

    First x and x^F. Then a teacher's attention maps, or the energy of its last maps if it has no
    attention, or the energy of a student's or detector's maps and the detector's own panels.
    ``extras`` are further arguments of a detector's ``forward``.
    """
    network = model.network
    x = images.to(next(network.parameters()).device)
    training = network.training
    network.eval()
    if isinstance(network, DualBranchTeacher):
        cutoff = float(network.spec["cutoff"])
        output, attention = attention_maps(network, x)
        seen = [
            (f"RFAM {number}, {branch}", values)
            for number, pair in enumerate(attention, start=1)
            for branch, values in zip(("x", "x^F"), pair, strict=True)
        ]
        if not seen:
            last = {"x": output.rgb, "x^F": output.frequency}
            seen = [(f"energy, {b}", energy(maps[32])) for b, maps in last.items() if maps]
    else:
        cutoff = _cutoff_of_teacher(getattr(model, "teacher_path", None))
        seen = _maps(network, x, extras or {})
    network.train(training)

    mean, std = data.normalise.mean, data.normalise.std
    frames = images * std.to(images) + mean.to(images)
    fine = high_pass(frames, cutoff)
    largest = float(fine.abs().quantile(0.99)) or 1.0
    fine = _MIDDLE_GREY + fine / (2 * largest)
    return [
        Column("x", _colours(frames), "antialiased"),
        Column(f"x^F, cutoff {cutoff:g}", _colours(fine), "nearest"),
        *(Column(title, values.float().cpu().numpy()) for title, values in seen),
    ]


def _maps(network: nn.Module, x: Tensor, extras: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Return titles and maps of a student or a detector."""
    if isinstance(network, Detector):
        network.keeps_auxiliary = True
    output = network(x, **{key: value.to(x.device) for key, value in extras.items()})
    seen = [(f"energy, stride {s}", energy(output.maps[s])) for s in sorted(output.maps)]
    if isinstance(network, Detector):
        network.keeps_auxiliary = False
        of = output.frequency
        seen += [(f"energy, frequency, stride {s}", energy(of[s])) for s in sorted(of)]
        seen += list(network.panels(output).items())
    return seen


def _cutoff_of_teacher(path: str | None) -> float:
    try:
        header = read_checkpoint(path, "teacher", whole=False)[HEADER] if path else {}
        return float(header["network"]["cutoff"])
    except (TokdError, LookupError):
        return CUTOFF  # no teacher, or its file is gone: a student is tested without it


def _colours(images: Tensor) -> NDArray[np.float32]:
    return images.clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()


def draw(columns: list[Column], rows: pd.DataFrame, name: str) -> bytes:
    """Draw a sheet with one row per frame.

    Args:
        columns: Columns to draw; values are coloured from the smallest to the largest of a column.
        rows: ``method``, ``video``, ``frame``, ``label`` and ``p_fake`` of each frame.
        name: The run's name.

    Returns:
        A PNG.
    """
    step, high = _SIDE + _GAP, len(rows)
    wide, tall = _LABELS + step * len(columns), _TITLES + step * high
    figure = Figure(figsize=(wide, tall))
    for number, column in enumerate(columns):
        pictures = column.values
        title = column.title.replace("x^F", "$x^F$")
        scale: dict[str, Any] = {"interpolation": column.scaling}
        if pictures.ndim == 3:
            low, top = float(pictures.min()), float(pictures.max())
            title += f"\n{low:.3g} – {top:.3g}"
            scale |= {"vmin": low, "vmax": top, "cmap": "viridis"}
        left = _LABELS + step * number
        for row, picture in enumerate(pictures):
            bottom = step * (high - 1 - row) + _GAP
            place = (left / wide, bottom / tall, _SIDE / wide, _SIDE / tall)
            axes = figure.add_axes(place, xticks=[], yticks=[])
            axes.imshow(picture, aspect="auto", **scale)
        middle = (left + _SIDE / 2) / wide
        figure.text(middle, (step * high + _GAP) / tall, title, _TEXT, ha="center", va="bottom")
    for number, frame in enumerate(rows.to_dict("records")):
        p_fake = frame["p_fake"]
        lines = frame["method"], frame["video"], f"frame {frame['frame']}", f"P(fake) {p_fake:.2f}"
        colour = "black" if (p_fake > 0.5) == (frame["label"] == 1) else "tab:red"
        text = "\n".join(_short(str(line)) for line in lines)
        x, y = (_LABELS - _GAP) / wide, (step * (high - number - 0.5) + _GAP / 2) / tall
        figure.text(x, y, text, _TEXT, ha="right", va="center", color=colour)
    heading = f"{name}: test frames, red where it is wrong"
    figure.text(_GAP / wide, 1 - _GAP / tall, heading, _TEXT, va="top")
    page = io.BytesIO()
    figure.savefig(page, format="png", dpi=_DPI)
    return page.getvalue()


def _short(line: str) -> str:
    return line if len(line) <= _LETTERS else f"{line[: _LETTERS - 9]}…{line[-8:]}"
