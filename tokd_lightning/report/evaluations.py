"""Reading of evaluations for the report: broken files become warnings, the rest is used."""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokd_lightning.errors import TokdError
from tokd_lightning.report.reader import Reader
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.provenance import belongs
from tokd_lightning.tables.evaluation_tables import data_of
from tokd_lightning.tables.grid import DATASETS

LEVELS = ("frame", "video")
_SAME = ("data", "labels", "checkpoint")


@dataclass(frozen=True)
class Evaluated:
    """Evaluation of one run on one data set.

    Args:
        record: Contents of ``evaluation.json``.
        robustness: Contents of ``robustness.json``; None if there is no file for the same frames,
            weights and options.
    """

    record: Mapping[str, Any]
    robustness: Mapping[str, Any] | None = None

    @property
    def run(self) -> str:
        """Name of the run."""
        return str(self.record["run"])

    def metric(self, name: str) -> float | None:
        """Return a metric of its split, such as ``frame/auc``; None if undefined."""
        value = self.record["metrics"].get(f"{self.record['split']}/{name}")
        return None if value is None else float(value)


@dataclass(frozen=True)
class EvaluatedOn:
    """Evaluations of all runs on one data set.

    Args:
        name: Name of the folder of these evaluations.
        title: The data set, its quality and, unless it is the test split, its split.
        runs: The evaluations, sorted by the run's name.
        notes: Caveats for the reader.
    """

    name: str
    title: str
    runs: tuple[Evaluated, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def perturbations(self) -> dict[str, Mapping[str, Any]]:
        """Perturbations that any of the runs was measured under: name -> measurement of a run."""
        found: dict[str, Mapping[str, Any]] = {}
        for one in self.runs:
            found |= dict(one.robustness["perturbations"]) if one.robustness else {}
        return found


def read_evaluations(reader: Reader, shown: Set[str]) -> tuple[EvaluatedOn, ...]:
    """Read the evaluations of all runs that were trained on the data sets of a report.

    Args:
        reader: Reader of the folder of runs; broken files become its warnings.
        shown: Names of the report's data sets. Runs trained on custom data are read too.
    """
    others = {data.name for data in DATASETS.values()} - shown
    found: dict[str, list[Evaluated]] = {}
    notes: dict[str, list[str]] = {}
    left_out: set[str] = set()
    for file in sorted(reader.runs.glob("*/evaluations/*/evaluation.json")):
        name, record = file.parent.name, _read(reader, file, _record)
        if record is None:
            continue
        trained_on = str(record["trained_on"]).rpartition("-")[0]
        if trained_on in others:
            left_out.add(next(key for key, data in DATASETS.items() if data.name == trained_on))
            continue
        weights = _weights(file)
        same = belongs(record, weights)
        if same is None and weights is not None:
            said = f"{record['run']}: its fit did not record its weights, so these may be of others"
            notes.setdefault(name, []).append(said)
        if same is False:
            reader.warn(
                f"{file} is of weights that the run no longer has, and is left out: tokd evaluate "
                "with --update"
            )
            continue
        measured = _read(reader, file.with_name("robustness.json"), _robustness)
        if measured is not None and not _of(measured, record):
            said = f"{record['run']}: robustness was measured on other frames, weights or options"
            notes.setdefault(name, []).append(said)
            measured = None
        found.setdefault(name, []).append(Evaluated(record, measured))
    if left_out and not found:
        asked = " ".join(sorted(left_out))
        reader.warn(f"evaluations of runs on other data sets are left out: --dataset {asked}")
    return tuple(_together(name, its, notes.get(name, [])) for name, its in sorted(found.items()))


def figure_name(kind: str, name: str) -> str:
    """Return the file name of a figure of a data set: ``robustness-ffpp-c23``."""
    return f"{kind}-{re.sub(r'[^A-Za-z0-9_-]', '-', name)}"


def _weights(file: Path) -> str | None:
    """Return the hash of the weights of the run evaluated; None if it has no readable record."""
    try:
        record = Run(file.parents[2]).results()
    except TokdError:
        return None
    return None if record is None else record.hash_of("weights")


def _read(reader: Reader, file: Path, checked: Callable[[Any], Any]) -> dict[str, Any] | None:
    run, name = Run(file.parents[2]), file.parent.name
    try:
        record = run.evaluation(name, file.stem)
        return record if record and checked(record) else None
    except TokdError as error:
        reader.warn(str(error))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        reader.warn(f"{file} has a form that tokd evaluate does not write")
    return None


def _record(record: dict[str, Any]) -> bool:
    """Check whether an evaluation has all keys shown; those of earlier versions do not."""
    if "calibration" not in record or "trained_on" not in record:
        return False
    for level in LEVELS:
        known = record["calibration"][level]["ece"], record["calibration"][level]["bins"]["count"]
        known += tuple(point["tpr"] for point in record["thresholds"][level]["here"])
        known += tuple(row[level]["auc"] for row in record["forgeries"])
    return bool(known and record["hashes"]["data"] and record["metrics"] and data_of(record))


def _robustness(record: dict[str, Any]) -> bool:
    for found in record["perturbations"].values():
        for level in LEVELS:
            known = [point["auc"] for point in found[level]], record["clean"][level]["auc"]
            if len(known[0]) != len(found["values"]):
                raise ValueError("curves of another length")
    return bool(record["perturbations"])


def _of(measured: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    hashes, theirs = record["hashes"], measured["hashes"]
    same = all(hashes.get(key) == theirs.get(key) for key in _SAME)
    return same and measured["options"] == record["options"]


def _together(name: str, its: list[Evaluated], notes: list[str]) -> EvaluatedOn:
    frames = {one.record["hashes"]["data"] for one in its}
    if len(frames) > 1:
        notes = [f"these runs were not all scored on the same frames ({len(frames)} sets)", *notes]
    return EvaluatedOn(name, data_of(dict(its[0].record)), tuple(its), tuple(notes))
