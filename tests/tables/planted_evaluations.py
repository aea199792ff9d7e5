"""Evaluations beyond the paper's metrics, computed of planted scores."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tokd_lightning.data.perturbations import PERTURBATIONS
from tokd_lightning.metrics.calibration import calibration
from tokd_lightning.metrics.classification import frame_and_video_metrics
from tokd_lightning.metrics.thresholds import by_forgery, operating_points

HASHES = {"data": "d" * 64, "labels": "a" * 64, "checkpoint": "c" * 64}
FORGERIES = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def planted_scores(separation: float, videos: int = 30, frames: int = 2) -> pd.DataFrame:
    """P(fake) of real videos and of forgeries, each farther from the real than the one before."""
    rng, rows = np.random.default_rng(7), []
    for kind, method in enumerate(("real", *FORGERIES)):
        for video in range(videos):
            for frame in range(frames):
                logit = rng.standard_normal() + (kind > 0) * separation * (1 + kind / 4)
                path = f"{method}/{video}/{frame}"
                p_fake = 1 / (1 + np.exp(-logit))
                rows.append(("synthetic", method, f"{video:03d}", path, int(kind > 0), p_fake))
    columns = ["dataset", "method", "video", "path", "label", "p_fake"]
    return pd.DataFrame(rows, columns=columns)


def plant_evaluated(
    runs: Path,
    run: str,
    separation: float,
    trained_on: str = "synthetic-c23",
    robust: bool = True,
    measured_on: str = "d" * 64,
) -> Path:
    """Write ``evaluation.json`` and ``robustness.json`` of a run; AUC falls by 2 % a strength."""
    scores = planted_scores(separation)
    metrics = frame_and_video_metrics(scores)
    record = {
        "run": run,
        "trained_on": trained_on,
        "data": {"name": "synthetic", "quality": "c23", "kind": "ffpp", "synthetic": True},
        "split": "test",
        "options": {"frames_per_video": 2, "precision": "32-true"},
        "metrics": {f"test/{key}": value for key, value in metrics.items()},
        "counts": {"frames": 300, "videos": 150},
        "hashes": HASHES,
        "calibration": calibration(scores),
        "thresholds": operating_points(scores, planted_scores(separation / 2), ""),
        "forgeries": by_forgery(scores),
    }
    folder = runs / run / "evaluations" / "synthetic-c23"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(record))
    if robust:
        clean = {level: point(metrics[f"{level}/auc"]) for level in ("frame", "video")}
        found = {
            name: {
                "title": one.title,
                "parameter": one.parameter,
                "values": one.values,
                **{lv: [point(clean[lv]["auc"] - 0.02 * n) for n in range(1, 6)] for lv in clean},
            }
            for name, one in PERTURBATIONS.items()
        }
        kept = {key: record[key] for key in ("run", "data", "split", "options")}
        kept |= {"hashes": HASHES | {"data": measured_on}, "clean": clean, "perturbations": found}
        (folder / "robustness.json").write_text(json.dumps(kept))
    return folder


def point(auc: float) -> dict[str, float]:
    """A point of a curve."""
    return {"auc": auc, "balanced_acc": 0.5, "acc": 0.5, "eer": 0.5, "n": 300}
