"""Ranking metrics under sample weights, for all resamples of a bootstrap at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokd_lightning.metrics.classification import FloatArray

_CHUNK = 4_000_000  # numbers held at a time
_SLACK = 1e-12  # rounding of a false positive rate


def weighted_metrics(
    fake: NDArray[np.bool_],
    score: FloatArray,
    weights: FloatArray,
    rates: Sequence[float] = (),
    unit: NDArray[np.int64] | None = None,
) -> dict[str, FloatArray]:
    r"""Compute AUC, AP, EER and TPR at fixed FPR under every row of weights.

    With all weights 1 they are those of
    :func:`~tokd_lightning.metrics.classification.binary_metrics`. A sample of weight w counts as w
    equal samples:

    .. math::
        \mathrm{AUC} = \frac{\sum_{i \in F} \sum_{j \in R} w_i w_j
        \left([s_i > s_j] + \tfrac{1}{2} [s_i = s_j]\right)}{\sum_F w_i \sum_R w_j}, \qquad
        \mathrm{AP} = \sum_k (\mathrm{TPR}_k - \mathrm{TPR}_{k-1}) \, \mathrm{precision}_k

    The EER is where FPR = 1 - TPR on the piecewise linear ROC curve. TPR at a rate is that of the
    lowest threshold whose FPR is at most the rate.

    Args:
        fake: Whether a sample is fake, ``(N,)``.
        score: Higher for fake, ``(N,)``.
        weights: At least 0, ``(R, N)``; ``(R, U)`` with units.
        rates: False positive rates.
        unit: Unit of each sample, 0 to U - 1, ``(N,)``: samples of one unit share its weight.

    Returns:
        ``auc``, ``ap``, ``eer`` and ``tpr@<rate>``, each ``(R,)``; NaN where a class has no weight.
    """
    order = np.argsort(-score, kind="stable")
    columns = order if unit is None else unit[order]
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    positive = fake[order].astype(np.float64)
    names = ["auc", "ap", "eer", *(f"tpr@{rate:g}" for rate in rates)]
    found = {name: np.full(len(weights), np.nan) for name in names}
    step = max(1, _CHUNK // max(1, len(score)))
    for start in range(0, len(weights), step):
        rows = slice(start, start + step)
        sorted_weights = weights[rows][:, columns]
        called = np.cumsum(sorted_weights, axis=1)[:, last]
        hits = np.cumsum(sorted_weights * positive, axis=1)[:, last]
        for name, values in _of(hits, called, rates).items():
            found[name][rows] = values
    return found


def _of(hits: FloatArray, called: FloatArray, rates: Sequence[float]) -> dict[str, FloatArray]:
    """Compute the metrics from cumulative weights of fakes and of all samples, ``(R, K)``."""
    false = called - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        tpr, fpr = (_from_zero(part / part[:, -1:]) for part in (hits, false))
        precision = np.where(called > 0, hits / called, 1.0)
    undefined = np.isnan(tpr[:, -1]) | np.isnan(fpr[:, -1])
    found = {
        "auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1])).sum(1) / 2,
        "ap": (np.diff(tpr) * precision).sum(1),
    }
    rows = np.arange(len(tpr))
    gap = fpr + tpr - 1  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1)
    before = np.maximum(after - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        way = -gap[rows, before] / (gap[rows, after] - gap[rows, before])
        found["eer"] = fpr[rows, before] + way * (fpr[rows, after] - fpr[rows, before])
    for rate in rates:
        allowed = (fpr <= rate + _SLACK).sum(1) - 1
        found[f"tpr@{rate:g}"] = tpr[rows, np.maximum(allowed, 0)]
    return {name: np.where(undefined, np.nan, values) for name, values in found.items()}


def _from_zero(curve: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros((len(curve), 1)), curve], axis=1)
