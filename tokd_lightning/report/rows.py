"""Run folders as rows of a table, with the order and names of the paper's tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokd_lightning.errors import TokdError
from tokd_lightning.looks import network
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.record import FILE, RunRecord

_METHOD_ORDER = ["teacher", "vanilla", "", "tokd"]  # "" stands for every other method
_BRANCH_ORDER = ["none", "rgb", "frequency", "both"]


@dataclass(frozen=True)
class Row:
    """One row of the table: a run, or the baseline that always predicts the larger class.

    Args:
        label: Display name: ``Teacher``, ``Vanilla``, ``TOKD both``.
        run: Name of the run; empty for the baseline.
        folder: The run's folder; empty for the baseline.
        state: ``tested``, ``not tested`` (fitted only) or ``not finished``.
        data: Data set and quality, ``synthetic-c23``.
        method: ``teacher``, or the distiller's name.
        branches: ``rgb``, ``frequency``, ``both`` or ``none``.
        backbone: Backbone of the network that was tested.
        seed: The run's seed.
        synthetic: Whether the data were made by ``tokd demo``.
        parameters: Parameters at inference (Table 1).
        macs: Multiply-accumulates per image at inference (Table 1).
        metrics: ``test/…`` metrics as fractions; None if undefined.
        data_hash: Hash of the run's data; shows whether two runs used the same frames.
        files_hash: Hash of their files; empty for a run of an earlier version, which only has
            ``data_hash``.
    """

    label: str
    run: str = ""
    folder: str = ""
    state: str = "not finished"
    data: str = ""
    method: str = ""
    branches: str = ""
    backbone: str = ""
    seed: int | None = None
    synthetic: bool = False
    parameters: int | None = None
    macs: int | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    data_hash: str = ""
    files_hash: str = ""

    @property
    def data_hashes(self) -> dict[str, Any]:
        """Hashes of its data, as for :func:`~tokd_lightning.runs.provenance.comparable_data`."""
        rows = {"files": self.files_hash} if self.files_hash else None
        return {"data": self.data_hash, "rows": rows}


def read_row(folder: Path) -> Row:
    """Read a run folder.

    Raises:
        TokdError: The folder does not exist or is not a run folder, or ``metrics.json`` is
            unreadable.
    """
    if not any((folder / name).is_file() for name in ("metrics.json", "fit.yaml", "metrics.csv")):
        problem = "is not a run folder" if folder.is_dir() else "does not exist"
        raise TokdError(f"{folder} {problem}: name folders that tokd fit made, runs/<name>")
    record = Run(folder).results()
    if record is None:
        return Row(folder.name, folder.name, str(folder))
    return _row(folder, record)


def rank(row: Row) -> tuple[Any, ...]:
    """Return the sort key for the paper's order: teacher, vanilla, methods, TOKD rgb, TOKD both."""
    method = row.method if row.method in _METHOD_ORDER else ""
    branches = _BRANCH_ORDER.index(row.branches) if row.branches in _BRANCH_ORDER else -1
    return (
        not row.data,  # unfinished runs do not record their data; they come last
        row.data,
        _METHOD_ORDER.index(method),
        row.backbone,
        row.method,
        branches,
        -1 if row.seed is None else row.seed,
        row.run,
    )


def majority_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the baseline of each data set: always the larger class, with a constant score."""
    shares: dict[str, Row] = {}
    for row in rows:
        if row.metrics.get("test/frame/majority") is not None:
            shares.setdefault(row.data, row)
    return [
        Row(
            f"Majority class, {data}" if len(shares) > 1 else "Majority class",
            state="tested",
            data=data,
            synthetic=row.synthetic,
            metrics={
                f"test/{level}/{name}": value
                for level in ("frame", "video")
                for name, value in (
                    ("acc", row.metrics.get(f"test/{level}/majority")),
                    *((half, 0.5) for half in ("balanced_acc", "auc", "eer")),
                )
            },
        )
        for data, row in shares.items()
    ]


def distinct_labels(rows: Sequence[Row]) -> list[Row]:
    """Add to the labels what the runs differ in; use the run's folder if that is not enough.

    Args:
        rows: Rows as returned by ``read_row``.

    Returns:
        The same rows with distinct labels.
    """
    known = [row for row in rows if row.data]
    students = [row for row in known if row.method != "teacher"]
    parts: dict[int, list[str]] = {id(row): [row.label] for row in rows}
    if len({row.data for row in known}) > 1:
        for row in known:
            parts[id(row)].append(row.data)
    if len({row.backbone for row in students}) > 1:
        for row in students:
            parts[id(row)].append(row.backbone)
    if len({row.seed for row in known}) > 1:
        for row in known:
            parts[id(row)].append(f"seed {row.seed}")
    labels = [", ".join(parts[id(row)]) for row in rows]
    return [
        replace(row, label=row.folder if labels.count(label) > 1 else label)
        for row, label in zip(rows, labels, strict=True)
    ]


def _row(folder: Path, record: RunRecord) -> Row:
    if record.cell is None:
        raise TokdError(f"{folder / FILE} does not name the run's cell: fit again with --rerun")
    return Row(
        label=network(record.cell._asdict()),
        run=folder.name,
        folder=str(folder),
        state="tested" if record.is_tested else "not tested",
        data=record.cell.data,
        method=record.cell.method,
        branches=record.cell.branches,
        backbone=record.cell.backbone,
        seed=record.cell.seed,
        synthetic=record.synthetic,
        parameters=record.parameters,
        macs=record.macs,
        metrics=record.test_metrics,
        data_hash=record.hash_of("data"),
        files_hash=str((record.hashes.get("rows") or {}).get("files", "")),
    )
