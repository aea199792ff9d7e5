"""Weighted ranking metrics, intervals and distances against scikit-learn and scipy."""

import numpy as np
import pytest
from planted_audit import scores
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tokd_lightning.audit.intervals import (
    METRICS,
    Sample,
    auc,
    auc_gain,
    intervals,
    sample,
    two_groups,
)
from tokd_lightning.audit.sections import wasserstein
from tokd_lightning.metrics.classification import binary_metrics, video_table
from tokd_lightning.metrics.thresholds import threshold_at
from tokd_lightning.metrics.weighted import weighted_metrics

RATES = (0.001, 0.01, 0.05, 0.1)


def cases(seed):
    """Scores with ties, labels, and a few rows of integer weights, zeros among them."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=120).round(1 if seed % 2 else 6)
    fake = rng.random(120) < 0.4
    weights = rng.integers(0, 4, (5, 120)).astype(float)
    weights[0] = 1
    return fake, score, weights


@pytest.mark.parametrize("seed", range(4))
def test_weighted_metrics_equal_scikit_learn(seed: int):
    fake, score, weights = cases(seed)
    found = weighted_metrics(fake, score, weights, RATES)
    for row, weight in enumerate(weights):
        fpr, tpr, _ = roc_curve(fake, score, sample_weight=weight, drop_intermediate=False)
        expected = {
            "auc": roc_auc_score(fake, score, sample_weight=weight),
            "ap": average_precision_score(fake, score, sample_weight=weight),
            "eer": _eer(fpr, tpr),
            **{f"tpr@{rate:g}": tpr[fpr <= rate + 1e-12].max() for rate in RATES},
        }
        got = {name: float(values[row]) for name, values in found.items()}
        assert got == pytest.approx(expected, abs=1e-9)


def _eer(fpr, tpr):
    at = np.linspace(0, 1, 200_001)  # FPR and FNR cross on the linear curve
    cross = np.argmin(np.abs(np.interp(at, fpr, tpr) + at - 1))
    after = int(np.argmax(fpr + tpr >= 1))
    if fpr[after] == fpr[after - 1]:  # a vertical step
        return fpr[after]
    a, b = (fpr[i] + tpr[i] - 1 for i in (after - 1, after))
    exact = fpr[after - 1] - a / (b - a) * (fpr[after] - fpr[after - 1])
    assert at[cross] == pytest.approx(exact, abs=1e-5)
    return exact


def test_weight_one_equals_the_metrics_of_the_test():
    fake, score, weights = cases(1)
    p_fake = 1 / (1 + np.exp(-score))
    expected = binary_metrics(fake.astype(np.int64), p_fake)
    found = weighted_metrics(fake, p_fake, weights[:1])
    for name, values in found.items():
        assert values[0] == pytest.approx(expected[name], abs=1e-12)


def test_weights_count_as_repeated_samples():
    fake, score, weights = cases(3)
    times = weights[1].astype(int)
    repeated = weighted_metrics(fake.repeat(times), score.repeat(times), np.ones((1, times.sum())))
    for name, values in weighted_metrics(fake, score, weights[1:2]).items():
        assert values[0] == pytest.approx(repeated[name][0], abs=1e-12)


def test_tpr_at_a_rate_is_that_of_the_threshold_of_evaluate():
    fake, score, weights = cases(2)
    found = weighted_metrics(fake, score, weights[:1], (0.05, 0.1))
    for rate in (0.05, 0.1):
        threshold = threshold_at(score[~fake], rate)
        assert found[f"tpr@{rate:g}"][0] == (score[fake] > threshold).mean()


def test_a_missing_class_is_undefined_and_a_rate_below_one_real_too():
    one = Sample(np.ones(4, bool), np.arange(4.0), np.arange(4), ("a",) * 4)
    assert set(intervals(one).values()) == {None}
    found = intervals(sample(scores(videos=30), "video"))
    assert [name for name, value in found.items() if value is None] == ["tpr@0.001", "tpr@0.01"]


@pytest.mark.slow
def test_the_interval_of_an_auc_is_that_of_scipy_s_bootstrap():
    rng = np.random.default_rng(3)
    high, low = rng.normal(0.8, 1, 60), rng.normal(0, 1, 50)

    def statistic(a, b):
        return stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))

    ours = auc(two_groups(high, low))
    theirs = stats.bootstrap(
        (high, low), statistic, n_resamples=2000, method="percentile", vectorized=False,
        random_state=1,
    ).confidence_interval  # fmt: skip
    assert ours.value == pytest.approx(statistic(high, low), abs=1e-6)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.012)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Gaussian classes 1 apart: the true AUC is Phi(1 / sqrt 2)."""
    truth = stats.norm.cdf(1 / np.sqrt(2))
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = auc(two_groups(rng.normal(1, 1, 50), rng.normal(0, 1, 50)))
        covered += found.low <= truth <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_frames_are_resampled_with_their_video():
    """Frames that repeat their video's score leave the interval of frames that of videos."""
    table = scores(videos=20, frames=1)
    repeated = table.loc[table.index.repeat(5)].reset_index(drop=True)
    repeated["path"] += repeated.groupby("path").cumcount().astype(str)
    once, often = (intervals(sample(t, "frame"), ("auc",))["auc"] for t in (table, repeated))
    assert often == pytest.approx(once, abs=1e-5)
    videos = intervals(sample(repeated, "video"), ("auc",))["auc"]
    assert videos == pytest.approx(once, abs=1e-5)


def test_a_gain_over_itself_is_zero_and_is_paired():
    mine = sample(scores(separation=1.0), "video")
    assert auc_gain(mine, mine.score) == (0, 0, 0)
    noise = np.random.default_rng(0).normal(0, 0.02, len(mine.score))
    gain, alone = auc_gain(mine, mine.score + noise), auc(mine)
    assert gain.high - gain.low < (alone.high - alone.low) / 3


def test_wasserstein_equals_scipy():
    rng = np.random.default_rng(0)
    for size in (3, 40):
        a, b = rng.random(size), rng.random(25).round(1)
        assert wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b), abs=1e-12)


def test_all_metrics_of_a_table_are_those_of_its_videos():
    table = scores(separation=1.0, videos=100)
    videos = video_table(table)
    label, p_fake = videos["label"].to_numpy(), videos["p_fake"].to_numpy()
    found = intervals(sample(table, "video"))
    assert list(found) == list(METRICS)
    assert found["auc"].value == pytest.approx(roc_auc_score(label, p_fake), abs=1e-6)
    assert found["ap"].value == pytest.approx(average_precision_score(label, p_fake), abs=1e-6)
    for value in filter(None, found.values()):
        assert value.low <= value.value <= value.high
