"""Frame and video level metrics of a table of scores (Sec. 5.2).

A table has one row per frame: ``dataset``, ``method``, ``video``, ``label`` (0 real, 1 fake) and
``p_fake``, the softmax output of class 1. Everything is computed in float64, because rounding
would create ties between scores that differ.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokd_lightning.errors import TokdError

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.int64]

VIDEO = ["dataset", "method", "video"]
_COLUMNS = [*VIDEO, "label", "p_fake"]
_FAR_BELOW = 0.35  # AUC below which labels may be inverted
_DEVIATIONS = 4  # standard deviations of the AUC of guessing that it must also be below one half


def frame_and_video_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Compute every metric at frame level and at video level (mean of P(fake) per video).

    Args:
        table: One row per frame. A video is its (dataset, method, video): FF++ names the four
            forgeries of one pair alike.

    Returns:
        The metrics of ``binary_metrics`` with the prefixes ``frame/`` and ``video/``.

    Raises:
        ValueError: A column is missing, there is no row, a frame occurs twice, a label is neither
            0 nor 1 or changes within a video, or a score is outside [0, 1].
        TokdError: A score is not a number.
    """
    levels = {"frame": _checked(table), "video": video_table(table)}
    return {
        f"{level}/{name}": value
        for level, rows in levels.items()
        for name, value in binary_metrics(*labels_and_scores(rows)).items()
    }


