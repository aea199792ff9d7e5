"""Run folders as ``tokd fit`` and ``tokd test`` leave them, with planted numbers."""

import csv
import json
from pathlib import Path
from typing import Any

AUC = {"teacher-both": 0.95, "vanilla-none": 0.84, "tokd-rgb": 0.91, "tokd-both": 0.93}


def plant(
    runs: Path, kind: str, data: str = "synthetic-c23", seed: int = 0, **changes: Any
) -> Path:
    """Write one run; ``kind`` is ``<method>-<branches>``, ``changes`` replace parts of the JSON."""
    method, _, branches = kind.rpartition("-")
    role = "teacher" if method == "teacher" else "student"
    named = kind if role == "teacher" else f"resnet18_thin_{kind}"
    folder = runs / f"{data}_{named}_s{seed}"
    folder.mkdir(parents=True)
    auc = AUC.get(kind, 0.8)
    metrics = {"acc": 0.8246, "balanced_acc": 0.79, "auc": auc, "eer": 1 - auc, "majority": 0.8}
    results = {
        "name": folder.name,
        "status": "finished",
        "cell": {"data": data, "role": role, "backbone": "resnet18_thin"}
        | {"method": method, "branches": branches, "seed": seed},
        "synthetic": data.startswith("synthetic"),
        "parameters": 5_960_000 if role == "teacher" else 2_799_000,
        "macs": 380_000_000 if role == "teacher" else 168_000_000,
        "metrics": {"val/frame/acc": 0.5}
        | {f"test/{level}/{k}": v for level in ("frame", "video") for k, v in metrics.items()},
        "hashes": {"data": data},
    }
    results["metrics"] |= {"test/video/auc": auc + 0.01, "test/video/eer": 0.001}
    (folder / "metrics.json").write_text(json.dumps(results | changes))
    rows = curves(kind)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def curves(kind: str, epochs: int = 2, steps: int = 3) -> list[dict[str, float]]:
    """Sparse rows: three steps per epoch, then one validation."""
    rows: list[dict[str, float]] = []
    for epoch in range(epochs):
        for step in range(epoch * steps, (epoch + 1) * steps):
            row = {"epoch": epoch, "step": step, "train/loss": 1.0 + step}
            if kind != "teacher-both":
                row["train/ce"] = 0.1 * step
            if kind == "tokd-both":
                row["train/rgb"] = row["train/frequency"] = 5.0 - step
                for part, cosine in {"rotated": 0.1, "full": 0.2}.items():
                    row[f"gradient/cosine_{part}_before"] = cosine
                    row[f"gradient/cosine_{part}_after"] = cosine + 0.05 * step
            rows.append(row)
        rows.append(
            {"epoch": epoch, "step": rows[-1]["step"], "val/loss": 0.6 - 0.1 * epoch}
            | {"val/frame/auc": 0.7 + 0.1 * epoch, "val/frame/acc": 0.6 + 0.1 * epoch}
        )
    return [*rows, {"epoch": epochs - 1, "step": epochs * steps, "test/frame/auc": 0.9}]
