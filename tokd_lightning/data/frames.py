"""Rows of the manifest become batches of uint8 images, unreadable files included."""

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.sampling import TrainingBatches
from tokd_lightning.errors import TokdError

OnError = Literal["fail", "skip"]


class Batch(TypedDict):
    """What a loader yields; ``index`` and ``skipped`` are row numbers of the split's table.

    ``image`` is ``(B, 3, H, W)``, uint8 from the loader and normalised float32 on the device;
    ``label`` is ``(B,)``, 1 = fake. ``skipped`` are rows that could not be read: with them an
    evaluation batch is smaller and may be empty. ``step`` is the batch's number, counted over
    epochs in training.
    """

    image: Tensor
    label: Tensor
    index: Tensor
    skipped: Tensor
    step: int


class Frame(NamedTuple):
    """A decoded row, and the rows that could not be read and for which it stands in."""

    image: Tensor
    label: int
    row: int
    skipped: tuple[int, ...] = ()


class Unreadable(NamedTuple):
    """A row that could not be read; ``fatal`` when the run must end with ``message``."""

    row: int
    message: str
    fatal: bool


class FrameDataset(Dataset[Frame | Unreadable]):
    """Frames of one split, decoded one by one.

    It never raises for a bad file: torch would bury the message in a worker's traceback. It
    returns :class:`Unreadable`, and :class:`FrameLoader` raises in the main process.

    Args:
        table: Rows of the manifest, numbered from 0.
        root: What their paths are relative to.
        size: Pixels along both sides of an image.
        on_error: Whether a file that is not an image ends the run or is skipped and counted.
        substitute: Whether a skipped row is replaced by the nearest readable row of the same video,
            or else of the same label (training), or left out (evaluation).

    Attributes:
        skipped: Rows found unreadable so far, kept up to date by :class:`FrameLoader`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        size: int,
        on_error: OnError = "fail",
        substitute: bool = False,
    ) -> None:
        self.root = root
        self.size = size
        self.on_error = on_error
        self.substitute = substitute
        self.skipped: set[int] = set()
        self.paths = table["path"].tolist()
        self._labels = table["label"].to_numpy()
        self._videos = table.groupby(VIDEO, sort=False).ngroup().to_numpy()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Frame | Unreadable:
        try:
            return Frame(self._read(index), int(self._labels[index]), index)
        except ValueError as error:
            message = f"cannot read {self.root / self.paths[index]}: {error}"
        if self.on_error == "fail":
            hint = "replace it, or pass --data.on_error skip to go on without such frames"
            return Unreadable(index, f"{message}; {hint}", fatal=True)
        if not self.substitute:
            return Unreadable(index, message, fatal=False)
        failed = [index]
        for other in self._substitutes(index):
            try:
                return Frame(self._read(other), int(self._labels[other]), other, tuple(failed))
            except ValueError:
                failed.append(other)
        kind = "fake" if self._labels[index] else "real"
        return Unreadable(index, f"{message}; nor can any other {kind} training frame", fatal=True)

    def _read(self, index: int) -> Tensor:
        return read_frame(self.root / self.paths[index], self.size)

    def _substitutes(self, index: int) -> Iterator[int]:
        rows = np.flatnonzero(self._labels == self._labels[index])
        same = self._videos[rows] == self._videos[index]
        near = rows[same & (rows != index)]
        yield from near[np.argsort(np.abs(near - index), kind="stable")].tolist()
        others = rows[~same]
        yield from np.roll(others, -int(np.searchsorted(others, index))).tolist()


def collate(samples: list[Frame | Unreadable], size: int) -> dict[str, Tensor] | Unreadable:
    """Stack frames; an unreadable one is listed or, if fatal, takes the place of the batch.

    Args:
        samples: What the dataset returned, possibly nothing.
        size: Pixels along both sides, also of an empty batch.

    Returns:
        A :class:`Batch` that has no ``step`` yet, or the fatal frame.
    """
    frames = []
    skipped: list[int] = []
    for sample in samples:
        if isinstance(sample, Frame):
            frames.append(sample)
            skipped += sample.skipped
        elif sample.fatal:
            return sample
        else:
            skipped.append(sample.row)
    images = [f.image for f in frames]
    return {
        "image": torch.stack(images) if images else torch.empty((0, 3, size, size)).byte(),
        "label": torch.tensor([f.label for f in frames], dtype=torch.int64),
        "index": torch.tensor([f.row for f in frames], dtype=torch.int64),
        "skipped": torch.tensor(skipped, dtype=torch.int64),
    }


class FrameLoader(DataLoader[Any]):
    """A loader that raises the workers' errors as they were meant and counts skipped frames.

    Raises:
        TokdError: While iterating: a frame cannot be read and must not be skipped.
    """

    dataset: FrameDataset

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own class
        for step, batch in enumerate(super().__iter__()):
            yield self._checked(batch, step)

    def _checked(self, batch: Any, step: int) -> Batch:
        if isinstance(batch, Unreadable):
            raise TokdError(batch.message)
        rows = batch["skipped"].tolist()
        if rows and not self.dataset.skipped:
            warnings.warn(
                f"{self.dataset.root / self.dataset.paths[rows[0]]} cannot be read and is "
                "skipped; this and others like it are counted in the results",
                stacklevel=2,
            )
        self.dataset.skipped.update(rows)
        checked: Batch = batch
        checked["step"] = step
        return checked


class TrainingLoader(FrameLoader):
    """A loader of :class:`TrainingBatches` that can go on in the middle of an epoch.

    Lightning keeps ``state_dict`` in its checkpoints; the position counts batches handed out, not
    those that workers have already prepared.
    """

    batch_sampler: TrainingBatches
    _epoch = 0
    _position = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own class
        batches = self.batch_sampler
        self._epoch = batches.epoch
        self._position = batches.start
        first = batches.epoch * len(batches)
        for batch in DataLoader.__iter__(self):
            step = first + self._position
            self._position += 1
            yield self._checked(batch, step)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were handed out."""
        return {"epoch": self._epoch, "batch": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration over that epoch begin behind the batches handed out."""
        self._epoch, self._position = state["epoch"], state["batch"]
        self.batch_sampler.resume(self._epoch, self._position)


def loader(
    dataset: FrameDataset, workers: int, pin_memory: bool, seed: int, **batches: Any
) -> FrameLoader:
    """Make a loader of frames; it leaves torch's global generator alone.

    Args:
        dataset: Frames of one split.
        workers: Processes that decode; 0 decodes in the main process.
        pin_memory: Whether batches lie in page-locked memory.
        seed: Seeds the generator from which workers are seeded.
        **batches: ``batch_sampler``, or ``sampler`` and ``batch_size``, as torch's loader takes
            them; with :class:`TrainingBatches` the loader keeps its position.
    """
    training = isinstance(batches.get("batch_sampler"), TrainingBatches)
    return (TrainingLoader if training else FrameLoader)(
        dataset,
        num_workers=workers,
        collate_fn=partial(collate, size=dataset.size),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
        **batches,
    )
