"""Dataset and dataloaders of uint8 images, including the handling of unreadable files."""

import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.degrade import Degradation
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.packed import split_path
from tokd_lightning.data.sampling import TrainingBatches
from tokd_lightning.data.shared import Seat
from tokd_lightning.errors import TokdError

OnError = Literal["fail", "skip"]


class Batch(TypedDict):
    """Batch of a dataloader; ``index`` and ``skipped`` are row numbers of the split's table.

    ``image`` is ``(B, 3, H, W)``, of clips ``(B, T, 3, H, W)``, uint8 from the loader and
    normalised float32 on the device; ``label`` is ``(B,)``, 1 = fake. ``teacher_image`` is present
    when training on pairs, the same frames at the teacher's quality, or when only the student's are
    degraded; it is cropped and augmented identically. ``mask`` is ``(B, 1, H, W)``, uint8 from the
    loader and float32 in [0, 1] on the device, 1 where a face is forged; ``landmarks`` is float32
    ``(B, 68, 2)``, x and y in pixels of ``image``, NaN for a frame without points. Both are present
    where asked for (``require`` of the data module), and follow crop and augmentation. ``skipped``
    are rows that could not be read:
    they make an evaluation batch smaller, possibly empty. ``step`` is the batch number, counted
    across epochs in training.
    """

    image: Tensor
    teacher_image: NotRequired[Tensor]
    mask: NotRequired[Tensor]
    landmarks: NotRequired[Tensor]
    label: Tensor
    index: Tensor
    skipped: Tensor
    step: int


class Unreadable(NamedTuple):
    """Replacement for a batch when the run must end with ``message``."""

    message: str


