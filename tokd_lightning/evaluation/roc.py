"""Figure of the ROC curves behind AUC and EER."""

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tokd_lightning.metrics.classification import binary_metrics, roc, video_table

COLOURS = {"frame": "#0072B2", "video": "#D55E00"}


def roc_png(scores: pd.DataFrame, title: str) -> bytes | None:
    """Draw the ROC curves of frames and of videos.

    Args:
        scores: One row per frame, as for
            :func:`~tokd_lightning.metrics.classification.frame_and_video_metrics`.
        title: Title of the figure.

    Returns:
        A PNG, or None if real or fake frames are missing.
    """
    if scores["label"].nunique() < 2:
        return None
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    axes.plot([0, 1], [1, 0], color="0.75", linewidth=0.8, linestyle=":")
    for level, rows in {"frame": scores, "video": video_table(scores)}.items():
        label, p_fake = rows["label"].to_numpy(np.int64), rows["p_fake"].to_numpy(np.float64)
        metrics = binary_metrics(label, p_fake)
        auc, eer = 100 * metrics["auc"], 100 * metrics["eer"]
        fpr, tpr, _ = roc(label, p_fake)
        said = f"{len(rows)} {level}s: AUC {auc:.2f} %, EER {eer:.2f} %"
        axes.plot(fpr, tpr, color=COLOURS[level], linewidth=1.6, label=said, clip_on=False)
        axes.plot(eer / 100, 1 - eer / 100, "o", color=COLOURS[level], markersize=5, zorder=3)
    axes.set(
        xlabel="real called fake (false positive rate)",
        ylabel="fake called fake (true positive rate)",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.suptitle(title, fontsize="medium", wrap=True)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()
