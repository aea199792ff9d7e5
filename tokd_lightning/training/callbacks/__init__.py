"""Callbacks of a fit: checkpoints, resume, non-finite losses, progress."""

from pathlib import Path

from lightning.pytorch.callbacks import Callback

from tokd_lightning.training.callbacks.best import BestCheckpoint
from tokd_lightning.training.callbacks.resume import LAST, LastCheckpoint


def best_and_last(folder: Path, monitor: str, every: int | None = None) -> list[Callback]:
    """Return the callbacks of best.ckpt (first highest ``monitor``, Sec. 5.2) and last.ckpt.

    Args:
        folder: Folder of both checkpoints.
        monitor: Metric of the validation.
        every: Batches between two saves of last.ckpt, see :class:`LastCheckpoint`.
    """
    return [BestCheckpoint(folder, monitor), LastCheckpoint(folder / LAST, every)]
