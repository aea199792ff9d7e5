"""Process time per degraded sample, and of drawing paired and mixed batches beside plain ones."""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.loader import photograph
from benchmarks.timing import Spread, spread, threads
from tokd_lightning.data.degrade import Degradation
from tokd_lightning.data.sampling import TrainingBatches


def degrading(size: int, samples: int, repeats: int, **options: float) -> Spread:
    """Measure the process time per sample of the six usual links, in seconds.

    Args:
        size: Side of the images in pixels.
        samples: Samples of one timing.
        repeats: Timings.
        **options: ``share`` and ``strength``.
    """
    rng = np.random.default_rng(0)
    drawn = [np.asarray(photograph(size, rng)).transpose(2, 0, 1) for _ in range(8)]
    images = torch.from_numpy(np.stack(drawn))
    degrade = Degradation(**options)
    with threads(1):
        degrade(images[0], 0, 0, 0)  # loads the encoders
        seconds = []
        for repeat in range(repeats):
            start = time.process_time()
            for row in range(samples):
                degrade(images[row % len(images)], repeat, 0, row)
            seconds.append((time.process_time() - start) / samples)
    return spread(seconds)


def drawing(frames: int, batch: int, repeats: int) -> dict[str, Spread]:
    """Measure the process time per sample of drawing an epoch's batches, in seconds.

    Args:
        frames: Training frames, a fifth of them real.
        batch: Samples of a batch.
        repeats: Epochs of each way, in turns.
    """
    labels = (np.arange(frames) % 5 > 0).astype(np.int64)
    partners = np.where(labels == 1, np.arange(frames) // 5 * 5, -1)
    sets = np.arange(frames) % 3
    ways: dict[str, Callable[[], TrainingBatches]] = {
        "half_batch": lambda: TrainingBatches(labels, batch, "half_batch", frames),
        "paired": lambda: TrainingBatches(labels, batch, "paired", frames, partners=partners),
        "mixed": lambda: TrainingBatches(
            labels, batch, "half_batch", frames, sets=sets, weights=[3, 2, 1]
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, make in ways.items():
            batches = make()
            batches.set_epoch(repeat)
            start = time.process_time()
            drawn = sum(map(len, batches))
            seconds[name].append((time.process_time() - start) / drawn)
    return {name: spread(times) for name, times in seconds.items()}


if __name__ == "__main__":
    for share in (0.3, 1.0):
        found = degrading(224, 64, 10, share=share)
        print(f"share {share}:", *(f"{1000 * value:.1f} ms" for value in found))
    for way, found in drawing(160_000, 64, 5).items():
        print(way, *(f"{1e6 * value:.2f} us a sample" for value in found))
