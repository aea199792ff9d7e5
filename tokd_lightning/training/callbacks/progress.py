"""Progress of a fit: a bar on a terminal, a line per epoch in plain logs."""

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar
from rich import get_console

_SHOWN = {"loss": "train/loss", "acc": "val/frame/acc", "AUC": "val/frame/auc"}  # next to the bar
_NARROW = 100  # columns; narrower terminals do not show the speed
_BESIDE = 76  # columns taken next to the bar in a terminal of 80


class ProgressBar(RichProgressBar):
    """Lightning's progress bar in one line of 80 columns, counting epochs from 1.

    While training, it reads new metrics at most twice a second: each read waits for the device.
    """

    _shown: Any = None
    _asked = 0.0

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Return the columns of the line; the bar takes the remaining width."""
        columns, width = super().configure_columns(trainer), get_console().width
        if width < _NARROW:
            columns = columns[:-1]
        columns[1].bar_width = max(4, min(40, width - _BESIDE - 11 * (width >= _NARROW)))
        return columns

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        epoch = f"epoch {current_epoch + 1}" + (f"/{last}" if (last or 0) > 0 else "")
        return f"{epoch:{len(self.validation_description)}}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        """Return the metrics shown after the bar."""
        lasting = trainer.training and not trainer.is_last_batch
        if self._shown is None or not lasting or time.monotonic() - self._asked > 0.5:
            metrics = super().get_metrics(trainer, pl_module)
            if "train/loss" in trainer.callback_metrics:
                metrics["train/loss"] = float(trainer.callback_metrics["train/loss"])
            self._shown = {name: metrics[key] for name, key in _SHOWN.items() if key in metrics}
            self._asked = time.monotonic()
        return self._shown


class EpochLines(Callback):
    """Prints one line per epoch, for logs where a progress bar would be noise."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's loss and the available validation metrics."""
        values = trainer.callback_metrics
        shown = {"loss": "train/loss", "val acc": "val/frame/acc", "val AUC": "val/frame/auc"}
        parts = [f"{label} {float(values[k]):.4f}" for label, k in shown.items() if k in values]
        seconds = time.monotonic() - self.started
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if trainer.is_global_zero:
            print("  ".join([epoch, *parts, f"{seconds:.0f} s"]), flush=True)


def progress(wanted: bool) -> tuple[Callback, dict[str, bool]]:
    """Return a progress bar on a terminal if wanted, else a callback that prints a line per epoch.

    Returns:
        The callback, and the trainer options that turn Lightning's own output off.
    """
    if wanted and sys.stdout.isatty():
        return ProgressBar(), {}
    return EpochLines(), {"enable_progress_bar": False, "enable_model_summary": False}
