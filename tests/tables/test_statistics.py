"""The statistics of the report, on planted results whose truth is known."""

import time

import numpy as np
import pytest

from tokd_lightning.tables.statistics import paired_difference, summary

TRUTH = 0.02


def test_mean_and_standard_deviation_over_seeds():
    assert summary([]) is None
    assert summary([0.5]) == (0.5, None, 1)
    mean, sd, n = summary([0.81, 0.82, 0.86])
    assert (mean, n) == (pytest.approx(0.83), 3)
    assert sd == pytest.approx(np.std([0.81, 0.82, 0.86], ddof=1))


def experiment(rng, videos, seeds, of_video, of_seed, of_both, frames=16):
    """Frames that "both" has right less those of "rgb": binomial counts around planted rates."""
    rate = (
        TRUTH
        + of_video * rng.standard_normal((videos, 1))
        + of_seed * rng.standard_normal((1, seeds))
        + of_both * rng.standard_normal((videos, seeds))
    )
    # P(right) of rgb is 0.5 - rate / 2, that of both 0.5 + rate / 2: the true difference is kept.
    both = rng.binomial(frames, np.clip(0.5 + rate / 2, 0, 1))
    rgb = rng.binomial(frames, np.clip(0.5 - rate / 2, 0, 1))
    return (both - rgb).astype(float), np.full(videos, float(frames))


def coverage(design, number=400, **options):
    rng, covered = np.random.default_rng(7), 0
    for seed in range(number):
        gained, frames = experiment(rng, **design)
        found = paired_difference(gained, frames, resamples=600, seed=seed, **options)
        covered += found.low <= TRUTH <= found.high
    return covered / number


DESIGNS = {
    "videos matter": {"of_video": 0.3, "of_seed": 0.0, "of_both": 0.0},
    "seeds matter": {"of_video": 0.1, "of_seed": 0.1, "of_both": 0.0},
    "both matter": {"of_video": 0.2, "of_seed": 0.02, "of_both": 0.1},
    "they matter together": {"of_video": 0.0, "of_seed": 0.0, "of_both": 0.2},
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", DESIGNS)
def test_the_interval_covers_a_known_difference_at_its_nominal_rate(name):
    assert 0.92 <= coverage({"videos": 80, "seeds": 3} | DESIGNS[name]) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("name", DESIGNS)
def test_it_does_so_with_few_and_with_many_seeds(name, seeds):
    design = {"videos": 80, "seeds": seeds} | DESIGNS[name]
    assert 0.92 <= coverage(design, number=1000) <= 0.99


def test_plain_resampling_of_three_seeds_is_too_sure():
    design = {"videos": 80, "seeds": 3} | DESIGNS["seeds matter"]
    assert coverage(design, seeds="resampled") < 0.9
    assert coverage(design, seeds="fixed") < 0.75


def test_frames_of_a_video_are_no_independent_samples():
    rng = np.random.default_rng(0)
    gained, frames = experiment(rng, 100, 1, 0.4, 0.0, 0.0, frames=32)
    whole = paired_difference(gained, frames, resamples=1000)
    # The same frames, each on its own: a frame gained or lost is +1 or -1, the rest 0.
    alone = np.concatenate([np.sign(g) * (np.arange(32) < abs(g)) for g in gained[:, 0]])
    apart = paired_difference(alone[:, None], np.ones(len(alone)), resamples=1000)
    assert whole.mean == pytest.approx(apart.mean)
    assert whole.high - whole.low > 1.5 * (apart.high - apart.low)


def test_one_seed_resamples_videos_alone():
    gained, frames = experiment(np.random.default_rng(0), 50, 1, 0.2, 0.0, 0.0)
    found = {kind: paired_difference(gained, frames, seeds=kind) for kind in ("student", "fixed")}
    assert found["student"] == found["fixed"]
    assert found["student"].seeds == (pytest.approx(found["student"].mean),)


def test_signs_of_seeds_are_counted_and_a_tie_is_no_sign():
    gained = np.array([[1.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    found = paired_difference(gained, np.full(2, 4.0))
    assert found.seeds == (0.25, 0.0, -0.125)
    assert (found.positive, found.videos) == (1, 2)
    assert found.low <= found.mean <= found.high


def test_strata_keep_their_size():
    # Without strata the share of the stratum where all is gained would vary, and so the mean.
    gained = np.repeat([[8.0], [0.0]], 20, axis=0)
    kinds = ["fake"] * 20 + ["real"] * 20
    kept = paired_difference(gained, np.full(40, 8.0), kinds)
    assert (kept.low, kept.mean, kept.high) == (0.5, 0.5, 0.5)
    free = paired_difference(gained, np.full(40, 8.0))
    assert free.low < 0.45


def test_long_videos_weigh_more_and_the_same_resampling_comes_back():
    gained, frames = np.array([[30.0], [0.0]]), np.array([30.0, 10.0])
    first = paired_difference(gained, frames)
    assert first.mean == pytest.approx(0.75)
    assert first == paired_difference(gained, frames)


def test_counts_that_do_not_belong_together_are_refused():
    for gained, frames in ((np.ones((2, 0)), np.ones(2)), (np.ones((2, 1)), np.ones(3))):
        with pytest.raises(ValueError, match="do not belong"):
            paired_difference(gained, frames)


def test_a_test_set_of_ff_takes_under_a_second():
    gained, frames = experiment(np.random.default_rng(0), 560, 3, 0.2, 0.02, 0.1, frames=32)
    kinds = [video % 5 for video in range(560)]
    started = time.process_time()
    paired_difference(gained, frames, kinds)
    assert time.process_time() - started < 1
