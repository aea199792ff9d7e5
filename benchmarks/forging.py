"""Milliseconds of one core per forged sample, from JPEG files to the batch."""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.timing import Spread, spread, threads
from tokd_lightning.data.annotated import AnnotatedDataset
from tokd_lightning.data.annotations import make_forger
from tokd_lightning.data.manifest import build
from tokd_lightning.demo.cast import ProceduralCast

FACES = 6
ROWS = 6000  # more than the 5,000 candidates among which a donor is searched


def table_of(root: Path, size: int, rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Write a few drawn faces, and list them many times as frames of different videos."""
    cast, points = ProceduralCast(0, size), []
    for number in range(FACES):
        face = cast.portrait(number)
        cv2.imwrite(str(root / f"{number}.jpg"), face.image[..., ::-1])
        points.append(face.points)
    listed = [
        (f"{n % FACES}.jpg", "faces", "real", str(n), "", "", "c23", 0, 0, "train")
        for n in range(rows)
    ]
    noise = np.random.default_rng(0).normal(0, 2, (rows, 68, 2))
    every = np.array(points)[np.arange(rows) % FACES] + noise
    table = build(listed)
    both = pd.concat([table, table.assign(method="forged", label=1)], ignore_index=True)
    return both, np.concatenate([every] * 2).astype(np.float32)


def measure(size: int, samples: int, repeats: int, rows: int = ROWS) -> dict[str, Spread]:
    """Measure the process time per forged sample of each method, in seconds.

    Args:
        size: Side in pixels of the stored frames and of the samples.
        samples: Samples of one timing.
        repeats: Timings of each method, in turns.
        rows: Real frames from which donors are drawn.
    """
    spent: dict[str, list[float]] = {"sbi": [], "bi": []}
    with tempfile.TemporaryDirectory() as place, threads(1):
        cv2.setNumThreads(1)
        table, points = table_of(Path(place), size, rows)
        for repeat in range(repeats):
            for name, times in spent.items():
                forger = make_forger(name, {})
                dataset = AnnotatedDataset(
                    table, Path(place), size, points=points, masks=[], forger=forger
                )
                first = rows + repeat * samples
                start = time.process_time()
                dataset.__getitems__([rows + n % rows for n in range(first, first + samples)])
                times.append((time.process_time() - start) / samples)
    return {name: spread(times) for name, times in spent.items()}


if __name__ == "__main__":
    for method, found in measure(320, 32, 10).items():
        median, low, high = (1000 * value for value in found)
        print(f"{method}: {median:.1f} [{low:.1f}, {high:.1f}] ms a sample at 320 px")
