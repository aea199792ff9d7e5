"""Loggers: always a CSV, optionally W&B and TensorBoard, and a line per epoch in plain logs."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.fabric.utilities import rank_zero as ranks
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger
from rich import get_console

from tokd_lightning.errors import TokdError
from tokd_lightning.loggers.curves import Curves, cut
from tokd_lightning.loggers.wandb_run import open_run, recorded
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Cell, Config

VIEWS = ("wandb", "tensorboard")
CURVES = "metrics.csv"
_SHOWN = {"loss": "train/loss", "acc": "val/frame/acc", "AUC": "val/frame/auc"}  # next to the bar


def is_rank_zero() -> bool:
    """Return whether this is rank zero, also before a process group exists."""
    return int(getattr(ranks.rank_zero_only, "rank", None) or 0) == 0


class RunLogger(CSVLogger):
    """``metrics.csv`` in the run's folder; a resumed run appends to it.

    Lightning asks to save after every row. Rows are saved with every checkpoint, at the end, and
    for live viewing each second, or less often if saving would take 1 % of the time.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.parent, name=folder.name, version="")
        self._due = 0.0

    @property
    def experiment(self) -> Any:
        """Writer of the file, on rank zero."""
        if self._experiment is None and is_rank_zero():
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = cast(Any, Curves(Path(self.log_dir) / CURVES))
        return super().experiment

    def save(self) -> None:
        """Save the rows so far unless they were saved just now."""
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Save the rows so far."""
        if is_rank_zero():
            started = time.monotonic()
            self.experiment.save()
            ended = time.monotonic()
            self._due = ended + max(1.0, 100 * (ended - started))

    def finalize(self, status: str) -> None:
        """Save all rows."""
        if self._experiment is not None:
            self.flush()

    @property
    def rows(self) -> int:
        """Number of rows so far, stored in the checkpoint for resuming."""
        return int(self.experiment.rows)

    @property
    def log_dir(self) -> str:
        """The run's folder itself, without a version folder."""
        return str(Path(self.root_dir))


def build_loggers(
    folder: Path, views: Sequence[str], cell: Cell, config: Config, rows: int = 0
) -> list[Logger]:
    """Build the loggers of a fit.

    Args:
        folder: The run's folder; its name is the run's name everywhere.
        views: ``wandb`` and/or ``tensorboard``, or ``none``.
        cell: The run's cell, for W&B's tags.
        config: The resolved configuration, shown by the views.
        rows: Rows of ``metrics.csv`` to keep: those known to the checkpoint that training resumes
            from. The others will be computed again.

    Raises:
        TokdError: A view is unknown, or TensorBoard is not installed.
    """
    for view in views:
        if view not in {"none", *VIEWS}:
            raise TokdError(f"--log {view}: choose from none, {', '.join(VIEWS)}")
    cut(folder / CURVES, rows)
    loggers: list[Logger] = [RunLogger(folder)]
    if "tensorboard" in views:
        loggers.append(_tensorboard(folder))
        loggers[-1].log_hyperparams(config)
    if "wandb" in views and is_rank_zero():
        loggers += open_run(folder, cell, config)
    return loggers


def loggers_of_test(run: Run, views: Sequence[str], cell: Cell) -> list[Logger]:
    """Build the loggers of a run's own test: its CSV, and W&B if the fit used it.

    Args:
        run: The run.
        views: As for :func:`build_loggers`.
        cell: The run's cell.
    """
    loggers: list[Logger] = [RunLogger(run.folder)]
    config = run.config("fit")
    if "wandb" in views and is_rank_zero() and config is not None and recorded(run.folder):
        loggers += open_run(run.folder, cell, config)
    return loggers


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise TokdError(
            'TensorBoard is not installed: pip install "tokd-lightning[tensorboard]"'
        ) from error


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
