"""What scores say beyond the paper's metrics: calibration, thresholds, forgeries."""

from contextlib import suppress
from pathlib import Path

import pandas as pd

from tokd_lightning.data.writing import write_bytes
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation.calibration import calibration
from tokd_lightning.evaluation.operating import by_forgery, operating_points
from tokd_lightning.naming import Config
from tokd_lightning.runs import Run

_COMPARED = ("val/frame/acc", "val/frame/auc", "val/video/auc")
_SAME = 1e-4
_NOT_STORED = "its own validation split is not scored: tokd evaluate RUN --on its data --split val"
_ITSELF = "this is a validation split itself"


def further(run: Run, record: Config, scores: pd.DataFrame) -> Config:
    """Compute the further keys of ``evaluation.json``.

    Args:
        run: The run.
        record: Of the evaluation: its split and the hash of the weights.
        scores: Its scores, one row per frame.

    Returns:
        ``calibration``, ``thresholds`` and ``forgeries``.
    """
    validation, why_not = None, _ITSELF
    if record["split"] != "val":
        why_not = _NOT_STORED
        with suppress(TokdError):  # another of its files is broken
            validation = stored_validation(run, record["hashes"]["checkpoint"])
    return {
        "calibration": calibration(scores),
        "thresholds": operating_points(scores, validation, why_not),
        "forgeries": by_forgery(scores),
    }


def complete(run: Run, name: str, record: Config) -> Config:
    """Bring the further keys of an earlier evaluation up to date, from the scores it has stored.

    Args:
        run: The run.
        name: Of the evaluation's folder.
        record: What its ``evaluation.json`` holds.

    Returns:
        What it holds now; ``record`` where its scores are not there any more.
    """
    from tokd_lightning.evaluation.reliability import reliability_png

    folder = run.folder / "evaluations" / name
    try:
        scores = read_scores(folder / "frames.csv")
        found = further(run, record, scores)
    except (TokdError, OSError, ValueError, KeyError):
        return record
    if len(scores) != record["counts"]["frames"]:
        return record
    changed = any(record.get(key) != value for key, value in found.items())
    picture = folder / "reliability.png"
    if changed or not picture.is_file():
        png = reliability_png(found["calibration"], f"{record['run']}\non {name}")
        write_bytes(picture, png)
    if changed:
        run.write_evaluation(name, record | found)
    return record | found


def stored_validation(run: Run, weights: str) -> pd.DataFrame | None:
    """Find the scores of an evaluation of these weights on the run's own validation split.

    That it was this split is seen by its metrics, which are those of the run's training.

    Args:
        run: The run.
        weights: Hash of the weights.

    Raises:
        TokdError: A file of the run cannot be read.
    """
    own = (run.results() or {}).get("metrics", {})
    if not own:
        return None
    for name, record in run.evaluations().items():
        scored = (record.get("hashes") or {}).get("checkpoint")
        found = record.get("metrics") or {}
        same = all(abs(found.get(key, -1) - own.get(key, 1)) < _SAME for key in _COMPARED)
        if record.get("split") == "val" and scored == weights and same:
            return read_scores(run.folder / "evaluations" / name / "frames.csv")
    return None


def read_scores(file: Path) -> pd.DataFrame:
    """Read scores as they were written, to the last bit."""
    return pd.read_csv(file, dtype={"video": str, "method": str}, float_precision="round_trip")