class FrameDataset(Dataset[Any]):
    """Frames of one split, decoded directly into the memory of a batch.

    It never raises for a bad file: torch would bury the message in a worker's traceback. It
    returns :class:`Unreadable`, and :class:`FrameLoader` raises in the main process.

    Args:
        table: Rows of the manifest, numbered from 0.
        root: Folder that their paths are relative to.
        size: Pixels along both sides of an image.
        on_error: Whether a file that is not an image ends the run or is skipped and counted.
        substitute: Whether a skipped row is replaced by the nearest readable row of the same video,
            or else of the same label (training), or left out (evaluation).
        paired: Whether the files in ``teacher_path`` are read too. A row is unreadable if either of
            its two files is.
        degrade: Degrades the images of a sample, by (seed, epoch, row).
        clean_teacher: Whether ``degrade`` leaves ``teacher_image`` unchanged; without pairs the
            batch then has the frame before degradation as ``teacher_image``.
        seed: Seed of what is drawn for a sample.

    Attributes:
        skipped: Rows found unreadable so far, updated by :class:`FrameLoader`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        size: int,
        on_error: OnError = "fail",
        substitute: bool = False,
        paired: bool = False,
        degrade: Degradation | None = None,
        clean_teacher: bool = False,
        seed: int = 0,
    ) -> None:
        self.root = root
        self.degrade = degrade
        self.clean_teacher = clean_teacher
        self.seed = seed
        self._epoch = 0
        self.size = size
        self.on_error = on_error
        self.substitute = substitute
        self.skipped: set[int] = set()
        self.paired = paired
        self._paths = {"image": table["path"].tolist()}
        if paired:
            self._paths["teacher_image"] = table["teacher_path"].tolist()
        self._labels = table["label"].to_numpy()
        self._videos = table.groupby(VIDEO, sort=False).ngroup().to_numpy()

    def __len__(self) -> int:
        return len(self._labels)

    def files(self, row: int) -> list[Path]:
        """Return the file of a row, or the two files of a pair."""
        return [self.root / paths[row] for paths in self._paths.values()]

    def __getitem__(self, row: int) -> dict[str, Tensor] | Unreadable:
        """Load a batch of one row."""
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor] | Unreadable:
        """Load a batch.

        Args:
            rows: Row numbers of the table; may be empty. N is added for every epoch that has
                passed.

        Returns:
            A :class:`Batch` without ``step``, or the reason why there is none.
        """
        self._epoch = max(rows, default=0) // max(1, len(self))
        rows = [row % len(self) for row in rows]
        batch = self._allocate(rows)
        if self.degrade is not None and self.clean_teacher and not self.paired:
            batch["teacher_image"] = to_hand_over(torch.empty_like(batch["image"]))
        kept: list[int] = []
        skipped: list[int] = []
        for row in rows:
            reasons = []
            for candidate in self._candidates(row):
                try:
                    self._load(batch, len(kept), candidate)
                    self._degrade(batch, len(kept), candidate)
                except ValueError as error:
                    if self.on_error == "fail":
                        hint = "replace it, or pass --data.on_error skip to continue without it"
                        return Unreadable(f"{error}; {hint}")
                    skipped.append(candidate)
                    reasons.append(str(error))
                else:
                    kept.append(candidate)
                    break
            else:
                if self.substitute:
                    kind = "fake" if self._labels[row] else "real"
                    return Unreadable(f"{reasons[0]}; nor can any other {kind} training frame")
        return {
            **{name: values[: len(kept)] for name, values in batch.items()},
            "label": torch.from_numpy(self._labels[kept]),
            "index": torch.tensor(kept, dtype=torch.int64),
            "skipped": torch.tensor(skipped, dtype=torch.int64),
        }

    def _degrade(self, batch: dict[str, Tensor], position: int, row: int) -> None:
        """Degrade what was read, and keep the clean frame for the teacher if it gets that."""
        if self.degrade is None:
            return
        images = [batch["image"]]
        if self.clean_teacher and not self.paired:
            batch["teacher_image"][position] = batch["image"][position]
        elif not self.clean_teacher and self.paired:
            images.append(batch["teacher_image"])
        for its in images:
            its[position] = self.degrade(
                its[position], self.seed, self._epoch, self._drawn_for(row)
            )

    def _drawn_for(self, row: int) -> int:
        """Return the row whose draws a row makes: its own."""
        return row

    def _allocate(self, rows: list[int]) -> dict[str, Tensor]:
        """Allocate the tensors of a batch, one row each."""
        return {name: self._empty(paths, rows) for name, paths in self._paths.items()}

    def _load(self, batch: dict[str, Tensor], position: int, row: int) -> None:
        """Read a row into its position of a batch.

        Raises:
            ValueError: It cannot be read.
        """
        for name, file in zip(self._paths, self.files(row), strict=True):
            batch[name][position] = self._read(file)

    def _empty(self, paths: list[str], rows: list[int]) -> Tensor:
        """Allocate a batch in the memory order of the pixels read, shared with the main process.

        Decoders return the three colours of a pixel next to each other, packs hold them in planes.
        """
        planes = any(isinstance(split_path(paths[row])[1], int) for row in rows[:1])
        order = torch.contiguous_format if planes else torch.channels_last
        shape = (len(rows), 3, self.size, self.size)
        return to_hand_over(torch.empty(shape, dtype=torch.uint8, memory_format=order))

    def _read(self, file: Path) -> Tensor:
        try:
            return read_frame(file, self.size)
        except ValueError as error:
            raise ValueError(f"cannot read {file}: {error}") from error

    def _candidates(self, row: int) -> Iterator[int]:
        """Yield a row and, in training, the rows that may replace it."""
        yield row
        if not self.substitute:
            return
        rows = np.flatnonzero(self._labels == self._labels[row])
        same = self._videos[rows] == self._videos[row]
        near = rows[same & (rows != row)]
        yield from near[np.argsort(np.abs(near - row), kind="stable")].tolist()
        others = rows[~same]
        yield from np.roll(others, -int(np.searchsorted(others, row))).tolist()


def to_hand_over(values: Tensor) -> Tensor:
    """Return a tensor, on a worker in shared memory, so that it is filled there and not copied."""
    moved: Any = values
    return values if get_worker_info() is None else cast(Tensor, moved.share_memory_())


def _as_loaded(batch: Any) -> Any:
    """Return a batch unchanged; replaces torch's collation."""
    return batch


