"""Run folders with planted scores, for `tokd audit`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tokd_lightning.metrics.classification import frame_and_video_metrics

FORGERIES = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
COLUMNS = (
    *("path", "dataset", "method", "video", "target", "source", "quality", "frame", "label"),
    *("split", "p_fake"),
)


def scores(
    dataset: str = "ffpp",
    quality: str = "c23",
    separation: float = 3.0,
    videos: int = 40,
    frames: int = 2,
    seed: int = 0,
    folders: Sequence[str] = ("original_sequences/youtube",),
    shift: float = 0.0,
    split: str = "test",
) -> pd.DataFrame:
    """P(fake) of real videos and four forgeries; reals of the second folder are shifted."""
    rng, rows = np.random.default_rng(seed), []
    for kind, method in enumerate(("real", *FORGERIES)):
        for number in range(videos):
            name = f"{number:03d}" if not kind else f"{number:03d}_{(number + 1) % videos:03d}"
            folder = folders[number % len(folders)] if not kind else f"manipulated/{method}"
            mean = separation if kind else shift * (number % len(folders))
            logit = mean + rng.standard_normal()
            for frame in range(frames):
                p_fake = 1 / (1 + np.exp(-(logit + 0.3 * rng.standard_normal())))
                path = f"{folder}/{quality}/faces/{name}/{frame:04d}.png"
                source = name[4:] if kind else ""
                about = (path, dataset, method, name, name[:3], source, quality, frame)
                rows.append((*about, int(kind > 0), split, p_fake))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def plant(
    runs: Path,
    name: str = "run",
    test: pd.DataFrame | None = None,
    elsewhere: dict[str, pd.DataFrame] | None = None,
    validation: pd.DataFrame | None = None,
    data: dict[str, Any] | None = None,
) -> Path:
    """Write a run that was tested, and evaluated elsewhere; returns its folder."""
    folder = runs / name
    test = scores() if test is None else test
    metrics = {f"test/{key}": value for key, value in frame_and_video_metrics(test).items()}
    if validation is not None:
        found = frame_and_video_metrics(validation)
        metrics |= {f"val/{key}": value for key, value in found.items()}
    cell = {"data": f"{test['dataset'].iloc[0]}-{test['quality'].iloc[0]}", "role": "student"}
    cell |= {"backbone": "resnet18_thin", "method": "tokd", "branches": "both", "seed": 0}
    record = {
        "name": name, "status": "finished", "cell": cell, "metrics": metrics, "seed": 0,
        "hashes": {"weights": "w" * 64, "config": "c" * 64}, "commit": "1" * 40,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(record))
    given = {"name": test["dataset"].iloc[0], "quality": "c23", "root": "data/ffpp"} | (data or {})
    kind = "tokd_lightning.data.ffpp.FFPPDataModule"
    config = {"data": {"class_path": given.pop("class_path", kind), "init_args": given}}
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    test.to_csv(folder / "test_frames.csv", index=False)
    for label, table in (elsewhere or {}).items():
        plant_evaluation(folder, label, table, "test")
    if validation is not None:
        plant_evaluation(folder, "own-val", validation, "val")
    return folder


def plant_evaluation(folder: Path, label: str, table: pd.DataFrame, split: str) -> None:
    """Write scores of the run on another data set or split."""
    place = folder / "evaluations" / label
    place.mkdir(parents=True)
    found = frame_and_video_metrics(table)
    record = {
        "run": folder.name, "split": split, "hashes": {"checkpoint": "w" * 64},
        "data": {"name": label, "kind": "own", "quality": "unknown", "synthetic": False},
        "metrics": {f"{split}/{key}": value for key, value in found.items()},
    }  # fmt: skip
    (place / "evaluation.json").write_text(json.dumps(record))
    table.to_csv(place / "frames.csv", index=False)
