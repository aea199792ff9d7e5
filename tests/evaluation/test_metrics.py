import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import (
    binary_metrics,
    frame_and_video_metrics,
    metrics_by_method,
    video_table,
)


@st.composite
def samples(draw: st.DrawFn, distinct: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both classes and scores on a coarse grid, so that ties are common."""
    n = draw(st.integers(2, 40))
    label = draw(arrays(np.int64, n, elements=st.integers(0, 1)))
    assume(0 < label.sum() < n)
    score = draw(arrays(np.int64, n, elements=st.integers(0, distinct)))
    return label, score / distinct


def frames(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "video", "label", "p_fake"])
    return table.assign(dataset="ffpp", path=[f"{n}.png" for n in range(len(table))])


def random_table(seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for identity in range(12):
        for method in ("original", "Deepfakes", "FaceSwap"):
            label = int(method != "original")
            centre = random.uniform(0.2, 0.7) + 0.2 * label
            scores = np.clip(random.normal(centre, 0.1, random.integers(1, 6)), 0, 1)
            name = f"{identity:03}" if label == 0 else f"{identity:03}_{identity + 1:03}"
            rows += [(method, name, label, float(score)) for score in scores]
    return frames(rows)


def crossing(label: np.ndarray, score: np.ndarray) -> float:
    """EER by bisection on scikit-learn's ROC curve, drawn with straight lines."""
    fpr, tpr, _ = reference.roc_curve(label, score, drop_intermediate=False)
    # Along the curve both rates are linear in the point's number.
    at = np.arange(len(fpr), dtype=float)
    low, high = 0.0, at[-1]
    for _ in range(100):
        middle = (low + high) / 2
        if np.interp(middle, at, fpr) < 1 - np.interp(middle, at, tpr):
            low = middle
        else:
            high = middle
    return float(np.interp(high, at, fpr))


@settings(deadline=None)
@given(samples())
def test_auc_counts_pairs_that_are_in_order_and_half_of_the_ties(
    sample: tuple[np.ndarray, np.ndarray],
):
    label, score = sample
    fake, real = score[label == 1], score[label == 0]
    won = sum(float(f > r) + 0.5 * float(f == r) for f in fake for r in real)
    assert binary_metrics(label, score)["auc"] == pytest.approx(won / (len(fake) * len(real)))


@settings(deadline=None)
@given(samples())
def test_every_metric_agrees_with_scikit_learn(sample: tuple[np.ndarray, np.ndarray]):
    label, score = sample
    ours, called = binary_metrics(label, score), score > 0.5
    theirs = {
        "acc": reference.accuracy_score(label, called),
        "balanced_acc": reference.balanced_accuracy_score(label, called),
        "acc_real": reference.recall_score(label, called, pos_label=0),
        "acc_fake": reference.recall_score(label, called, pos_label=1),
        "auc": reference.roc_auc_score(label, score),
        "ap": reference.average_precision_score(label, score),
        "eer": crossing(label, score),
        "majority": np.bincount(label).max() / len(label),
    }
    assert ours == pytest.approx(theirs, abs=1e-12)


@settings(deadline=None)
@given(samples())
def test_monotone_transforms_of_the_scores_leave_the_ranking_metrics(
    sample: tuple[np.ndarray, np.ndarray],
):
    label, score = sample
    plain, bent = binary_metrics(label, score), binary_metrics(label, 0.1 + 0.6 * score**3)
    for name in ("auc", "ap", "eer"):
        assert bent[name] == pytest.approx(plain[name], abs=1e-12)


@settings(deadline=None)
@given(samples())
def test_swapping_the_classes_and_turning_the_scores_leaves_auc_and_eer(
    sample: tuple[np.ndarray, np.ndarray],
):
    label, score = sample
    plain, turned = binary_metrics(label, score), binary_metrics(1 - label, 1 - score)
    for name in ("auc", "eer", "majority"):
        assert turned[name] == pytest.approx(plain[name], abs=1e-12)


@settings(deadline=None)
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(sample: tuple[np.ndarray, np.ndarray], random: Any):
    label, score = sample
    order = list(range(len(label)))
    random.shuffle(order)
    shuffled = binary_metrics(label[order], score[order])
    assert shuffled == pytest.approx(binary_metrics(label, score))


def test_eer_lies_between_the_points_of_a_coarse_curve():
    # ROC points (0, 0), (0, 1/2), (1/3, 1/2), (1/3, 1), …: the line FPR = 1 - TPR is met at 1/3;
    # with a tie of one real and one fake the curve rises aslant, from (0, 1/2) to (1/3, 1).
    label = np.array([1, 1, 0, 0, 0])
    assert binary_metrics(label, np.array([0.9, 0.4, 0.6, 0.2, 0.1]))["eer"] == pytest.approx(1 / 3)
    # s in [0, 1] along the slope: s / 3 = 1/2 - s / 2, so s = 3/5.
    assert binary_metrics(label, np.array([0.9, 0.5, 0.5, 0.2, 0.1]))["eer"] == pytest.approx(1 / 5)


def test_scores_that_float32_would_merge_stay_apart():
    label, score = np.array([0, 1]), np.array([0.5, 0.5 + 1e-12])
    assert binary_metrics(label, score)["auc"] == 1
    table = frames([("original", "a", 0, score[0]), ("Deepfakes", "a_b", 1, score[1])])
    assert frame_and_video_metrics(table)["frame/auc"] == 1


def test_a_tie_of_the_logits_is_called_real():
    metrics = binary_metrics(np.array([0, 1]), np.array([0.5, 0.5]))
    assert (metrics["acc_real"], metrics["acc_fake"]) == (1, 0)
    assert metrics["auc"] == metrics["eer"] == metrics["ap"] == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_an_accuracy_but_no_ranking(label: int):
    metrics = binary_metrics(np.full(4, label), np.array([0.1, 0.2, 0.3, 0.9]))
    assert metrics["acc"] == (0.75, 0.25)[label]
    assert metrics[("acc_real", "acc_fake")[label]] == metrics["acc"]
    assert metrics["majority"] == 1
    absent = {"balanced_acc", "auc", "ap", "eer", ("acc_fake", "acc_real")[label]}
    assert {name for name, value in metrics.items() if math.isnan(value)} == absent


def test_videos_of_one_name_under_four_methods_stay_four_videos():
    methods = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    fakes = [(method, "000_003", 1, 0.2 * n) for n, method in enumerate(methods, start=1)]
    table = frames([("original", "000", 0, 0.5), *fakes])
    videos = video_table(table)
    assert len(videos) == 5
    assert videos["p_fake"].tolist() == pytest.approx([0.5, 0.2, 0.4, 0.6, 0.8])
    assert frame_and_video_metrics(table)["video/auc"] == 0.5


def test_videos_of_one_name_in_two_data_sets_stay_two_videos():
    table = frames([("original", "000", 0, 0.2), ("original", "000", 0, 0.4)])
    assert len(video_table(table.assign(dataset=["ffpp", "celebdf"]))) == 2


def test_a_video_scores_the_mean_of_its_frames_however_many():
    table = frames(
        [("original", "000", 0, 0.9), *[("original", "001", 0, p) for p in (0.1, 0.2, 0.9)]]
        + [("Deepfakes", "000_001", 1, p) for p in (0.3, 0.9)]
    )
    videos = video_table(table)
    assert videos["frames"].tolist() == [1, 3, 2]
    assert videos["p_fake"].tolist() == pytest.approx([0.9, 0.4, 0.6])
    metrics = frame_and_video_metrics(table)
    assert metrics["video/acc"] == pytest.approx(2 / 3)
    assert metrics["video/majority"] == pytest.approx(2 / 3)
    assert metrics["frame/acc"] == pytest.approx(3 / 6)


def test_frame_level_metrics_weigh_frames_and_video_level_metrics_weigh_videos():
    table = random_table()
    metrics = frame_and_video_metrics(table)
    assert metrics["frame/auc"] == pytest.approx(
        reference.roc_auc_score(table["label"], table["p_fake"])
    )
    videos = table.groupby(["method", "video"])[["label", "p_fake"]].mean()
    assert metrics["video/auc"] == pytest.approx(
        reference.roc_auc_score(videos["label"], videos["p_fake"])
    )
    assert metrics["frame/auc"] != pytest.approx(metrics["video/auc"])


def test_categories_and_missing_method_names_neither_add_nor_lose_videos():
    table = random_table().astype({"method": "category", "video": "category"})
    assert len(video_table(table)) == 36
    unnamed = random_table()
    unnamed.loc[unnamed["label"] == 0, "method"] = None
    assert len(video_table(unnamed)) == 36


def test_each_method_is_measured_against_all_real_frames():
    table = random_table()
    by_method = metrics_by_method(table).set_index("method")
    assert list(by_method.index) == ["Deepfakes", "FaceSwap"]
    for method, row in by_method.iterrows():
        alone = table[(table["label"] == 0) | (table["method"] == method)]
        assert row["n_real"] == (table["label"] == 0).sum()
        assert row["n_fake"] == (table["method"] == method).sum()
        expected = frame_and_video_metrics(alone)
        assert row[list(expected)].to_dict() == pytest.approx(expected)


def test_a_method_is_measured_against_the_real_frames_of_its_own_data_set():
    ours, other = random_table(0), random_table(1).assign(dataset="celebdf")
    both = pd.concat([ours, other.assign(path="other/" + other["path"])])
    by_method = metrics_by_method(both)
    assert by_method["dataset"].tolist() == ["ffpp"] * 2 + ["celebdf"] * 2
    pd.testing.assert_frame_equal(by_method[:2], metrics_by_method(ours))


@pytest.mark.parametrize("drop", [[], ["path"], ["path", "frame"]])
def test_a_frame_that_stands_there_twice_is_refused(drop: list[str]):
    table = random_table()
    table["frame"] = table.groupby(["method", "video"]).cumcount()
    frame_and_video_metrics(table.drop(columns=drop))
    padded = pd.concat([table, table.head(3)]).drop(columns=drop)
    with pytest.raises(ValueError, match=r"3 rows .* repeat a frame"):
        frame_and_video_metrics(padded)
    with pytest.raises(ValueError, match="repeat a frame"):
        video_table(padded)


def test_a_video_of_both_labels_is_refused():
    with pytest.raises(ValueError, match="both labels"):
        frame_and_video_metrics(frames([("x", "000", 0, 0.5), ("x", "000", 1, 0.5)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "labels"),
        ({"p_fake": 1.5}, "not a logit"),
        ({"p_fake": -0.1}, "not a logit"),
    ],
)
def test_impossible_labels_and_scores_are_refused(change: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        frame_and_video_metrics(random_table().assign(**change))


def test_missing_columns_and_empty_tables_are_refused():
    with pytest.raises(ValueError, match="no column method"):
        frame_and_video_metrics(random_table().drop(columns="method"))
    with pytest.raises(ValueError, match="no row"):
        frame_and_video_metrics(random_table().head(0))


def test_scores_of_a_diverged_network_are_the_users_to_mend():
    table = random_table()
    table.loc[[0, 3], "p_fake"] = math.nan
    with pytest.raises(TokdError, match=r"2 of .* diverged"):
        frame_and_video_metrics(table)
