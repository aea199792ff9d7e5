"""Contents of ``metrics.json`` other than provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.files import write_text
from tokd_lightning.metrics.classification import metrics_by_method, video_table
from tokd_lightning.models.complexity import complexity
from tokd_lightning.modules import DetectionModule
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.record import Selected
from tokd_lightning.training.callbacks.best import STATE, VALIDATION


def about_fit(trainer: pl.Trainer, model: DetectionModule, data: FrameDataModule) -> dict[str, Any]:
    """Return the network (Table 1), data and device for ``metrics.json``."""
    size = complexity(model.network, data.input_size)
    return {
        "synthetic": data.synthetic,
        "parameters": size.parameters,
        "macs": size.macs,
        "input_size": data.input_size,
        "balance": data.balance,
        "skipped": skipped_frames(data),
        "unpaired": data.unpaired,
        "partial": data.partial,
        "device": device_of(trainer),
        "precision": str(trainer.precision),
    }


def device_of(trainer: pl.Trainer) -> str:
    """Return the device of a trainer, e.g. ``1 x cpu``."""
    root = trainer.strategy.root_device
    device = torch.cuda.get_device_name(root) if root.type == "cuda" else root.type
    return f"{trainer.world_size} x {device}"


def skipped_frames(data: FrameDataModule) -> dict[str, int]:
    """Count the frames of each split that could not be read (``on_error: skip``)."""
    return {split: len(rows) for split, rows in data.skipped.items() if rows}


def selected(run: Run, monitor: str) -> tuple[Selected, dict[str, float]]:
    """Return the epoch and step of best.ckpt and its validation metrics."""
    checkpoint = torch.load(run.best, map_location="cpu", weights_only=True)
    epoch = checkpoint["epoch"]
    state = _state(checkpoint)
    metrics = state.get(VALIDATION) or metrics_of(
        run.folder / "metrics.csv", epoch, monitor, state.get("current_score")
    )
    chosen = Selected(epoch, checkpoint["global_step"], monitor)
    return chosen, rounded(dict(sorted(metrics.items())))


def _state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    found = checkpoint.get("callbacks", {}).items()
    return next((dict(state) for key, state in found if key.startswith(STATE)), {})


def metrics_of(curves: Path, epoch: int, monitor: str, score: Any = None) -> dict[str, float]:
    """Read the validation metrics of a checkpoint of an earlier version from ``metrics.csv``.

    Args:
        curves: The file; if a resumed run repeated a validation, the last row counts.
        epoch: Counted from 0.
        monitor: The metric that selected the checkpoint.
        score: Its value; distinguishes validations within one epoch.
    """
    rows = pd.read_csv(curves)
    columns = [str(column) for column in rows.columns if str(column).startswith("val/")]
    found = rows[rows["epoch"] == epoch].dropna(subset=["val/loss"])[columns]
    if score is not None and monitor in found and (found[monitor] == float(score)).any():
        found = found[found[monitor] == float(score)]
    return {str(key): float(value) for key, value in found.iloc[-1].items()}


def never_beat_majority(curves: Path) -> bool | None:
    """Return whether every validation accuracy was at most that of naming the larger class.

    Args:
        curves: ``metrics.csv``.

    Returns:
        None if the curves lack these metrics.
    """
    rows = pd.read_csv(curves)
    if not {"val/frame/acc", "val/frame/majority"} <= set(rows.columns):
        return None
    known = rows.dropna(subset=["val/frame/acc", "val/frame/majority"])
    return bool((known["val/frame/acc"] <= known["val/frame/majority"]).all())


def rounded(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Round away the digits that float32, Lightning's logging precision, adds to a number."""
    return {str(key): round(float(value), 7) for key, value in metrics.items()}


def write_scores(model: DetectionModule, folder: Path, stage: str) -> None:
    """Write the scores of frames and videos as CSV and, for a test, the metrics per forgery.

    Args:
        model: Model after a test or prediction.
        folder: The run's folder.
        stage: Prefix of the file names: ``predict``, ``test`` or ``test-…``.
    """
    scores = model.scores.drop(columns="loss")
    tables = {"frames": scores, "videos": video_table(scores)}
    if stage.startswith("test"):
        tables["methods"] = metrics_by_method(scores)
    for level, table in tables.items():
        path = folder / f"{stage}_{level}.csv"
        write_text(path, table.to_csv(index=False))
        print(f"{len(table)} {level if len(table) > 1 else level.removesuffix('s')}: {path}")
