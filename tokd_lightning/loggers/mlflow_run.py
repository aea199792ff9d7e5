"""MLflow runs: those of folders, and a logger whose failures do not end a training."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger
from lightning.pytorch.utilities import rank_zero_warn

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import Config

PROJECT = "tokd"
_FOLDER = "tokd.folder"


class _Curves(MLFlowLogger):
    """MLflow's logger, which is silent after the first error of its store or server.

    MLflow has tried again for minutes by then; ``metrics.csv`` has all curves in every case.
    """

    _failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics unless the store has failed."""
        if not self._failed:
            try:
                super().log_metrics(metrics, step)
            except Exception as error:  # those of stores and servers have no common class
                self._fail(error)

    def finalize(self, status: str = "success") -> None:
        """End the run unless the store has failed."""
        if not self._failed:
            try:
                super().finalize(status)
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        rank_zero_warn(
            f"MLflow: {_short(error)}; nothing more is logged there, metrics.csv has all of it"
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def open_mlflow(folder: Path, config: Config, resumed: bool) -> Logger:
    """Open the MLflow run of a folder, in ``mlflow.db`` next to it or in ``MLFLOW_TRACKING_URI``.

    MLflow 3 refuses to write to folders of files unless ``MLFLOW_ALLOW_FILE_STORE`` is set.

    Args:
        folder: The run's folder.
        config: Its configuration, logged as parameters.
        resumed: Whether to continue the last MLflow run of that folder, if there is one.

    Raises:
        TokdError: MLflow is not installed, or has no store to write to.
    """
    runs = folder.parent.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / 'mlflow.db'}"
    try:
        import mlflow  # noqa: F401  # sets the level of its messages, which is changed below

        # Of the libraries' messages on making a store only errors matter.
        for library in ("mlflow", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(library).setLevel(logging.ERROR)
        known = _known(store, folder) if resumed else None
        tags = {_FOLDER: str(folder.resolve())}
        logger = _Curves(PROJECT, folder.name, store, tags=tags, run_id=known)
        if logger.run_id and known is None:
            logger.log_hyperparams(config)
    except ModuleNotFoundError as error:
        raise TokdError(
            f'--log mlflow needs {error.name}: pip install "tokd-lightning[mlflow]"'
        ) from error
    except Exception as error:  # those of stores and servers have no common class
        raise TokdError(f"--log mlflow cannot write to {store}: {_short(error)}") from error
    return logger


def _known(store: str, folder: Path) -> str | None:
    """Return the id of the last MLflow run of a folder; others may have its name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(PROJECT)
    if experiment is None:
        return None
    runs = client.search_runs(
        [experiment.experiment_id],
        f'tags.`mlflow.runName` = "{folder.name}" and tags.`{_FOLDER}` = "{folder.resolve()}"',
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0].info.run_id if runs else None
