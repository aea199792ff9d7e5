"""Decision threshold: the P(fake) above which a detector says fake."""

from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.metrics.classification import (
    FloatArray,
    LabelArray,
    binary_metrics,
    video_table,
)

RULE = "highest balanced accuracy on the validation split, of equal ones the nearest to 0.5"
PLAIN = "0.5, as no validation scores of both classes were there to choose it on"


def choose_threshold(label: LabelArray, p_fake: FloatArray) -> float:
    """Choose the threshold with the highest balanced accuracy.

    Candidates are the midpoints between neighbouring scores, and 0.5; of equally good ones the
    nearest to 0.5 is taken. A sample is classified as fake if its score is above the threshold.

    Args:
        label: 0 real, 1 fake, ``(N,)``.
        p_fake: Scores in [0, 1], ``(N,)``.

    Returns:
        The threshold; 0.5 if a class is missing.
    """
    real, fake = np.sort(p_fake[label == 0]), np.sort(p_fake[label == 1])
    if not len(real) or not len(fake):
        return 0.5
    scores = np.unique(p_fake)
    candidates = np.append((scores[1:] + scores[:-1]) / 2, 0.5)
    kept = np.searchsorted(real, candidates, side="right") / len(real)
    found = 1 - np.searchsorted(fake, candidates, side="right") / len(fake)
    balanced = kept + found
    best = candidates[balanced >= balanced.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def thresholds(scores: pd.DataFrame | None) -> dict[str, Any]:
    """Choose the thresholds for frames and for videos.

    Args:
        scores: Scores of the validation split, one row per frame, as for
            :func:`~tokd_lightning.metrics.classification.frame_and_video_metrics`.

    Returns:
        Level -> ``value`` and ``rule``, and, unless it is the default 0.5, ``count`` and the
        metrics ``at_value`` and ``at_half``.
    """
    if scores is None or scores["label"].nunique() < 2:
        plain = {"value": 0.5, "rule": PLAIN}
        return {"frame": dict(plain), "video": dict(plain)}
    chosen = {}
    for level, rows in {"frame": scores, "video": video_table(scores)}.items():
        label, p_fake = rows["label"].to_numpy(np.int64), rows["p_fake"].to_numpy(np.float64)
        value = choose_threshold(label, p_fake)
        chosen[level] = {
            "value": value,
            "rule": RULE,
            "count": len(rows),
            "at_value": at(label, p_fake, value),
            "at_half": at(label, p_fake, 0.5),
        }
    return chosen


def at(label: LabelArray, p_fake: FloatArray, threshold: float) -> dict[str, float]:
    """Compute the accuracies at a threshold, and AUC and EER, which do not depend on it.

    Args:
        label: 0 real, 1 fake, ``(N,)``.
        p_fake: Scores, ``(N,)``.
        threshold: A sample with a score above it is classified as fake.
    """
    called = (p_fake > threshold).astype(np.float64)
    metrics = binary_metrics(label, called)
    free = binary_metrics(label, p_fake)
    keys = ("acc", "balanced_acc", "acc_real", "acc_fake")
    found = {key: metrics[key] for key in keys} | {key: free[key] for key in ("auc", "eer")}
    return {key: round(value, 7) for key, value in found.items()}
