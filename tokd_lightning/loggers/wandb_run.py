"""A run on Weights & Biases: one id for fit and test, online or offline, mirrors the run folder."""

import csv
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.files import write_text
from tokd_lightning.loggers.wandb_account import setting, unreachable, wandb_mode
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Cell, Config
from tokd_lightning.runs.record import RunRecord

_TAG = 64  # characters, W&B's limit
_ERRORS = 20
# Metrics over steps; those of validation use the epoch as their axis. The summary keeps no last
# values: it holds what metrics.json reports.
_PER_STEP = ("train", "gradient", "maps", "rotation", "test")
_AXES = ("epoch", "trainer/global_step")
# Runs that one fit, of several in a process, has to finish, and whether they are offline.
_OPEN: ContextVar[list[tuple[Any, bool]]] = ContextVar("open")
_RUNNING: list[Any] = []  # runs of all fits of this process
# Defaults where W&B's settings have none. The server has answered before, so these limit what
# follows. An upload that times out is on disk and can be synced later.
_LIMITS = {"init_timeout": 12.0, "finish_timeout": 60.0}
_TABLES = {
    "tables/methods": "test_methods.csv",
    "tables/videos": "test_videos.csv",
    "tables/bands": "explanations/bands.csv",
}
# Logged name -> file; explanations only if explanations.json marks them as complete.
_PICTURES = {
    "pictures": "pictures.png",
    **{f"explanations/{what}": f"explanations/{what}.png" for what in ("gradcam", "rfam", "bands")},
}


def labels(name: str, cell: Cell, table: str | None) -> dict[str, Any]:
    """Return the W&B labels of a run: its name, group, tags, job type and notes.

    W&B's own settings (WANDB_NAME, WANDB_JOB_TYPE, WANDB_NOTES) win; WANDB_TAGS are added.

    Args:
        name: The run's name.
        cell: The run's cell.
        table: The run's table, used as group and tag; without one the group is the run's name
            without its seed.
    """
    tags = [cell.data, cell.backbone, cell.method, f"branches {cell.branches}", f"seed {cell.seed}"]
    tags += [table] if table else []
    tags += [tag.strip() for tag in (setting("run_tags") or "").split(",")]
    return {
        "name": setting("run_name") or name,
        "group": table or re.sub(r"_s\d+(?=(-[0-9a-f]{6})?$)", "", name),
        "tags": list(dict.fromkeys(tag[:_TAG] for tag in tags if tag)),
        "job_type": setting("run_job_type") or ("teacher" if cell.role == "teacher" else "fit"),
        "notes": setting("run_notes"),
    }


