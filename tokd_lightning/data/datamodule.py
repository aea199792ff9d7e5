"""The data module of all data sets: tables, loaders, and what happens on the device."""

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation
import pandas as pd
import rich
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from tokd_lightning.data.augment import Augmentation, Normalise, centre_crop, random_crop, seeded
from tokd_lightning.data.augment_check import check_augmentation
from tokd_lightning.data.frames import Batch, FrameDataset, FrameLoader, OnError, loader
from tokd_lightning.data.layouts.video_folder import refuse_broken_packs
from tokd_lightning.data.manifest import SPLITS, VIDEO, Scan, check, counts, counts_table
from tokd_lightning.data.numberings import align
from tokd_lightning.data.pairs import limit, pair, same_quality, summary
from tokd_lightning.data.rows import fold_hash, row_hashes, whole_hash
from tokd_lightning.data.sampling import Balance, EvaluationBatches, EveryNth, TrainingBatches
from tokd_lightning.data.suspicions import partial_notes, suspicions
from tokd_lightning.errors import TokdError
from tokd_lightning.terminal import keep_words


class FrameDataModule(LightningDataModule, ABC):
    """Frames of real and fake videos, decoded as uint8 and finished on the device.

    Args:
        root: The data set's folder.
        name: Name of the data set in tables and run names.
        quality: Compression of the videos, as the data set names it.
        frames_per_video: Evenly spaced frames taken of every video.
        size: Pixels along both sides of a decoded image.
        crop: Side of a square cut out of it, at random in training and from the middle in
            evaluation; None keeps the whole image.
        batch_size: Samples per optimizer step over all processes and accumulated batches.
        num_workers: Decoding processes per training process; 0 decodes in the main one.
        balance: How real and fake training frames are balanced, see
            :class:`~tokd_lightning.data.sampling.TrainingBatches`; ``loss_weight`` leaves it to
            :attr:`class_weights`. Evaluation is never balanced.
        samples_per_epoch: Training samples per epoch over all processes; None takes every frame.
        augmentation: Kornia modules, or one, applied in order to training images in [0, 1]; None is
            a horizontal flip of every second image, an empty list is nothing.
        mean: Subtracted from images in [0, 1]; one number or three.
        std: Divided by; one number or three.
        on_error: Whether a file that is not an image, or a broken pack, ends the run or is skipped
            and counted.
        seed: Of sampling, cropping and augmentation; not negative.
        teacher_quality: Where given, training batches hold the same frames at this quality too, as
            ``teacher_image``, cut and augmented alike: the teacher of a student reads them. Which
            frames are paired says :func:`~tokd_lightning.data.pairs.pair`.
        max_unpaired: Largest share of the training frames that may have no partner at
            ``teacher_quality`` and be left out.

    Attributes:
        skipped: Rows of each split found unreadable so far, by this process.
        accumulate: Parts of a training batch, one after another; who trains may set it.
        unpaired: Training frames left out for want of a partner at ``teacher_quality``.
        announced: Whether what :meth:`setup` prints has been printed, or shall not be.
        say: Takes the lines below that table.

    Raises:
        TokdError: ``crop`` above ``size``, or a number out of its range.
    """

    name: str

    def __init__(
        self,
        root: Path,
        name: str,
        quality: str,
        frames_per_video: int = 32,
        size: int = 299,
        crop: int | None = None,
        batch_size: int = 64,
        num_workers: int = 4,
        balance: Balance = "none",
        samples_per_epoch: int | None = None,
        augmentation: list[nn.Module] | nn.Module | None = None,
        mean: float | list[float] = 0.5,
        std: float | list[float] = 0.5,
        on_error: OnError = "fail",
        seed: int = 0,
        teacher_quality: str | None = None,
        max_unpaired: float = 0.01,
    ) -> None:
        super().__init__()
        if crop is not None and not 1 <= crop <= size:
            raise TokdError(f"crop must lie between 1 and size {size}, not {crop}")
        for argument, value in (
            ("frames_per_video", frames_per_video),
            ("size", size),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise TokdError(f"{argument} must be at least 1, not {value}")
        if teacher_quality is not None and same_quality(quality, teacher_quality):
            raise TokdError(
                f"teacher_quality {teacher_quality} is the student's own quality: leave it out, or "
                "name another one of the data set"
            )
        if not 0 <= max_unpaired <= 1:
            raise TokdError(f"max_unpaired is a share between 0 and 1, not {max_unpaired}")
        self.root = Path(root)
        self.name = name
        self.quality = quality
        self.frames_per_video = frames_per_video
        self.size = size
        self.crop = crop
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.balance: Balance = balance
        self.samples_per_epoch = samples_per_epoch
        if augmentation is None:
            augmentation = [kornia.augmentation.RandomHorizontalFlip(p=0.5)]
        modules = [augmentation] if isinstance(augmentation, nn.Module) else augmentation
        self.augmentation = Augmentation(*modules)
        self.mean = mean
        self.std = std
        self.normalise = Normalise(mean, std)
        self.on_error: OnError = on_error
        self.seed = seed
        self.teacher_quality = teacher_quality
        self.max_unpaired = max_unpaired
        self.skipped: dict[str, set[int]] = {split: set() for split in SPLITS}
        self.accumulate = 1
        self._scan: Scan | None = None
        self.unpaired = 0
        self.announced = False
        self.say: Callable[[str], None] = print
        self._pairs: list[str] = []
        self._fold = ""
        self._tables: dict[str, pd.DataFrame] = {}

    @abstractmethod
    def scan(self, quality: str) -> Scan:
        """Index the data set's frames at a quality, ``frames_per_video`` of every video."""

    @property
    def input_size(self) -> int:
        """Pixels along both sides of what the network sees."""
        return self.size if self.crop is None else self.crop

    @property
    def manifest(self) -> pd.DataFrame:
        """The checked index of all splits; the first access reads the folders."""
        return self._index().manifest

    def _index(self) -> Scan:
        if self._scan is None:
            scan = self._sound_scan(self.quality)
            check(scan.manifest, scan.apart)
            if self.teacher_quality is not None:
                scan = scan._replace(manifest=self._paired(scan.manifest, self.teacher_quality))
            self._scan = scan
            for split in SPLITS:
                rows = scan.manifest[scan.manifest["split"] == split]
                self._tables[split] = rows.reset_index(drop=True)
        return self._scan

    def _sound_scan(self, quality: str) -> Scan:
        """Index a quality; a broken pack ends the run or is a video without frames."""
        scan = self.scan(quality)
        if self.on_error == "fail":
            refuse_broken_packs(self.root, scan.empty)
        return scan

    def _paired(self, manifest: pd.DataFrame, quality: str) -> pd.DataFrame:
        """Add the training frames' partners at the teacher's quality, chosen among all frames."""
        unlimited = copy.copy(self)
        unlimited.frames_per_video = sys.maxsize
        every, theirs = (
            frames[frames["split"] == "train"]
            for frames in (unlimited._sound_scan(q).manifest for q in (self.quality, quality))
        )
        theirs, said = align(every, theirs, self.root, self.quality, quality)
        paired, lonely = pair(manifest, theirs)
        limit(paired, lonely, quality, self.max_unpaired)
        self.unpaired = len(lonely)
        self._pairs = [*said, summary(paired, lonely, self.quality, quality)]
        return paired

    def setup(self, stage: str) -> None:
        """Index the data, and say once what there is when training or a test begins."""
        if self._scan is None and stage == "fit":
            check_augmentation(self.augmentation, self.input_size)
        scan = self._index()
        if self.announced or stage not in ("fit", "test"):
            return
        self.announced = True
        if self.trainer is None or self.trainer.is_global_zero:
            left_out = len(scan.empty), len(scan.dropped)
            table = counts_table(scan.manifest, self.frames_per_video, *left_out)
            rich.print(keep_words(table, rich.get_console()))
            for line in (*self.notes(), *self._pairs):
                self.say(line)

    def notes(self, split: str | None = None) -> list[str]:
        """Say what is listed and not used, and what of the frames would spoil a result.

        Args:
            split: The only one that counts; None for all.
        """
        scan = self._index()
        rows = scan.manifest if split is None else self._tables[split]
        partial = {k: v for k, v in self.partial.items() if split in (None, k)}
        return [
            *partial_notes(partial),
            *scan.notes,
            *suspicions(rows, self.root, self.size),
        ]

    @property
    def partial(self) -> dict[str, tuple[int, int]]:
        """Splits that lack videos: how many have frames here, and how many belong to the split."""
        scan = self._index()
        there = scan.manifest.drop_duplicates(VIDEO)["split"].value_counts()
        found = {split: (int(there.get(split, 0)), scan.listed.get(split, 0)) for split in SPLITS}
        return {split: pair for split, pair in found.items() if pair[0] < pair[1]}

    def teardown(self, stage: str) -> None:
        """Say how many frames could not be read and were passed over."""
        if self.trainer is None or not self.trainer.is_global_zero:
            return
        for split, rows in self.skipped.items():
            if rows:
                self.say(f"{len(rows)} {split} frames could not be read and were left out")

    def table(self, split: str) -> pd.DataFrame:
        """Return the rows of ``train``, ``val`` or ``test``; a batch's ``index`` counts them."""
        self._index()
        return self._tables[split]

    def counts(self) -> pd.DataFrame:
        """Count videos, frames and short videos per split and method."""
        return counts(self.manifest, self.frames_per_video)

    def data_hash(self) -> str:
        """Hash all rows in use: contents, splits, labels, videos and the teacher's frames."""
        return str(self.data_hashes()["data"])

    def data_hashes(self) -> dict[str, Any]:
        """Return :meth:`data_hash` as ``data`` and the hash of each part as ``rows``."""
        parts = row_hashes(self.manifest, self.root)
        return {"data": whole_hash(parts), "rows": parts}

    def fold_hash(self) -> str:
        """Hash which video is in which split, to tell a teacher of another fold."""
        if not self._fold:
            self._fold = fold_hash(self.manifest)
        return self._fold

    @property
    def class_weights(self) -> Tensor | None:
        """Weights of (real, fake) in the loss that make both count alike; None without need."""
        if self.balance != "loss_weight":
            return None
        number = torch.bincount(torch.tensor(self.table("train")["label"].tolist()), minlength=2)
        if not bool(number.all()):
            raise TokdError("balance loss_weight needs real and fake training frames, not one kind")
        return number.sum() / (2.0 * number)

    def _process(self) -> tuple[int, int]:
        """This process and the number of processes."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _dataset(self, split: str) -> FrameDataset:
        table = self.table(split)
        if not len(table):
            raise TokdError(f"{self.root} has no frames in the split {split}")
        train = split == "train"
        paired = train and self.teacher_quality is not None
        dataset = FrameDataset(table, self.root, self.size, self.on_error, train, paired)
        dataset.skipped = self.skipped[split]
        return dataset

    def _loader(self, dataset: FrameDataset, **batches: Any) -> FrameLoader:
        pin = torch.cuda.is_available()
        return loader(dataset, self.num_workers, pin, self.seed, **batches)

    def train_dataloader(self) -> FrameLoader:
        """Load training batches, drawn as ``balance`` says.

        Raises:
            TokdError: The batch cannot be divided among the processes.
        """
        rank, world = self._process()
        parts = self.accumulate
        if self.batch_size % (world * parts):
            raise TokdError(
                f"a batch of {self.batch_size} cannot be divided equally among {world} processes"
                + (f" and {parts} accumulated parts" if parts > 1 else "")
                + ": change --data.batch_size"
            )
        dataset = self._dataset("train")
        labels = self.table("train")["label"].to_numpy()
        batches = TrainingBatches(
            labels,
            self.batch_size,
            self.balance,
            self.samples_per_epoch,
            self.seed,
            rank,
            world,
            parts,
        )
        return self._loader(dataset, batch_sampler=batches)

    def _evaluation(self, split: str) -> tuple[FrameDataset, EveryNth, int]:
        """A split's frames, those that this process evaluates, and how many at a time."""
        rank, world = self._process()
        dataset = self._dataset(split)
        return dataset, EveryNth(len(dataset), rank, world), max(1, self.batch_size // world)

    def val_dataloader(self) -> FrameLoader:
        """Load every validation frame once."""
        dataset, rows, size = self._evaluation("val")
        return self._loader(dataset, batch_sampler=EvaluationBatches(rows, size))

    def test_dataloader(self) -> FrameLoader:
        """Load every test frame once."""
        dataset, rows, size = self._evaluation("test")
        return self._loader(dataset, batch_sampler=EvaluationBatches(rows, size))

    def predict_dataloader(self) -> FrameLoader:
        """Load every test frame once; Lightning rebuilds this loader around its sampler."""
        dataset, rows, size = self._evaluation("test")
        return self._loader(dataset, sampler=rows, batch_size=size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn uint8 images into what the network sees, on their device.

        In training: random crop, augmentation; otherwise: centre crop. Then normalisation. What is
        random depends on the seed, the batch's number and the process alone, so that the two
        halves of a pair are treated alike.
        """
        batch["image"] = self._finished(batch["image"], batch)
        if "teacher_image" in batch:
            batch["teacher_image"] = self._finished(batch["teacher_image"], batch)
        return batch

    def _finished(self, images: Tensor, batch: Batch) -> Tensor:
        training = self.trainer is not None and self.trainer.training
        rank, world = self._process()
        if self.crop is not None and training:
            whole, part = divmod(batch["step"], self.accumulate)  # crops are those of a whole batch
            place = {"rank": part * world + rank, "world": self.accumulate * world}
            images = random_crop(images, self.crop, self.seed, whole, **place)
        elif self.crop is not None:
            images = centre_crop(images, self.crop)
        images = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
        if training and len(self.augmentation):
            with seeded(images.device, self.seed, batch["step"], rank):
                images = self.augmentation(images)
        finished: Tensor = self.normalise.to(images.device)(images)
        return finished
