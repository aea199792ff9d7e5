"""ECE, Brier and NLL: by hand, against torchmetrics and on scores that are right by design."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from tokd_lightning.metrics.calibration import calibrated, calibration


def test_a_small_example_by_hand():
    label, p_fake = np.array([0, 1, 1, 0, 1]), np.array([0.02, 0.04, 0.9, 0.91, 1.0])
    found = calibrated(label, p_fake)
    # The first bin ends at 1/15, the second last begins at 13/15: 0.9 and 0.91 share one.
    wanted = (2 * abs(0.5 - 0.03) + 2 * abs(0.5 - 0.905) + 1 * abs(1 - 1)) / 5
    assert found["ece"] == pytest.approx(wanted)
    assert found["brier"] == pytest.approx((0.02**2 + 0.96**2 + 0.1**2 + 0.91**2) / 5)
    assert found["nll"] == pytest.approx(-np.log([0.98, 0.04, 0.9, 0.09, 1]).mean())
    bins = found["bins"]
    assert [n for n, count in enumerate(bins["count"]) if count] == [0, 13, 14]
    assert (bins["fake"][0], bins["fake"][13], bins["fake"][14]) == (1, 1, 1)
    assert bins["p_fake"][0] == pytest.approx(0.03)
    assert bins["p_fake"][1] is None


def test_ece_is_the_one_of_torchmetrics():
    rng = np.random.default_rng(0)
    label, p_fake = rng.integers(0, 2, 500), rng.beta(0.5, 0.7, 500)
    theirs = BinaryCalibrationError(n_bins=15, norm="l1")
    wanted = theirs(torch.from_numpy(p_fake), torch.from_numpy(label))
    assert calibrated(label, p_fake)["ece"] == pytest.approx(float(wanted), abs=1e-6)


def test_scores_that_are_right_have_no_error_and_overconfident_ones_do():
    rng = np.random.default_rng(1)
    p_fake = rng.random(100_000)
    label = (rng.random(100_000) < p_fake).astype(np.int64)
    right = calibrated(label, p_fake)
    assert right["ece"] < 0.01
    assert right["brier"] == pytest.approx(1 / 6, abs=0.003)  # E p (1 - p)
    assert right["nll"] == pytest.approx(0.5, abs=0.005)
    odds = (p_fake / (1 - p_fake)) ** 3
    sure = calibrated(label, odds / (1 + odds))
    assert sure["ece"] > 0.1
    assert sure["brier"] > right["brier"]
    assert sure["nll"] > right["nll"]


def test_a_sure_mistake_costs_much_and_not_all():
    found = calibrated(np.array([1, 0]), np.array([0.0, 0.0]))
    assert found["nll"] == pytest.approx(-np.log(1e-15) / 2)
    assert found["ece"] == pytest.approx(0.5)


def test_videos_count_once_with_their_mean():
    frames = pd.DataFrame(
        {
            "dataset": "d",
            "method": ["real", "real", "swap"],
            "video": ["a", "a", "b"],
            "path": ["a/0", "a/1", "b/0"],
            "label": [0, 0, 1],
            "p_fake": [0.2, 0.6, 0.7],
        }
    )
    found = calibration(frames)
    assert found["video"]["brier"] == pytest.approx((0.4**2 + 0.3**2) / 2)
    assert found["frame"]["brier"] == pytest.approx((0.2**2 + 0.6**2 + 0.3**2) / 3)
    assert sum(found["video"]["bins"]["count"]) == 2
