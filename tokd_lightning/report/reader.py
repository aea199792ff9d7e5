"""Reading of run folders for the report: broken files become warnings, the rest is used."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.provenance import belongs
from tokd_lightning.runs.record import RunRecord
from tokd_lightning.tables.entries import auc_of, auc_without
from tokd_lightning.tables.grid import DATASETS, GridCell

SEEDS = 100  # seeds 0 to 99 are looked for
NOT_RUN, INTERRUPTED, NOT_TESTED = "not run", "interrupted", "not tested"
UNREADABLE, STALE, DONE = "unreadable", "stale", "done"
NOT_EVALUATED = "not evaluated"

# A cell with its seed, the folder of all runs -> its state and reasons: ("stale", ("code",)).
StateOf = Callable[[GridCell, Path], tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Result:
    """Result of one run for one entry of a table.

    Args:
        cell: The cell, with its seed.
        state: One of the words above.
        reasons: Reasons for the state, if it has any.
        metrics: ``test/…`` as fractions; None if undefined.
        record: The run's record; None without one.
        data_hash: Hash of the frames that it was tested on.
    """

    cell: GridCell
    state: str
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    record: RunRecord | None = None
    data_hash: str = ""

    @property
    def data_hashes(self) -> dict[str, Any]:
        """The hashes of the frames that it was tested on, as far as its files have them."""
        own = self.record is not None and self.hash_of("data") == self.data_hash
        rows = self.record.hashes.get("rows") if self.record and own else None
        return {"data": self.data_hash, "rows": rows}

    @property
    def counts(self) -> bool:
        """Return whether it has numbers."""
        return self.state in {DONE, STALE}

    def hash_of(self, what: str) -> str:
        """Return a hash of one of the run's inputs; empty if unknown."""
        return self.record.hash_of(what) if self.record else ""


def state_of(cell: GridCell, runs: Path) -> tuple[str, tuple[str, ...]]:
    """Determine the state of a run from the contents of its folder.

    Raises:
        TokdError: ``metrics.json`` cannot be read.
    """
    run = Run(runs / cell.name)
    record = run.results()
    if record is None:
        begun = any((run.folder / name).is_file() for name in ("fit.yaml", "metrics.csv"))
        return (INTERRUPTED if begun or run.last.is_file() else NOT_RUN), ()
    return (DONE if record.is_tested else NOT_TESTED), ()


def state_among(results: Sequence[Result]) -> str:
    """Return the state of an entry: that of the runs behind its number, else of its first run."""
    states = [result.state for result in results]
    known = next((state for state in (STALE, DONE) if state in states), None)
    return known or (states[0] if states else NOT_RUN)


