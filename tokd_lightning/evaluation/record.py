"""Contents of ``evaluation.json``, and the differences between two evaluations."""

import hashlib

import pandas as pd

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.manifest import data_hash
from tokd_lightning.data.synthetic import is_synthetic
from tokd_lightning.data.target import Target
from tokd_lightning.evaluation.open_run import Trained
from tokd_lightning.metrics.classification import video_table
from tokd_lightning.runs.identity import Config, cell
from tokd_lightning.runs.provenance import commit, source_hash, versions
from tokd_lightning.training.results import skipped_frames

# Preprocessing of frames: as in the run's training, whatever the data set.
SEEN = ("size", "crop", "mean", "std")


def before(
    trained: Trained, target: Target, data: FrameDataModule, split: str, precision: str
) -> Config:
    """Return the parts of an evaluation's record that are known before scoring."""
    table = data.table(split)
    labels = table[["path", "method", "video", "label"]].to_csv(index=False)
    return {
        "run": trained.run.folder.resolve().name,
        "cell": cell(trained.config)._asdict(),
        "trained_on": trained.model.header["data"],
        "network": trained.model.header["network"],
        "data": {
            **{key: getattr(target, key) for key in ("name", "kind", "quality")},
            "path": str(target.path),
            "synthetic": is_synthetic(data.root),
        },
        "split": split,
        "options": {
            **{key: getattr(data, key) for key in (*SEEN, "frames_per_video", "on_error")},
            "precision": precision,
        },
        "batch_size": data.batch_size,
        "metrics": {},
        "counts": {},
        "device": "",
        "seconds": 0.0,
        "hashes": {
            "data": data_hash(table, data.root),
            "labels": hashlib.sha256(labels.encode()).hexdigest(),
            "checkpoint": trained.model.weights,
            "source": source_hash(),
        },
        "commit": commit(),
        "versions": versions(),
    }


def changes(earlier: Config, record: Config) -> str:
    """Return how an earlier evaluation differs, as text; empty if it does not."""
    hashes, options = earlier.get("hashes") or {}, dict(earlier.get("options") or {})
    if not (earlier.get("counts") or {}).get("skipped"):
        options["on_error"] = record["options"]["on_error"]  # no frame failed: it had no effect
    what = {"data": "other frames", "labels": "other labels", "checkpoint": "other weights"}
    said = [text for key, text in what.items() if hashes.get(key) != record["hashes"][key]]
    if "other frames" in said and "other labels" in said:
        said.remove("other labels")  # implied by other frames
    said += [
        f"{key} {options.get(key)} instead of {value}"
        for key, value in record["options"].items()
        if options.get(key) != value
    ]
    return ", ".join(said)


def counts(scores: pd.DataFrame, data: FrameDataModule, split: str) -> dict[str, int]:
    """Count frames and videos that were scored, and those that were not."""
    videos, short = video_table(scores), data.counts()
    found: dict[str, int] = {}
    for level, rows in {"frames": scores, "videos": videos}.items():
        fake = int(rows["label"].sum())
        found |= {level: len(rows), f"real_{level}": len(rows) - fake, f"fake_{level}": fake}
    if split in data.partial:
        found["videos_listed"] = data.partial[split][1]
    return found | {
        "skipped": skipped_frames(data).get(split, 0),
        "short_videos": int(short.loc[short["split"] == split, "short"].sum()),
        "videos_without_frames": len(data.scan(data.quality).empty),  # of all splits
    }
