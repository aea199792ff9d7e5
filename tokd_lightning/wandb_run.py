"""A run on Weights & Biases: one id for fit and test, online or offline, a view of its folder."""

import csv
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.runs import Cell, Config, Run, write_atomically
from tokd_lightning.wandb_account import wandb_mode

_TAG = 64  # letters that W&B allows
_ERRORS = 20
# Curves of steps; those of validation have the epoch as their axis. Of none does the summary keep
# the last value: it holds what metrics.json reports.
_PER_STEP = ("train", "gradient", "maps", "rotation", "test")
_AXES = ("epoch", "trainer/global_step")
_TABLES = {"tables/methods": "test_methods.csv", "tables/videos": "test_videos.csv"}


def labels(name: str, cell: Cell) -> dict[str, Any]:
    """Return what a run is found by on W&B: its name, group, tags and job type.

    The group is the table that the run belongs to, from WANDB_RUN_GROUP (then a tag as well), else
    the run's name without its seed.

    Args:
        name: The run's name.
        cell: What the run is.
    """
    table = os.environ.get("WANDB_RUN_GROUP")
    tags = [cell.data, cell.backbone, cell.method, f"branches {cell.branches}", f"seed {cell.seed}"]
    return {
        "name": name,
        "group": table or re.sub(r"_s\d+(?=(-[0-9a-f]{6})?$)", "", name),
        "tags": [tag[:_TAG] for tag in (*tags, *([table] if table else []))],
        "job_type": "teacher" if cell.role == "teacher" else "fit",
    }


def recorded_id(folder: Path) -> str | None:
    """Read the W&B id of a run from its folder; None where the run never was on W&B."""
    try:
        return str(json.loads((folder / "wandb.json").read_text())["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def open_run(folder: Path, cell: Cell, config: Config, resumed: Path | None = None) -> list[Logger]:
    """Start the run's W&B run, or go on with it: fit, resumed fit and test share one id.

    Online, W&B goes on where it was. An offline run is a file of its own each time, and the file
    that is uploaded last is what W&B shows. So a new one starts with all that ``metrics.csv`` has
    of the run, and takes the place of the earlier ones, which are renamed ``replaced-…``.

    Args:
        folder: The run's folder.
        cell: What the run is.
        config: The resolved configuration of its fit.
        resumed: Checkpoint that training goes on from; what was logged after it was lost.

    Returns:
        The logger; none where W&B is disabled.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return []
    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    run = None
    if mode == "online":
        try:
            run = _start(folder, cell, offline=False)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            rank_zero_info(f"W&B: cannot go online ({reason}); logging offline")
    offline = run is None
    if run is None:
        run = _start(folder, cell, offline=True)
    _define_axes(run)
    run.config.update(config, allow_val_change=True)
    if not run.resumed:
        before = None if resumed is None else _step_of(resumed)
        for row in logged_rows(folder / "metrics.csv", before):
            run.log(row)
    _replace_earlier(folder, run)
    if offline:
        rank_zero_info(f"W&B: offline; upload later with: wandb sync {folder}/wandb/offline-run-*")
    return [WandbLogger(experiment=run)]


def _start(folder: Path, cell: Cell, offline: bool) -> Any:
    import wandb  # takes a second

    identity = recorded_id(folder) or secrets.token_hex(4)
    run = wandb.init(
        **labels(folder.name, cell),
        id=identity,
        dir=folder,
        project=os.environ.get("WANDB_PROJECT", "tokd"),
        mode="offline" if offline else "online",
        resume=None if offline else "allow",
    )
    write_atomically(folder / "wandb.json", json.dumps({"id": identity}) + "\n")
    return run


def _step_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, mmap=True, weights_only=True)["global_step"])


def _define_axes(run: Any) -> None:
    for axis in _AXES:
        run.define_metric(axis, summary="none")
    for prefix in _PER_STEP:
        run.define_metric(f"{prefix}/*", step_metric="trainer/global_step", summary="none")
    run.define_metric("val/*", step_metric="epoch")


def logged_rows(path: Path, before: int | None = None) -> Iterator[dict[str, float]]:
    """Yield the rows of ``metrics.csv`` as Lightning has logged them to W&B.

    Args:
        path: The file; none at all has no rows.
        before: Leave out rows from this step on.
    """
    if not path.is_file():
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = row.pop("step", None)
            if step and (before is None or int(step) < before):
                values = {key: float(value) for key, value in row.items() if value}
                yield values | {"trainer/global_step": int(step)}


def _replace_earlier(folder: Path, run: Any) -> None:
    """Rename the run's earlier offline files: the new run holds what they hold."""
    now = Path(run.dir).parent.name
    for path in folder.glob(f"wandb/offline-run-*-{run.id}"):
        if path.name != now:
            path.rename(path.with_name(f"replaced-{path.name}"))


def publish(loggers: Sequence[Logger], folder: Path) -> None:
    """Show on W&B what a run's folder has: results as summary, tables of the test, pictures.

    Args:
        loggers: The trainer's loggers, W&B's possibly among them.
        folder: The run's folder.
    """
    results = Run(folder).results()
    for logger in loggers:
        if isinstance(logger, WandbLogger) and results is not None:
            run: Any = logger.experiment
            if media := _media(folder):
                run.log(media)
            run.summary.update(summary_of(results))


def summary_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Bring ``metrics.json`` to a summary: each metric under its own name beside all the rest."""
    rest = {key: value for key, value in results.items() if key != "metrics"}
    return rest | dict(results["metrics"])


def _media(folder: Path) -> dict[str, Any]:
    import wandb

    tables = {name: folder / file for name, file in _TABLES.items()}
    media: dict[str, Any] = {
        name: wandb.Table(dataframe=pd.read_csv(path))
        for name, path in tables.items()
        if path.is_file()
    }
    if (frames := folder / "test_frames.csv").is_file():
        media["tables/errors"] = wandb.Table(dataframe=confident_errors(pd.read_csv(frames)))
    if (sheet := folder / "pictures.png").is_file():
        media["pictures"] = wandb.Image(str(sheet))
    return media


def confident_errors(frames: pd.DataFrame) -> pd.DataFrame:
    """Take the frames that were furthest on the wrong side of P(fake) = 0.5, the worst first."""
    off = (frames["label"] - frames["p_fake"]).abs()
    worst = off[off > 0.5].sort_values(ascending=False, kind="stable").index[:_ERRORS]
    return frames.loc[worst, ["method", "video", "frame", "label", "p_fake", "path"]]


@contextmanager
def ended() -> Iterator[None]:
    """End the W&B run that was opened inside: with success, or as failed where something failed."""

    def finish(code: int) -> None:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=code)

    try:
        yield
    except BaseException:
        finish(1)
        raise
    finish(0)
