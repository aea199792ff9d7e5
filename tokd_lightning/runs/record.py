"""``metrics.json``, the record of a finished run: its only reader and writer."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_json
from tokd_lightning.runs.identity import Cell

FILE = "metrics.json"


class Selected(NamedTuple):
    """Checkpoint that validation selected: epoch (from 0), step, and the metric."""

    epoch: int
    step: int | None
    monitor: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Results of a run: what it is, what it measured, and what it was made from.

    Records of earlier versions lack some entries; their attributes are then None or empty.

    Args:
        name: The run's name.
        status: ``finished``.
        cell: Data, network, method, branches and seed.
        synthetic: Whether its data were made by ``tokd demo``.
        parameters: Parameters at inference (Table 1).
        macs: Multiply-accumulates per image at inference (Table 1).
        input_size: Side of the network's input in pixels.
        balance: Class balance of its training.
        skipped: Split -> number of frames that could not be read.
        unpaired: Number of frames without a partner in the teacher's quality.
        partial: Split -> number of videos used and number listed, where they differ.
        device: Device of the fit, such as ``1 x cpu``.
        precision: Precision of the fit.
        selected: Epoch, step and metric of best.ckpt.
        metrics: ``val/…`` of the selected checkpoint and, after the test, ``test/…``; fractions,
            None if undefined.
        seconds: ``fit``: seconds of training; ``since``: ``resume`` if earlier parts are unknown.
        seed: Seed of the run.
        hashes: Hashes of its inputs, see :mod:`tokd_lightning.runs.provenance`.
        commit: Commit of the source code.
        versions: Package -> version.
        tested: Weights, precision and device of the test; None without a test.
        other: Entries that this version does not know; kept when the record is written again.
    """

    name: str = ""
    status: str = ""
    cell: Cell | None = None
    synthetic: bool = False
    parameters: int | None = None
    macs: int | None = None
    input_size: int | None = None
    balance: str | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    unpaired: Any = None
    partial: dict[str, list[int]] = field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    selected: Selected | None = None
    metrics: Mapping[str, float | None]
    seconds: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    hashes: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    tested: dict[str, Any] | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def test_metrics(self) -> dict[str, float | None]:
        """The metrics of the test, ``test/…``; empty without a test."""
        return {key: value for key, value in self.metrics.items() if key.startswith("test/")}

    @property
    def is_tested(self) -> bool:
        """Whether the run has results of its own test."""
        return bool(self.test_metrics)

    @property
    def fit_seconds(self) -> float | None:
        """Seconds of training."""
        return self.seconds.get("fit")

    def hash_of(self, what: str) -> str:
        """Return a hash of one of the run's inputs; empty if unknown."""
        return str(self.hashes.get(what) or "")

    def with_test(
        self,
        metrics: Mapping[str, float],
        *,
        skipped: Mapping[str, int],
        partial: Mapping[str, Any],
        source: str,
        tested: Mapping[str, Any],
    ) -> "RunRecord":
        """Return the record with the results of the run's own test.

        Args:
            metrics: ``test/…``.
            skipped: As the attribute, of the test.
            partial: As the attribute, of the test.
            source: Hash of the code that tested.
            tested: Weights, precision and device of the test.
        """
        return replace(
            self,
            metrics={**self.metrics, **metrics},
            skipped={**self.skipped, **skipped},
            partial=dict(partial),
            hashes=self.hashes | {"tested_with": source},
            tested=dict(tested),
        )

    def content(self) -> dict[str, Any]:
        """Return the content of the file, without entries that are not recorded."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "other"}
        for key in ("cell", "selected"):
            known[key] = None if known[key] is None else known[key]._asdict()
        if known["tested"] is None:
            del known["tested"]
        return known | self.other


def read_record(path: Path) -> RunRecord | None:
    """Read ``metrics.json``; None if the file does not exist.

    Raises:
        TokdError: The file cannot be read, or is not what :func:`write_record` writes.
    """
    if not path.is_file():
        return None
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TokdError(f"{path} cannot be read: remove it, or fit with --rerun") from error
    try:
        return _record(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TokdError(
            f"{path} is not what tokd fit writes ({type(error).__name__}: {error}): remove it, or "
            "fit with --rerun"
        ) from error


def write_record(path: Path, record: RunRecord) -> None:
    """Write ``metrics.json`` atomically.

    Raises:
        TokdError: The file cannot be written.
    """
    write_json(path, without_nan(record.content()))


def without_nan(value: Any) -> Any:
    """Return nested values with None in place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(content: dict[str, Any]) -> RunRecord:
    known = {f.name for f in fields(RunRecord)} - {"other"}
    given = {key: value for key, value in content.items() if key in known and value is not None}
    given["metrics"] = {
        str(key): None if value is None or not math.isfinite(value) else float(value)
        for key, value in content["metrics"].items()
    }
    if "cell" in given:
        given["cell"] = Cell(**given["cell"])
    if "selected" in given:
        chosen = given["selected"]
        given["selected"] = Selected(int(chosen["epoch"]), chosen.get("step"), chosen["monitor"])
    if isinstance(given.get("seconds"), int | float):  # earlier versions
        given["seconds"] = {"fit": given["seconds"]}
    for key in ("skipped", "partial", "seconds", "hashes", "versions"):
        given[key] = dict(given.get(key, {}))
    dict(given["hashes"].get("rows") or {})  # raises unless it is a mapping
    for key in ("parameters", "macs", "input_size", "seed"):
        if key in given:
            given[key] = int(given[key])
    given["synthetic"] = bool(given.get("synthetic"))
    return RunRecord(**given, other={k: v for k, v in content.items() if k not in known})
