"""Thresholds at fixed false positive rates: against all thresholds there are."""

import numpy as np
import pandas as pd
import pytest

from tokd_lightning.metrics.classification import metrics_by_method
from tokd_lightning.metrics.thresholds import (
    RATES,
    by_forgery,
    operating_points,
    points,
    threshold_at,
)


def scores(seed=0, videos=30, frames=4, methods=("real", "swap", "smooth"), digits=2):
    """Scores with many ties, some forgeries easier than others."""
    rng, rows = np.random.default_rng(seed), []
    for kind, method in enumerate(methods):
        for video in range(videos):
            for frame in range(frames):
                p_fake = round(float(rng.beta(1 + kind, 2)), digits)
                name = f"{method}/{video}/{frame}"
                rows.append(("d", method, f"{video}", name, int(kind > 0), p_fake))
    columns = ["dataset", "method", "video", "path", "label", "p_fake"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rate", RATES)
def test_the_threshold_is_the_best_of_all_that_keep_the_rate(seed, rate):
    table = scores(seed)
    real, fake = (table.loc[table["label"] == kind, "p_fake"].to_numpy() for kind in (0, 1))
    keeping = [t for t in np.arange(-0.005, 1.005, 0.005) if (real > t).mean() <= rate]
    wanted = max((fake > t).mean() for t in keeping)
    threshold = threshold_at(real, rate)
    assert (real > threshold).mean() <= rate
    assert (fake > threshold).mean() == wanted
    [point] = [p for p in points(table, table) if p["rate"] == rate]
    assert point["threshold"] == threshold
    assert point["tpr"] == pytest.approx(wanted, abs=1e-6)
    assert point["fpr"] == pytest.approx((real > threshold).mean(), abs=1e-6)
    assert (point["reals"], point["allowed"]) == (120, int(120 * rate))


def test_with_too_few_reals_there_is_no_threshold():
    assert threshold_at(np.linspace(0, 1, 99), 0.01) is None
    assert threshold_at(np.linspace(0, 1, 100), 0.01) == pytest.approx(98 / 99)
    assert threshold_at(np.linspace(0, 1, 30), 0.1) == pytest.approx(26 / 29)  # 3 are above
    table = scores(videos=15, frames=1)
    one, five, ten = points(table, table)
    assert (one["threshold"], one["fpr"], one["tpr"], one["allowed"]) == (None, None, None, 0)
    assert (five["threshold"], five["reals"]) == (None, 15)
    assert ten["allowed"] == 1
    assert ten["fpr"] == pytest.approx(1 / 15)


def test_validations_threshold_is_applied_to_these_scores_with_what_it_does_here():
    here, validation = scores(0), scores(1)
    validation["p_fake"] = validation["p_fake"] / 2
    found = operating_points(here, validation)["frame"]
    real = validation.loc[validation["label"] == 0, "p_fake"].to_numpy()
    threshold = threshold_at(real, 0.1)
    point = found["validation"][2]
    assert point["threshold"] == threshold < found["here"][2]["threshold"]
    for key, kind in (("fpr", 0), ("tpr", 1)):
        ours = here.loc[here["label"] == kind, "p_fake"]
        assert point[key] == pytest.approx((ours > threshold).mean(), abs=1e-6)
    assert point["fpr"] > 0.2  # twice what was promised, and it says so
    assert operating_points(here, None, "none")["video"]["validation"] == "none"


def test_one_class_alone_has_no_rate_of_the_other():
    table = scores(methods=("real",))
    assert [point["tpr"] for point in points(table, table)] == [None] * 3
    fakes = scores(methods=("swap",)).assign(label=1)
    assert [point["threshold"] for point in points(fakes, fakes)] == [None] * 3
    assert by_forgery(table) == []


def test_each_forgery_is_told_from_all_reals():
    table = scores()
    found = {row["method"]: row for row in by_forgery(table)}
    assert list(found) == ["swap", "smooth"]
    known = metrics_by_method(table).set_index("method")
    real = table.loc[table["label"] == 0, "p_fake"].to_numpy()
    for method, row in found.items():
        assert row["frame"]["auc"] == pytest.approx(known.loc[method, "frame/auc"], abs=1e-6)
        assert row["frame"]["recall"] == pytest.approx(
            known.loc[method, "frame/acc_fake"], abs=1e-6
        )
        assert row["video"]["auc"] == pytest.approx(known.loc[method, "video/auc"], abs=1e-6)
        fake = table.loc[table["method"] == method, "p_fake"]
        wanted = (fake > threshold_at(real, 0.05)).mean()
        assert row["frame"]["recall_at_fpr"] == pytest.approx(wanted, abs=1e-6)
        assert (row["frame"]["n"], row["video"]["n"]) == (120, 30)
