"""Confidence intervals of ranking metrics: whole videos are resampled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokd_lightning.metrics.classification import VIDEO, FloatArray, video_table
from tokd_lightning.metrics.weighted import weighted_metrics
from tokd_lightning.tables.statistics import LEVEL, resampled

RESAMPLES = 2000
RATES = (0.001, 0.01, 0.05, 0.1)
METRICS = ("auc", "ap", "eer", *(f"tpr@{rate:g}" for rate in RATES))
_TAIL = (1 - LEVEL) / 2


class Interval(NamedTuple):
    """A metric as a fraction, with its 95 % interval.

    Attributes:
        value: Of all samples.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Sample(NamedTuple):
    """Scored samples and the units that are resampled.

    Attributes:
        fake: Whether a sample belongs to the class that should score higher, ``(N,)``.
        score: Its score, ``(N,)``.
        unit: Its unit (video), 0 to U - 1, ``(N,)``.
        strata: Stratum of each unit, ``(U,)``; the number of units in each is kept.
    """

    fake: NDArray[np.bool_]
    score: FloatArray
    unit: NDArray[np.int64]
    strata: tuple[object, ...]

    def resamples(self) -> FloatArray:
        """Return the weights of the units, ``(1 + RESAMPLES, U)``; the first row is all 1."""
        counts = resampled(self.strata, RESAMPLES, 0)
        return np.concatenate([np.ones((1, len(self.strata))), counts])

    def metrics(self, score: FloatArray, rates: Sequence[float] = ()) -> dict[str, FloatArray]:
        """Compute the metrics of a score of the samples in every resample."""
        return weighted_metrics(self.fake, score, self.resamples(), rates, self.unit)


def sample(scores: pd.DataFrame, level: str) -> Sample:
    """Return the samples of a table of scores: ``frame``, or ``video`` (mean P(fake) of each).

    Videos are resampled, within each (dataset, method, label).
    """
    videos = video_table(scores)
    strata = tuple(videos[["dataset", "method", "label"]].itertuples(index=False, name=None))
    unit: NDArray[np.int64]
    if level == "video":
        rows, unit = videos, np.arange(len(videos), dtype=np.int64)
    else:
        rows = scores
        groups = scores.groupby(VIDEO, sort=False, dropna=False, observed=True)
        unit = np.asarray(groups.ngroup(), np.int64)
    fake = rows["label"].to_numpy(np.int64) == 1
    return Sample(fake, rows["p_fake"].to_numpy(np.float64), unit, strata)


def two_groups(high: FloatArray, low: FloatArray) -> Sample:
    """Return two groups of independent units, the first of which is expected to score higher."""
    strata = (*(["high"] * len(high)), *(["low"] * len(low)))
    fake = np.arange(len(strata)) < len(high)
    return Sample(fake, np.concatenate([high, low]), np.arange(len(strata)), strata)


def intervals(samples: Sample, names: Sequence[str] = METRICS) -> dict[str, Interval | None]:
    """Compute metrics with percentile intervals of a bootstrap over units.

    Args:
        samples: The samples.
        names: ``auc``, ``ap``, ``eer``, ``tpr@<rate>``.

    Returns:
        None for a metric that is undefined: a class is missing, or the rate is less than one real.
    """
    rates = [float(name.partition("@")[2]) for name in names if name.startswith("tpr@")]
    found = samples.metrics(samples.score, rates)
    reals = int((~samples.fake).sum())
    few = {f"tpr@{rate:g}" for rate in rates if int(reals * rate) < 1}
    return {name: None if name in few else _interval(found[name]) for name in names}


def auc(samples: Sample) -> Interval | None:
    """Compute the AUC with its interval; None if a class is missing."""
    return intervals(samples, ("auc",))["auc"]


def auc_gain(ours: Sample, other: FloatArray) -> Interval | None:
    """Compute our AUC minus that of another score of the same samples, on the same resamples."""
    a, b = (ours.metrics(score)["auc"] for score in (ours.score, other))
    return _interval(a - b)


def _interval(values: FloatArray) -> Interval | None:
    if np.isnan(values).any():
        return None
    low, high = np.quantile(values[1:], [_TAIL, 1 - _TAIL])
    return Interval(*(round(float(value), 6) for value in (values[0], low, high)))