class Reader:
    """Reader of run folders; each run is read once.

    Args:
        runs: Folder of all run folders.
        state_of: Function that returns the state of a cell.
    """

    def __init__(self, runs: Path, state_of: StateOf = state_of) -> None:
        self.runs = runs
        self.warnings: list[str] = []
        self._state_of = state_of
        self._names = {path.name for path in runs.iterdir()} if runs.is_dir() else set()
        self._read: dict[str, Result] = {}
        self._evaluations: dict[str, dict[str, dict[str, Any]]] = {}

    def warn(self, message: str) -> None:
        """Add a warning to the report, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def seeds(self, cell: GridCell) -> list[GridCell]:
        """Return the cell once per seed for which a run folder exists."""
        before, _, after = cell.name.rpartition(f"_s{cell.seed}")
        found = [seed for seed in range(SEEDS) if f"{before}_s{seed}{after}" in self._names]
        return [replace(cell, seed=seed) for seed in found]

    def results(self, cell: GridCell, on: str = "") -> tuple[Result, ...]:
        """Return the results of a cell's runs, in the order of their seeds.

        Args:
            cell: The cell, of any seed.
            on: Key of the data set that it is evaluated on, if it differs from its own.
        """
        found = [self._result(one) for one in self.seeds(cell)]
        return tuple(self._elsewhere(result, on) if on else result for result in found)

    def sizes(self) -> dict[str, dict[str, float]]:
        """Return the computed sizes of the networks (Table 1); empty if there are none."""
        path = self.runs / "table1.json"
        if not path.is_file():
            return {}
        try:
            networks = _json(path)["networks"]
            return {
                str(name): {str(k): float(v) for k, v in size.items() if v is not None}
                for name, size in networks.items()
            }
        except TokdError as error:
            self.warn(str(error))
        except (KeyError, TypeError, ValueError, AttributeError):
            self.warn(f"{path} is not a table of sizes")
        return {}

    def _result(self, cell: GridCell) -> Result:
        if cell.name not in self._read:
            self._read[cell.name] = self._fresh(cell)
        return self._read[cell.name]

    def _fresh(self, cell: GridCell) -> Result:
        try:
            state, reasons = self._state_of(cell, self.runs)
            record = Run(self.runs / cell.name).results()
        except TokdError as error:
            self.warn(str(error))
            return Result(cell, UNREADABLE)
        if record is None:
            return Result(cell, state, reasons)
        if test := record.partial.get("test"):
            self.warn(f"{cell.name} was tested on {test[0]} of {test[1]} videos")
        metrics = record.test_metrics | self._by_forgery(cell)
        return Result(cell, state, reasons, metrics, record, record.hash_of("data"))

    def _by_forgery(self, cell: GridCell) -> dict[str, float | None]:
        """Return the AUC of each forgery and of all others, from the file of the test.

        All forgeries are compared with the same real frames, so that the AUC of several is the mean
        of theirs, weighted by their frames.
        """
        path = self.runs / cell.name / "test_methods.csv"
        if not path.is_file():
            return {}
        try:
            table = pd.read_csv(path)
            auc, frames = table["frame/auc"].to_numpy(float), table["n_fake"].to_numpy(float)
            names = table["method"].astype(str).tolist()
        except (OSError, ValueError, KeyError):
            self.warn(f"{path} is not a table of metrics by forgery")
            return {}
        found: dict[str, float | None] = {}
        for number, name in enumerate(names if table["dataset"].nunique() == 1 else ()):
            found[auc_of(name)] = float(auc[number])
            others = frames * (np.arange(len(names)) != number)
            if others.any():
                found[auc_without(name)] = float((auc @ others) / others.sum())
        return {key: None if value != value else value for key, value in found.items()}

    def _elsewhere(self, result: Result, on: str) -> Result:
        if result.state == UNREADABLE:
            return result
        folder = self.runs / result.cell.name
        try:
            found = self._evaluations.get(folder.name)
            if found is None:
                found = self._evaluations[folder.name] = Run(folder).evaluations()
            fitting = [key for key in sorted(found) if _is_test_of(key, found[key], on)]
            weights = result.hash_of("weights")
            for key in [key for key in fitting if belongs(found[key], weights) is False]:
                fitting.remove(key)
                self.warn(
                    f"{folder / 'evaluations' / key} is of weights that the run no longer has, and "
                    "is left out: tokd evaluate with --update"
                )
            if not fitting:
                state = NOT_EVALUATED if result.counts else result.state
                return replace(result, state=state, metrics={}, data_hash="")
            scored = found[fitting[0]]
            metrics = _tested(scored.get("metrics", scored))
            data = (scored.get("hashes") or {}).get("data") or ""
            if listed := (scored.get("counts") or {}).get("videos_listed"):
                there = scored["counts"].get("videos")
                self.warn(
                    f"{folder.name} was evaluated on {there} of {listed} videos of {fitting[0]}"
                )
        except TokdError as error:
            self.warn(str(error))
        except (TypeError, ValueError, AttributeError):
            self.warn(f"{folder / 'evaluations'} has an evaluation.json that is none")
        else:
            return replace(result, metrics=metrics, data_hash=str(data))
        return replace(result, state=UNREADABLE, metrics={}, data_hash="")


def _is_test_of(name: str, record: Mapping[str, Any], on: str) -> bool:
    """Check whether an evaluation is on a data set of the tables, in its quality and test split.

    Args:
        name: Name of the evaluation's folder, used if the record does not name its data.
        record: Contents of its ``evaluation.json``.
        on: Key of the data set.
    """
    wanted, data = DATASETS[on], record.get("data")
    if data is None or "split" not in record:
        return name == f"{wanted.name}-{wanted.quality}"
    said = data.get("name"), data.get("quality"), record["split"]
    return bool(said == (wanted.name, wanted.quality, "test"))


def _tested(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    known = {key: value for key, value in metrics.items() if key.startswith("test/")}
    return {
        key: None if value is None or not math.isfinite(value) else float(value)
        for key, value in known.items()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise TokdError(f"{path} cannot be read") from error
