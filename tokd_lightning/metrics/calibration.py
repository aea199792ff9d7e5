"""Calibration of P(fake): ECE, Brier score, NLL."""

from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.metrics.classification import FloatArray, LabelArray, video_table

BINS = 15
_EPS = 1e-15  # smaller probabilities are clipped to this for the NLL


def calibration(scores: pd.DataFrame) -> dict[str, Any]:
    """Compute the calibration of frames and of videos.

    Args:
        scores: One row per frame, as for
            :func:`~tokd_lightning.metrics.classification.frame_and_video_metrics`.

    Returns:
        ``frame`` and ``video``: ``ece``, ``brier``, ``nll`` and ``bins``, see :func:`calibrated`.
    """
    levels = {"frame": scores, "video": video_table(scores)}
    return {
        level: calibrated(rows["label"].to_numpy(np.int64), rows["p_fake"].to_numpy(np.float64))
        for level, rows in levels.items()
    }


def calibrated(label: LabelArray, p_fake: FloatArray) -> dict[str, Any]:
    r"""Compute the calibration of P(fake).

    The expected calibration error is that of P(fake), not of the confidence in the predicted class
    (Naeini et al., AAAI 2015; 15 bins of equal width as in Guo et al., ICML 2017):

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N} \, | \overline{y}_b - \overline{p}_b |

    The Brier score is the mean of :math:`(p - y)^2`, the NLL the mean of :math:`-\log` of the
    probability of the true class (natural logarithm, probability clipped to [1e-15, 1]).

    Args:
        label: y, 0 real, 1 fake, ``(N,)`` with N > 0.
        p_fake: p, in [0, 1], ``(N,)``.

    Returns:
        ``ece``, ``brier``, ``nll``, and ``bins``: lists of the bins' ``count``, ``p_fake`` (mean,
        None if the bin is empty) and ``fake`` (number of fakes).
    """
    fake = label == 1
    bins = np.minimum((p_fake * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    total = np.bincount(bins, p_fake, minlength=BINS)
    fakes = np.bincount(bins[fake], minlength=BINS)
    given = np.clip(np.where(fake, p_fake, 1 - p_fake), _EPS, 1)
    return {
        "ece": round(float(np.abs(fakes - total).sum() / len(label)), 7),
        "brier": round(float(np.square(p_fake - label).mean()), 7),
        "nll": round(float(-np.log(given).mean()), 7),
        "bins": {
            "count": count.tolist(),
            "p_fake": [round(s / n, 7) if n else None for s, n in zip(total, count, strict=True)],
            "fake": fakes.tolist(),
        },
    }
