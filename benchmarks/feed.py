"""Wall-clock time from JPEG files to batches on the device, and to trained steps.

It runs the real data module, its workers, the transfer and Kornia; there are few files, linked
under many names, in the page cache.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import SimpleProfiler

from benchmarks.loader import PER_VIDEO, write
from benchmarks.training import distill_module, methods, quiet_trainer, save_teacher
from tokd_lightning.data.manifest_table import ManifestDataModule

NEXT = "[_TrainingEpochLoop].train_dataloader_next"


class Feed(NamedTuple):
    """Result of :func:`measure`.

    Attributes:
        loaded: Images per second from files to augmented batches on the device, without training.
        trained: Images per second of a TOKD training on them.
        waited: Share of the training time in which the host waited for the next batch.
        kilobytes: Average size of a JPEG file.
    """

    loaded: float
    trained: float
    waited: float
    kilobytes: float


@contextmanager
def tree(count: int, size: int, drawn: int = 64, split: str = "train") -> Iterator[Path]:
    """Write a folder with ``manifest.csv``: ``count`` frames of a split, from ``drawn`` files."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        made = write(root, min(drawn, count), size, None)["jpeg"]["path"].tolist()
        rows = []
        for number in range(count):
            video = f"{number // PER_VIDEO:05d}"
            path = root / video / f"{number % PER_VIDEO:04d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(root / made[number % len(made)])
            method = "real" if number // PER_VIDEO % 2 else "Deepfakes"
            rows.append((str(path.relative_to(root)), method, split))
        table = pd.DataFrame(rows, columns=["path", "method", "split"])
        table.to_csv(root / "manifest.csv", index=False)
        yield root


def images(root: Path, size: int, batch: int, workers: int, batches: int) -> ManifestDataModule:
    """Build a data module with ``batches`` batches per epoch, flipped at random."""
    module = ManifestDataModule(
        root,
        quality="c23",
        size=size,
        batch_size=batch,
        num_workers=workers,
        samples_per_epoch=batches * batch,
    )
    assert len(module.manifest)  # indexed here, so that nothing is printed later
    return module


def synchronize(device: torch.device) -> float:
    """Wait for the device and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def stand_in() -> Any:
    """Return the attributes of a trainer that the data module uses."""
    return SimpleNamespace(training=True, global_rank=0, world_size=1, accumulate_grad_batches=1)


def loaded(data: ManifestDataModule, device: torch.device, skipped: int) -> float:
    """Return images per second of an epoch that is loaded and augmented on the device."""
    data.trainer = stand_in()
    start, count = 0.0, 0
    for number, batch in enumerate(data.train_dataloader()):
        batch = data.on_after_batch_transfer(move_data_to_device(batch, device), 0)
        if number >= skipped:
            count += len(batch["image"])
        if number == skipped - 1:
            start = synchronize(device)
    data.trainer = None
    return count / (synchronize(device) - start)


class Throughput(Callback):
    """Records the times of a training after its first ``skipped`` steps and after all."""

    def __init__(self, skipped: int, device: torch.device) -> None:
        self.skipped, self.device = skipped, device
        self.times: list[float] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the time."""
        if batch_idx + 1 in (self.skipped, trainer.num_training_batches):
            self.times.append(synchronize(self.device))


def measure(
    device: torch.device,
    workers: int,
    batch: int = 64,
    size: int = 299,
    dim: int = 1024,
    batches: int = 200,
    steps: int = 60,
    skipped: int = 40,
    precision: str = "bf16-mixed",
    student: str = "resnet18_thin",
    backbone: str = "xception",
) -> Feed:
    """Load an epoch, then train TOKD on another.

    Args:
        device: Device to measure on.
        workers: Number of dataloader workers.
        batch: Images per batch.
        size: Side of the images in pixels.
        dim: d.
        batches: Number of batches to load.
        steps: Steps of the training.
        skipped: First batches of the epoch to exclude, while the workers' queues are filling; of
            the training, a quarter of its steps is excluded.
        precision: Lightning's name of the precision.
        student: Name of the student.
        backbone: Backbone of the teacher's branches.
    """
    with tree(max(2 * PER_VIDEO, 8 * batch), size) as root:
        kilobytes = sum(f.stat().st_size for f in root.glob("*_*.jpg")) / 1000
        kilobytes /= len(list(root.glob("*_*.jpg")))
        rate = loaded(images(root, size, batch, workers, batches), device, skipped)

        _, teacher = save_teacher(root, backbone)
        watch, profiler = Throughput(steps // 4, device), SimpleProfiler()
        trainer = quiet_trainer(device, precision, callbacks=[watch], profiler=profiler)
        module = distill_module(methods(dim)["TOKD both"], student, teacher)
        trainer.fit(module, datamodule=images(root, size, batch, workers, steps))
        seconds = watch.times[1] - watch.times[0]
        counted = steps - steps // 4
        waits = sum(profiler.recorded_durations[NEXT][-counted:])
    return Feed(rate, counted * batch / seconds, waits / seconds, kilobytes)