def recorded(folder: Path) -> dict[str, str | None]:
    """Return ``id`` and ``table`` of a run on W&B from its folder; empty if it was never there."""
    try:
        found = json.loads((folder / "wandb.json").read_text())
        return {"id": str(found["id"]), "table": found.get("table")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def open_run(folder: Path, cell: Cell, config: Config) -> list[Logger]:
    """Start or resume the run's W&B run: fit, resumed fit and test share one id.

    Online, W&B resumes the run. Offline, each start writes its own file, and W&B shows the file
    that is uploaded last. A new file therefore starts with all rows of ``metrics.csv`` and
    replaces the earlier one, which is renamed ``replaced-…``.

    Args:
        folder: The run's folder.
        cell: The run's cell.
        config: The resolved configuration of its fit.

    Returns:
        The logger; empty if W&B is disabled or cannot start.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return []
    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    run = _online(folder, cell) if mode == "online" else None
    offline = run is None
    run = run or _offline(folder, cell)
    if run is None:
        return []
    _OPEN.get([]).append((run, offline))
    _RUNNING.append(run)
    _define_axes(run)
    run.config.update(config, allow_val_change=True)
    if not run.resumed:
        for row in logged_rows(folder / "metrics.csv"):
            run.log(row)
    _replace_earlier(Path(run.dir).parent, run.id)
    return [WandbLogger(experiment=run)]


def _online(folder: Path, cell: Cell) -> Any:
    """Start the run online; log the reason and return None if that fails."""
    reason = unreachable()
    if reason is None:
        here, files = _place(folder), "*wandb/run-*"
        before = set(here.glob(files))
        try:
            return _start(folder, cell, offline=False)
        except Exception as error:
            reason = _reason(error)
        import wandb

        if not _RUNNING:  # it ends all runs of the process
            with suppress(SystemExit):
                wandb.teardown()  # W&B's service would keep the id locked
        for path in set(here.glob(files)) - before:
            shutil.rmtree(path, ignore_errors=True)  # of a run that did not start
    rank_zero_info(f"W&B: cannot go online ({reason}); logging offline")
    return None


def _offline(folder: Path, cell: Cell) -> Any:
    """Start the run offline; log the reason and return None if that fails."""
    try:
        return _start(folder, cell, offline=True)
    except Exception as error:
        reason = _reason(error)
    rank_zero_info(f"W&B: cannot start ({reason}); the curves are in {folder / 'metrics.csv'}")
    return None


def _reason(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:160]


def _place(folder: Path) -> Path:
    """Return where W&B keeps the run's files: WANDB_DIR if set, else the run's folder."""
    return Path(setting("root_dir") or folder)


def _start(folder: Path, cell: Cell, offline: bool) -> Any:
    import wandb  # takes a second

    known = recorded(folder)
    identity = known.get("id") or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    table = setting("run_group") or known.get("table")
    write_text(folder / "wandb.json", json.dumps({"id": identity, "table": table}) + "\n")
    place = _place(folder)
    place.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Any] = {k: float(setting(k) or v) for k, v in _LIMITS.items()}
    wanted["finish_timeout_raises"] = True
    known_settings = wandb.Settings.model_fields
    return wandb.init(
        **labels(folder.name, cell, table),
        id=identity,
        dir=place,
        project=setting("project") or "tokd",
        entity=setting("entity"),
        mode="offline" if offline else "online",
        resume=None if offline else "allow",
        reinit="create_new" if _RUNNING else None,  # else W&B returns the run of another fit
        settings=wandb.Settings(**{k: v for k, v in wanted.items() if k in known_settings}),
    )


def _define_axes(run: Any) -> None:
    for axis in _AXES:
        run.define_metric(axis, summary="none")
    for prefix in _PER_STEP:
        run.define_metric(f"{prefix}/*", step_metric="trainer/global_step", summary="none")
    run.define_metric("val/*", step_metric="epoch")


def logged_rows(path: Path) -> Iterator[dict[str, float]]:
    """Yield the rows of ``metrics.csv`` as Lightning logged them to W&B.

    Args:
        path: The file; a missing file has no rows.
    """
    if not path.is_file():
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = row.pop("step", None)
            if step:
                values = {key: float(value) for key, value in row.items() if value}
                yield values | {"trainer/global_step": int(step)}


def _replace_earlier(kept: Path, identity: str) -> None:
    """Rename the run's earlier offline files, whose contents the new run includes.

    Args:
        kept: The folder of the new run's files.
        identity: The run's id.
    """
    earlier = sorted(kept.parent.glob(f"offline-run-*-{identity}"))
    if any(path.name != kept.name for path in earlier):
        for path in kept.parent.glob(f"replaced-offline-run-*-{identity}"):
            shutil.rmtree(path, ignore_errors=True)  # later files include its contents
    for path in earlier:
        if path.name != kept.name:
            path.rename(path.with_name(f"replaced-{path.name}"))


def publish(loggers: Sequence[Logger], folder: Path) -> None:
    """Log a run folder's contents to W&B: results as summary, test tables, pictures.

    Args:
        loggers: The trainer's loggers, with or without W&B's.
        folder: The run's folder.
    """
    results = Run(folder).results()
    for logger in loggers:
        if isinstance(logger, WandbLogger) and results is not None:
            run: Any = logger.experiment
            if media := _media(folder):
                if run.offline:
                    _keep_tables_here(media, run)
                run.log(media)
            run.summary.update(summary_of(results))


def _keep_tables_here(media: Mapping[str, Any], run: Any) -> None:
    """Write the tables only to the run's folder.

    By default W&B stages a second copy as an artifact in a folder of the user and logs its absolute
    path: a run moved before its upload would lose it.
    """
    import wandb

    tables: dict[str, Any] = {k: v for k, v in media.items() if isinstance(v, wandb.Table)}
    for name, table in tables.items():
        table.bind_to_run(run, name, run.step)


def summary_of(record: RunRecord) -> dict[str, Any]:
    """Return ``metrics.json`` as a summary, with each metric as a top-level entry."""
    content = record.content()
    return {**{k: v for k, v in content.items() if k != "metrics"}, **record.metrics}


_NAMES = {"dataset": str, "method": str, "video": str}  # keeps 071 from becoming a number


def _media(folder: Path) -> dict[str, Any]:
    import wandb

    def table(file: str) -> pd.DataFrame:
        return pd.read_csv(folder / file, dtype=_NAMES)

    explained = (folder / "explanations" / "explanations.json").is_file()

    def found(files: Mapping[str, str]) -> dict[str, str]:
        return {
            name: file
            for name, file in files.items()
            if (folder / file).is_file() and (explained or not file.startswith("explanations/"))
        }

    there = found(_TABLES)
    tables = {name: table(file) for name, file in there.items()}
    if (folder / "test_frames.csv").is_file():
        tables["tables/errors"] = confident_errors(table("test_frames.csv"))
    for limit in ("MAX_ROWS", "MAX_ARTIFACT_ROWS"):  # W&B would drop rows beyond them
        longest = max((len(rows) for rows in tables.values()), default=0)
        setattr(wandb.Table, limit, max(getattr(wandb.Table, limit), longest))
    media: dict[str, Any] = {name: wandb.Table(dataframe=rows) for name, rows in tables.items()}
    pictures = {name: wandb.Image(str(folder / file)) for name, file in found(_PICTURES).items()}
    return media | pictures


def confident_errors(frames: pd.DataFrame) -> pd.DataFrame:
    """Return the frames furthest on the wrong side of P(fake) = 0.5, the worst first."""
    off = (frames["label"] - frames["p_fake"]).abs()
    worst = off[off > 0.5].sort_values(ascending=False, kind="stable").index[:_ERRORS]
    return frames.loc[worst, ["method", "video", "frame", "label", "p_fake", "path"]]


@contextmanager
def ended() -> Iterator[None]:
    """Finish the W&B run opened inside: as successful, or as failed after an exception."""
    code, token = 1, _OPEN.set([])
    try:
        yield
        code = 0
    finally:
        for run, offline in _OPEN.get():
            _end(run, offline, code)
            _RUNNING.remove(run)
        _OPEN.reset(token)


def _end(run: Any, offline: bool, code: int) -> None:
    kept = Path(run.dir).parent
    try:
        run.finish(exit_code=code)
    except Exception as error:
        reason = _reason(error)
        rank_zero_info(
            f"W&B: not all was uploaded ({reason}); upload the rest with: wandb sync {kept}"
        )
    else:
        if offline and kept.is_dir():  # false if the run left nothing
            rank_zero_info(f"W&B: offline; upload later with: wandb sync {kept}")
