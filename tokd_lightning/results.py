"""What ``metrics.json`` says of a run beside where it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.evaluation.metrics import metrics_by_method, video_table
from tokd_lightning.models.complexity import complexity
from tokd_lightning.modules import DetectionModule
from tokd_lightning.runs import Run, write_atomically


def about_fit(trainer: pl.Trainer, model: DetectionModule, data: FrameDataModule) -> dict[str, Any]:
    """Describe the network (Table 1), its data and the device, for ``metrics.json``."""
    size = complexity(model.network, data.input_size)
    return {
        "synthetic": (Path(data.root) / "SYNTHETIC.txt").is_file(),
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
    """Name what a trainer computes on, ``1 x cpu``."""
    root = trainer.strategy.root_device
    device = torch.cuda.get_device_name(root) if root.type == "cuda" else root.type
    return f"{trainer.world_size} x {device}"


def skipped_frames(data: FrameDataModule) -> dict[str, int]:
    """Count the frames of each split that could not be read (``on_error: skip``)."""
    return {split: len(rows) for split, rows in data.skipped.items() if rows}


def selected(run: Run, monitor: str) -> dict[str, Any]:
    """Name the epoch that best.ckpt is of, and its metrics."""
    epoch = torch.load(run.best, map_location="cpu", weights_only=True)["epoch"]
    return {
        "selected": {"epoch": epoch, "monitor": monitor},
        "metrics": metrics_of_epoch(run.folder / "metrics.csv", epoch),
    }


def metrics_of_epoch(curves: Path, epoch: int) -> dict[str, float]:
    """Read the validation metrics of one epoch from ``metrics.csv``.

    Args:
        curves: The file; where a resumed run has repeated the epoch, its last row counts.
        epoch: Counted from 0.
    """
    rows = pd.read_csv(curves)
    columns = [str(column) for column in rows.columns if str(column).startswith("val/")]
    chosen = rows[rows["epoch"] == epoch].dropna(subset=["val/loss"])[columns].iloc[-1]
    return rounded(chosen.to_dict())


def rounded(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Undo what float32, in which Lightning logs, appends to a number."""
    return {str(key): round(float(value), 7) for key, value in metrics.items()}


def write_scores(model: DetectionModule, folder: Path, stage: str) -> None:
    """Write the scores of frames and videos as CSV and, of a test, the metrics per forgery.

    Args:
        model: After a test or a prediction.
        folder: The run's folder.
        stage: What the files' names begin with: ``predict``, ``test`` or ``test-…``.
    """
    scores = model.scores.drop(columns="loss")
    tables = {"frames": scores, "videos": video_table(scores)}
    if stage.startswith("test"):
        tables["methods"] = metrics_by_method(scores)
    for level, table in tables.items():
        path = folder / f"{stage}_{level}.csv"
        write_atomically(path, table.to_csv(index=False))
        print(f"{len(table)} {level}: {path}")
