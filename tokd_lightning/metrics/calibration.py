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


def scaled(p_fake: FloatArray, temperature: float) -> FloatArray:
    r"""Divide the logits of P(fake) by a temperature.

    .. math:: p_T = 1 / (1 + ((1 - p) / p)^{1 / T})

    Args:
        p_fake: p, in [0, 1], ``(N,)``; clipped to [1e-15, 1 - 1e-15].
        temperature: T, above 0.
    """
    p = np.clip(p_fake, _EPS, 1 - _EPS)
    found: FloatArray = 1 / (1 + np.exp((np.log1p(-p) - np.log(p)) / temperature))
    return found


def fit_temperature(label: LabelArray, p_fake: FloatArray) -> float:
    """Find the temperature with the lowest NLL, between 0.05 and 20, by golden-section search.

    The NLL is convex in 1 / T, so that it has one minimum.

    Args:
        label: 0 real, 1 fake, ``(N,)``.
        p_fake: Scores in [0, 1], ``(N,)``.

    Source:
        C. Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2

    def nll(log_temperature: float) -> float:
        p = scaled(p_fake, float(np.exp(log_temperature)))
        given = np.clip(np.where(label == 1, p, 1 - p), _EPS, 1)
        return float(-np.log(given).mean())

    while high - low > 1e-6:
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        if nll(inner) <= nll(outer):
            high = outer
        else:
            low = inner
    return round(float(np.exp((low + high) / 2)), 6)
