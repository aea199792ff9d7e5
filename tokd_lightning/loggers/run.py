"""Loggers: always a CSV, optionally W&B, TensorBoard and MLflow."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.fabric.utilities import rank_zero as ranks
from lightning.pytorch.loggers import CSVLogger, Logger

from tokd_lightning.errors import TokdError
from tokd_lightning.loggers.curves import Curves, cut
from tokd_lightning.loggers.wandb_run import open_run, recorded
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Cell, Config

OPTIONAL = ("wandb", "tensorboard", "mlflow")
CURVES = "metrics.csv"


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
    folder: Path, names: Sequence[str], cell: Cell, config: Config, rows: int = 0
) -> list[Logger]:
    """Build the loggers of a fit.

    Args:
        folder: The run's folder; its name is the run's name everywhere.
        names: Some of :data:`OPTIONAL`, or ``none``.
        cell: The run's cell, for W&B's tags.
        config: The resolved configuration, shown by the names.
        rows: Rows of ``metrics.csv`` to keep: those known to the checkpoint that training resumes
            from. The others will be computed again.

    Raises:
        TokdError: A name is unknown, or TensorBoard or MLflow is not installed or has no store.
    """
    for name in names:
        if name not in {"none", *OPTIONAL}:
            raise TokdError(f"--log {name}: choose from none, {', '.join(OPTIONAL)}")
    cut(folder / CURVES, rows)
    loggers: list[Logger] = [RunLogger(folder)]
    if "tensorboard" in names:
        loggers.append(_tensorboard(folder))
        loggers[-1].log_hyperparams(config)
    if "mlflow" in names:
        from tokd_lightning.loggers.mlflow_run import open_mlflow

        loggers.append(open_mlflow(folder, config, resumed=bool(rows)))
    if "wandb" in names and is_rank_zero():
        loggers += open_run(folder, cell, config)
    return loggers


def loggers_of_test(run: Run, names: Sequence[str], cell: Cell) -> list[Logger]:
    """Build the loggers of a run's own test: its CSV, and W&B and MLflow if the fit used them.

    Args:
        run: The run.
        names: As for :func:`build_loggers`.
        cell: The run's cell.
    """
    loggers: list[Logger] = [RunLogger(run.folder)]
    config = run.config("fit")
    if "wandb" in names and is_rank_zero() and config is not None and recorded(run.folder):
        loggers += open_run(run.folder, cell, config)
    if "mlflow" in names and config is not None:
        from tokd_lightning.loggers.mlflow_run import open_mlflow

        loggers.append(open_mlflow(run.folder, config, resumed=True))
    return loggers


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise TokdError(
            'TensorBoard is not installed: pip install "tokd-lightning[tensorboard]"'
        ) from error