def video_table(table: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of each video.

    Args:
        table: One row per frame, as for ``frame_and_video_metrics``.

    Returns:
        One row per (dataset, method, video) in order of appearance: the key, ``label``,
        ``p_fake`` (mean) and ``frames`` (number of scored frames).

    Raises:
        ValueError: As ``frame_and_video_metrics``.
        TokdError: As ``frame_and_video_metrics``.
    """
    videos = _checked(table).groupby(VIDEO, sort=False, dropna=False, observed=True)
    if (videos["label"].nunique() > 1).any():
        raise ValueError("frames of one video carry both labels")
    return videos.agg(
        label=("label", "first"), p_fake=("p_fake", "mean"), frames=("p_fake", "size")
    ).reset_index()


def metrics_by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the metrics of each forgery method against all real frames of its data set.

    Args:
        table: One row per frame, as for ``frame_and_video_metrics``.

    Returns:
        One row per (dataset, method) of the fakes: the key, ``n_real`` and ``n_fake`` (frames),
        and the columns of ``frame_and_video_metrics``.

    Raises:
        ValueError: As ``frame_and_video_metrics``.
        TokdError: As ``frame_and_video_metrics``.
    """
    rows: list[dict[str, Any]] = []
    datasets = _checked(table).groupby("dataset", sort=False, dropna=False, observed=True)
    for dataset, frames in datasets:
        real = frames[frames["label"] == 0]
        fakes = frames[frames["label"] == 1]
        for method, fake in fakes.groupby("method", sort=False, dropna=False, observed=True):
            key = {"dataset": dataset, "method": method, "n_real": len(real), "n_fake": len(fake)}
            rows.append(key | frame_and_video_metrics(pd.concat([real, fake])))
    return pd.DataFrame(rows)


def seen_and_unseen(table: pd.DataFrame, unseen: Collection[str]) -> dict[str, float]:
    """Compute the metrics of forgeries that training had and of those that it did not have.

    Args:
        table: One row per frame, as for ``frame_and_video_metrics``.
        unseen: Methods that training did not have.

    Returns:
        The metrics of ``frame_and_video_metrics`` with the prefixes ``seen/`` and ``unseen/``, each
        against all real frames; empty without an unseen method, and without either prefix if no
        frame belongs to it.
    """
    fake, held = table["label"] == 1, table["method"].isin(unseen)
    metrics: dict[str, float] = {}
    for name, kept in (("seen", fake & ~held), ("unseen", fake & held)):
        if unseen and kept.any():
            found = frame_and_video_metrics(table[kept | ~fake])
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
    return metrics


def inverted(table: pd.DataFrame) -> str:
    """Return a warning if scores and labels disagree far more than by chance, else "".

    Args:
        table: One row per frame, as for ``frame_and_video_metrics``.
    """
    videos = video_table(table)
    label, p_fake = labels_and_scores(videos)
    fakes = int(label.sum())
    reals = len(label) - fakes
    if not fakes or not reals:
        return ""
    auc = binary_metrics(label, p_fake)["auc"]
    spread = math.sqrt((reals + fakes + 1) / (12 * reals * fakes))  # of guessing, Mann and Whitney
    if auc > min(_FAR_BELOW, 0.5 - _DEVIATIONS * spread):
        return ""
    return (
        f"the AUC over videos, {100 * auc:.1f} %, is far below the 50 % of guessing: the labels "
        "may be the wrong way round (1 is fake, 0 is real)"
    )


def binary_metrics(label: LabelArray, p_fake: FloatArray) -> dict[str, float]:
    """Compute the metrics of real-or-fake scores.

    A sample is classified as fake if P(fake) > 0.5; at a tie the argmax of the logits is real.
    Metrics that need both classes are NaN if one is missing.

    Args:
        label: 0 real, 1 fake, ``(N,)`` with N > 0.
        p_fake: Scores in [0, 1], ``(N,)``.

    Returns:
        ``acc``, ``balanced_acc``, ``acc_real``, ``acc_fake``, ``auc``, ``ap``, ``eer`` and
        ``majority``, the accuracy of always predicting the larger class; all in [0, 1].
    """
    fake = label == 1
    correct = (p_fake > 0.5) == fake
    acc_real, acc_fake = _share(correct[~fake]), _share(correct[fake])
    share = _share(fake)
    fpr, tpr, precision = roc(label, p_fake)
    return {
        "acc": _share(correct),
        "balanced_acc": (acc_real + acc_fake) / 2,
        "acc_real": acc_real,
        "acc_fake": acc_fake,
        "auc": float(np.diff(fpr) @ (tpr[1:] + tpr[:-1]) / 2),
        "ap": float(np.diff(tpr) @ precision[1:]),
        "eer": _equal_error_rate(fpr, tpr),
        "majority": max(share, 1 - share),
    }


def roc(label: LabelArray, p_fake: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute the ROC curve, with one point per distinct score.

    Args:
        label: 0 real, 1 fake, ``(N,)``.
        p_fake: Scores, higher for fake, ``(N,)``.

    Returns:
        False positive rate, true positive rate and precision at each threshold from "nothing is
        fake" (0, 0; precision 1) to "everything is fake" (1, 1); NaN if one class is missing.
    """
    order = np.argsort(-p_fake, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p_fake[order]) != 0, True))
    hits = np.append(0.0, np.cumsum(label[order] == 1, dtype=np.float64)[last])
    called = np.append(0.0, last + 1.0)
    if not 0 < hits[-1] < called[-1]:
        nothing = np.full_like(hits, np.nan)
        return nothing, nothing, nothing
    false = called - hits
    precision = np.append(1.0, hits[1:] / called[1:])
    return false / false[-1], hits / hits[-1], precision


def _equal_error_rate(fpr: FloatArray, tpr: FloatArray) -> float:
    """Compute where FPR = 1 - TPR on the piecewise linear ROC curve."""
    gap = fpr + tpr - 1  # rises from -1 to 1
    if np.isnan(gap).any():
        return float("nan")
    after = int(np.argmax(gap >= 0))
    before = after - 1
    way = -gap[before] / (gap[after] - gap[before])
    return float(fpr[before] + way * (fpr[after] - fpr[before]))


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else float("nan")


def labels_and_scores(table: pd.DataFrame) -> tuple[LabelArray, FloatArray]:
    """Return the columns ``label`` and ``p_fake``."""
    return table["label"].to_numpy(np.int64), table["p_fake"].to_numpy(np.float64)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with float64 scores, or raise an error if it is invalid."""
    if missing := [column for column in _COLUMNS if column not in table]:
        raise ValueError(f"the table of scores has no column {', '.join(missing)}")
    if table.empty:
        raise ValueError("the table of scores has no row")
    if twice := _repeated(table):
        raise ValueError(f"{twice} rows of the table of scores repeat a frame")
    if not table["label"].isin([0, 1]).all():
        raise ValueError("labels must be 0 (real) or 1 (fake)")
    scores = table["p_fake"].astype(np.float64)
    if lost := int(scores.isna().sum()):
        raise TokdError(
            f"{lost} of {len(scores)} scores are not a number: the network has diverged; "
            "lower the learning rate, or train in 32-true"
        )
    if not scores.between(0, 1).all():
        raise ValueError("p_fake must be a probability in [0, 1], not a logit")
    return table.assign(p_fake=scores)


def _repeated(table: pd.DataFrame) -> int:
    """Count rows that repeat a sample: by file, else by frame of a video, else by row number."""
    if "path" in table:
        # A frame and what is forged from it have one path, but are of two methods.
        return int(table.duplicated(["path", *({"method"} & {*table.columns})]).sum())
    if "frame" in table:
        key = [*VIDEO, *(c for c in ("quality", "frame") if c in table)]
        return int(table.duplicated(key).sum())
    return int(table.index.duplicated().sum())