def _leave_ending_to_the_main_process(worker: int) -> None:
    """Ignore SIGTERM in a worker: a job sends it to all processes while a batch is still needed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class FrameLoader(DataLoader[Any]):
    """Dataloader that raises workers' errors in the main process and counts skipped frames.

    Attributes:
        seat: Place at a stream whose batches several fits share; None reads its own.
        split: The split, by which a stream knows it.

    Raises:
        TokdError: While iterating: a frame cannot be read and must not be skipped.
    """

    dataset: FrameDataset
    seat: Seat | None = None
    split = ""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own class
        seat = self.seat
        batches = super().__iter__() if seat is None else seat.evaluation(self.split, len(self))
        for step, batch in enumerate(batches):
            yield self._checked(batch, step)

    def _checked(self, batch: Any, step: int) -> Batch:
        if isinstance(batch, Unreadable):
            raise TokdError(batch.message)
        rows = batch["skipped"].tolist()
        if rows and not self.dataset.skipped:
            warnings.warn(
                f"{' or '.join(map(str, self.dataset.files(rows[0])))} cannot be read and is "
                "skipped; this and others like it are counted in the results",
                stacklevel=2,
            )
        self.dataset.skipped.update(rows)
        checked: Batch = batch
        checked["step"] = step
        return checked


class TrainingLoader(FrameLoader):
    """Dataloader of :class:`TrainingBatches` that can resume in the middle of an epoch.

    Lightning keeps ``state_dict`` in its checkpoints; the position counts batches that were
    yielded, not those that workers have already prepared.

    Attributes:
        between: Called after each batch except an epoch's last, when its training step is finished
            and logged and before the next one is requested: the moment to save a checkpoint.
    """

    batch_sampler: TrainingBatches
    between: Callable[[], None] | None = None
    _epoch = 0
    _position = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own class
        batches = self.batch_sampler
        self._epoch = batches.epoch
        self._position = batches.start
        first = batches.epoch * len(batches)
        for batch in DataLoader.__iter__(self) if self.seat is None else self._shared(self.seat):
            step = first + self._position
            self._position += 1
            yield self._checked(batch, step)
            if self.seat is not None and self._position < len(batches):
                self.seat.before_training(self._epoch, self._position)
            if self.between is not None and self._position < len(batches):
                self.between()

    def _shared(self, seat: Seat) -> Iterator[Any]:
        seat.before_training(self._epoch, self._position)
        while self._position < len(self.batch_sampler):
            yield seat.training(self._epoch, self._position)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were yielded."""
        return {"epoch": self._epoch, "batch": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration over that epoch after the batches already yielded."""
        self._epoch, self._position = state["epoch"], state["batch"]
        self.batch_sampler.resume(self._epoch, self._position)


def loader(
    dataset: FrameDataset, workers: int, pin_memory: bool, seed: int, **batches: Any
) -> FrameLoader:
    """Return a dataloader of frames, which does not use torch's global generator.

    Args:
        dataset: Frames of one split.
        workers: Dataloader workers; 0 decodes in the main process.
        pin_memory: Whether batches are in page-locked memory.
        seed: Seed of the generator from which workers are seeded.
        **batches: ``batch_sampler``, or ``sampler`` and ``batch_size``, as in torch's dataloader;
            with :class:`TrainingBatches` the dataloader keeps its position.
    """
    training = isinstance(batches.get("batch_sampler"), TrainingBatches)
    return (TrainingLoader if training else FrameLoader)(
        dataset,
        num_workers=workers,
        collate_fn=_as_loaded,
        worker_init_fn=_leave_ending_to_the_main_process,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
        **batches,
    )
