"""Operating points: thresholds at fixed false positive rates, and recall per forgery."""

from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.metrics.classification import (
    FloatArray,
    binary_metrics,
    labels_and_scores,
    video_table,
)

RATES = (0.01, 0.05, 0.1)  # false positive rates
_AMONG = 0.05  # false positive rate at which forgeries are compared


def operating_points(
    scores: pd.DataFrame, validation: pd.DataFrame | None, why_not: str = ""
) -> dict[str, Any]:
    """Choose thresholds at fixed false positive rates, on these scores and on validation scores.

    Args:
        scores: One row per frame, as for
            :func:`~tokd_lightning.metrics.classification.frame_and_video_metrics`.
        validation: Scores of the same network on its own validation split; None without any.
        why_not: Reason why there are none.

    Returns:
        ``frame`` and ``video``, each with ``here`` and ``validation``: a list with a point per
        rate, see :func:`points`. Without validation scores, ``validation`` is ``why_not``.
    """
    levels = {"frame": scores, "video": video_table(scores)}
    others = {}
    if validation is not None:
        others = {"frame": validation, "video": video_table(validation)}
    return {
        level: {
            "here": points(rows, rows),
            "validation": points(others[level], rows) if others else why_not,
        }
        for level, rows in levels.items()
    }


def points(chosen_on: pd.DataFrame, applied_to: pd.DataFrame) -> list[dict[str, Any]]:
    """Choose a threshold for every rate on some scores and apply it to others.

    Args:
        chosen_on: Scores to choose the threshold on: columns ``label`` and ``p_fake``.
        applied_to: Scores to apply it to, with the same columns.

    Returns:
        Per rate: ``rate``, ``threshold``, ``fpr`` and ``tpr`` on ``applied_to``, ``reals`` (number
        of real samples in ``chosen_on``) and ``allowed`` (how many of them may be classified as
        fake). If ``allowed`` is 0, there are too few reals for the rate, and threshold, FPR and TPR
        are None.
    """
    label, p_fake = labels_and_scores(applied_to)
    real = labels_and_scores(chosen_on)[1][labels_and_scores(chosen_on)[0] == 0]
    found = []
    for rate in RATES:
        threshold = threshold_at(real, rate)
        called = None if threshold is None else p_fake > threshold
        found.append(
            {
                "rate": rate,
                "threshold": threshold,
                "fpr": None if called is None else _share(called[label == 0]),
                "tpr": None if called is None else _share(called[label == 1]),
                "reals": len(real),
                "allowed": _allowed(len(real), rate),
            }
        )
    return found


def threshold_at(real: FloatArray, rate: float) -> float | None:
    """Return the smallest threshold that at most a fraction of the real scores exceed.

    Args:
        real: Scores of real samples, ``(N,)``.
        rate: The fraction, in (0, 1).

    Returns:
        The threshold; None if the fraction is less than one sample.
    """
    allowed = _allowed(len(real), rate)
    return float(np.sort(real)[::-1][allowed]) if allowed else None


def by_forgery(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute how well each forgery is separated from all real frames of its data set.

    Args:
        scores: As for :func:`operating_points`.

    Returns:
        Per (dataset, method) of the fakes: the key, and at ``frame`` and ``video`` level ``n``
        (number of fakes), ``auc`` (None if undefined), ``recall`` (fraction classified as fake at
        threshold 0.5) and ``recall_at_fpr`` (recall at a false positive rate of at most 5 %; None
        if there are too few reals).
    """
    rows = []
    for dataset, frames in scores.groupby("dataset", sort=False, dropna=False, observed=True):
        levels = {"frame": frames, "video": video_table(frames)}
        fakes = frames.loc[frames["label"] == 1, "method"]
        for method in fakes.unique():
            row: dict[str, Any] = {"dataset": str(dataset), "method": str(method)}
            rows.append(row | {key: _told(table, method) for key, table in levels.items()})
    return rows


def _told(table: pd.DataFrame, method: Any) -> dict[str, Any]:
    label, p_fake = labels_and_scores(table)
    fake = (label == 1) & (table["method"] == method).to_numpy()
    either = fake | (label == 0)
    auc = binary_metrics(label[either], p_fake[either])["auc"]
    threshold = threshold_at(p_fake[label == 0], _AMONG)
    return {
        "n": int(fake.sum()),
        "auc": None if np.isnan(auc) else round(auc, 7),
        "recall": _share(p_fake[fake] > 0.5),
        "recall_at_fpr": None if threshold is None else _share(p_fake[fake] > threshold),
    }


def _allowed(reals: int, rate: float) -> int:
    return int(reals * rate)


def _share(flags: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    return round(float(flags.mean()), 7) if len(flags) else None
