"""Evaluation results beyond the paper's metrics: calibration, thresholds, forgeries."""

from contextlib import suppress

import pandas as pd

from tokd_lightning.audit.stored import read_scores, stored_validation
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes
from tokd_lightning.metrics.calibration import calibration
from tokd_lightning.metrics.thresholds import by_forgery, operating_points
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config

_NOT_STORED = "its own validation split is not scored: tokd evaluate RUN --on its data --split val"
_ITSELF = "this is a validation split itself"


def further(run: Run, record: Config, scores: pd.DataFrame) -> Config:
    """Compute the further keys of ``evaluation.json``.

    Args:
        run: The run.
        record: Record of the evaluation; its split and the hash of the weights are read.
        scores: Its scores, one row per frame.

    Returns:
        ``calibration``, ``thresholds`` and ``forgeries``.
    """
    validation, why_not = None, _ITSELF
    if record["split"] != "val":
        why_not = _NOT_STORED
        with suppress(TokdError):  # another evaluation of the run is unreadable
            validation = stored_validation(run, record["hashes"]["checkpoint"])
    return {
        "calibration": calibration(scores),
        "thresholds": operating_points(scores, validation, why_not),
        "forgeries": by_forgery(scores),
    }


def complete(run: Run, name: str, record: Config) -> Config:
    """Update the further keys of an earlier evaluation from its stored scores.

    Args:
        run: The run.
        name: Name of the evaluation's folder.
        record: Contents of its ``evaluation.json``.

    Returns:
        The new contents; ``record`` unchanged if its scores are missing, unreadable or incomplete.
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
