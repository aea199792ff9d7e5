"""Base data module of all data sets: tables, dataloaders and processing on the device."""

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import kornia.augmentation
import pandas as pd
import rich
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from tokd_lightning.data.annotated import AnnotatedDataset
from tokd_lightning.data.annotations import Annotations, Forge
from tokd_lightning.data.arguments import check_sizes, check_sources
from tokd_lightning.data.augment import Augmentation, Normalise, draw_corners, finish
from tokd_lightning.data.augment_check import check_augmentation
from tokd_lightning.data.batch_seeds import BatchSeeds
from tokd_lightning.data.clips import ClipDataset, group_tables
from tokd_lightning.data.frames import Batch, FrameDataset, FrameLoader, OnError, loader
from tokd_lightning.data.layouts.video_folder import refuse_broken_packs
from tokd_lightning.data.manifest import SPLITS, VIDEO, Scan, check, counts, counts_table
from tokd_lightning.data.numberings import align
from tokd_lightning.data.pairs import limit, pair, summary
from tokd_lightning.data.rows import fold_hash, row_hashes, whole_hash
from tokd_lightning.data.sampling import Balance, EvaluationBatches, EveryNth, TrainingBatches
from tokd_lightning.data.suspicions import partial_notes, suspicions
from tokd_lightning.errors import TokdError
from tokd_lightning.terminal import keep_words

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class FrameDataModule(BatchSeeds, LightningDataModule, ABC):
    """Frames of real and fake videos, decoded as uint8 and processed on the device.

    Args:
        root: The data set's folder.
        name: Name of the data set in tables and run names.
        quality: Compression of the videos, as the data set names it.
        frames_per_video: Evenly spaced frames taken from every video.
        size: Pixels along both sides of a decoded image.
        crop: Side of a square cropped from it, at random in training and from the centre in
            evaluation; None keeps the whole image.
        batch_size: Samples per optimizer step over all processes and accumulated batches.
        num_workers: Dataloader workers per training process; 0 decodes in the main process.
        balance: How real and fake training frames are balanced, see
            :class:`~tokd_lightning.data.sampling.TrainingBatches`; ``loss_weight`` balances the
            loss with :attr:`class_weights` instead. Evaluation is never balanced.
        samples_per_epoch: Training samples per epoch over all processes; None takes every frame.
        augmentation: One Kornia module or several, applied in order to training images in [0, 1];
            None flips images horizontally with probability 0.5, an empty list does nothing.
        mean: Subtracted from images in [0, 1]; one number or three.
        std: Divided by; one number or three.
        on_error: Whether a file that is not an image, or a broken pack, ends the run or is skipped
            and counted.
        seed: Seed of sampling, cropping and augmentation; not negative.
        teacher_quality: If given, training batches also contain the same frames at this quality, as
            ``teacher_image``, cropped and augmented identically; the teacher reads them. Frames are
            paired as in :func:`~tokd_lightning.data.pairs.pair`.
        max_unpaired: Largest share of the training frames that may be left out because they have no
            partner at ``teacher_quality``.
        forge: ``sbi`` (self-blended images) or ``bi`` (blended images): training and validation
            read real frames alone, and half of their samples are forged from them on the workers;
            see :mod:`tokd_lightning.data.blending`. The test is as it is.
        forge_options: Arguments of :class:`~tokd_lightning.data.blending.selfblended.SBI` or
            :class:`~tokd_lightning.data.blending.blended.BI`.
        landmarks: File of the frames' landmarks; by default ``<root>/landmarks.csv``.
        clip: If given, samples are clips of so many frames of a video, next to each other among
            ``frames_per_video``: ``image`` is ``(B, T, 3, H, W)``, cropped and augmented alike, and
            a row of :meth:`table` is a clip.

    Attributes:
        skipped: Rows of each split found unreadable so far by this process.
        accumulate: Number of consecutive parts of a training batch; training code may set it.
        unpaired: Number of training frames left out without a partner at ``teacher_quality``.
        announced: Whether the output of :meth:`setup` has been printed, or is suppressed.
        say: Prints the lines below the table of :meth:`setup`.

    Raises:
        TokdError: ``crop`` is above ``size``, ``teacher_quality`` is ``quality``, or a number is
            out of range.
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
        forge: Forge | None = None,
        forge_options: dict[str, Any] | None = None,
        landmarks: Path | None = None,
        clip: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(frames_per_video, size, crop, batch_size, clip, max_unpaired)
        check_sources(quality, teacher_quality, forge, balance, batch_size, clip)
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
        self.clip = clip
        self._clips: dict[str, list[list[str]]] = {}
        self._apart: list[str] = []
        self.annotations = Annotations(self.root, landmarks, forge, forge_options)
        self.skipped: dict[str, set[int]] = {split: set() for split in SPLITS}
        self.accumulate = 1
        self._scan: Scan | None = None
        self.unpaired = 0
        self.announced = False
        self.say: Callable[[str], None] = print
        self._pairs: list[str] = []
        self._found: dict[str, int] = {}
        self._fold = ""
        self._tables: dict[str, pd.DataFrame] = {}

    @abstractmethod
    def scan(self, quality: str) -> Scan:
        """Index the data set's frames at a quality, ``frames_per_video`` per video."""

    def require(self, needs: Iterable[str]) -> None:
        """Add ``mask`` or ``landmarks`` to the batches, as a network needs them; check ``clip``.

        Args:
            needs: Names of the tensors, see :class:`~tokd_lightning.data.frames.Batch`.

        Raises:
            TokdError: Another name is asked for, or clips that there are not.
        """
        asked = {*needs}
        if "clip" in asked and self.clip is None:
            raise TokdError("this network reads clips of frames: give their length, --data.clip 8")
        if self.clip is not None and asked - {"clip"}:
            raise TokdError("clips have neither masks nor landmarks: leave out --data.clip")
        if self.annotations.require(asked - {"clip"}):
            self._scan = None

    @property
    def input_size(self) -> int:
        """Pixels along both sides of the network's input."""
        return self.size if self.crop is None else self.crop

    @property
    def manifest(self) -> pd.DataFrame:
        """Checked index of all splits; the first access reads the folders."""
        return self._index().manifest

    def _index(self) -> Scan:
        if self._scan is None:
            scan = self._sound_scan(self.quality)
            check(scan.manifest, scan.apart)
            if self.teacher_quality is not None:
                scan = scan._replace(manifest=self._paired(scan.manifest, self.teacher_quality))
            parts = {split: scan.manifest["split"] == split for split in SPLITS}
            tables = {k: scan.manifest[rows].reset_index(drop=True) for k, rows in parts.items()}
            self._found = scan.manifest.drop_duplicates(VIDEO)["split"].value_counts().to_dict()
            if self.annotations.used:
                self._fold = fold_hash(scan.manifest)
                tables = self.annotations.apply(tables)
                read = pd.concat(tables.values(), ignore_index=True)
                scan = scan._replace(manifest=read.drop_duplicates("path", ignore_index=True))
            if self.clip is not None:
                tables, self._clips, self._apart = group_tables(tables, self.clip)
            self._scan, self._tables = scan, tables
        return self._scan

    def _sound_scan(self, quality: str) -> Scan:
        """Index a quality; raise on a broken pack, or treat it as a video without frames."""
        scan = self.scan(quality)
        if self.on_error == "fail":
            refuse_broken_packs(self.root, scan.empty)
        return scan

    def _paired(self, manifest: pd.DataFrame, quality: str) -> pd.DataFrame:
        """Add the training frames' partners, found among all frames at the teacher's quality."""
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
        """Index the data and, when training or a test begins, print its counts once."""
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
            for line in (*self.notes(), *self._pairs, *self.annotations.notes, *self._apart):
                self.say(line)

    def notes(self, split: str | None = None) -> list[str]:
        """Return notes on data that are listed but not used, or that would spoil a result.

        Args:
            split: The split to check; None for all.
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
        """Incomplete splits -> number of videos with frames, and number that belong to it."""
        scan = self._index()
        there = self._found
        found = {split: (there.get(split, 0), scan.listed.get(split, 0)) for split in SPLITS}
        return {split: pair for split, pair in found.items() if pair[0] < pair[1]}

    def teardown(self, stage: str) -> None:
        """Print how many frames could not be read and were skipped."""
        if self.trainer is None or not self.trainer.is_global_zero:
            return
        for split, rows in self.skipped.items():
            if rows:
                self.say(f"{len(rows)} {split} frames could not be read and were left out")

    def table(self, split: str) -> pd.DataFrame:
        """Return the rows of ``train``, ``val`` or ``test``; a batch's ``index`` refers to them."""
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
        parts = row_hashes(self.manifest, self.root) | self.annotations.hashes(self._tables)
        return {"data": whole_hash(parts), "rows": parts}

    def fold_hash(self) -> str:
        """Hash which video is in which split, to recognise a teacher of a different fold."""
        if not self._fold:
            self._fold = fold_hash(self.manifest)
        return self._fold

    @property
    def class_weights(self) -> Tensor | None:
        """Loss weights of (real, fake) that balance both; None unless ``loss_weight`` is set."""
        if self.balance != "loss_weight":
            return None
        number = torch.bincount(torch.tensor(self.table("train")["label"].tolist()), minlength=2)
        if not bool(number.all()):
            raise TokdError("balance loss_weight needs real and fake training frames, not one kind")
        return number.sum() / (2.0 * number)

    def _dataset(self, split: str) -> FrameDataset:
        table = self.table(split)
        if not len(table):
            raise TokdError(f"{self.root} has no frames in the split {split}")
        train = split == "train"
        paired = train and self.teacher_quality is not None
        reading = {"on_error": self.on_error, "substitute": train, "paired": paired}
        if self.clip is not None:
            reading |= {"clips": self._clips[split]}
            dataset: FrameDataset = ClipDataset(table, self.root, self.size, **reading)
        elif self.annotations.used:
            reading |= self.annotations.arguments(split) | {"seed": self.seed}
            dataset = AnnotatedDataset(table, self.root, self.size, **reading)
        else:
            dataset = FrameDataset(table, self.root, self.size, **reading)
        dataset.skipped = self.skipped[split]
        return dataset

    def _loader(self, dataset: FrameDataset, **batches: Any) -> FrameLoader:
        pin = torch.cuda.is_available()
        return loader(dataset, self.num_workers, pin, self.seed, **batches)

    def train_dataloader(self) -> FrameLoader:
        """Return the dataloader of training batches, drawn according to ``balance``.

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
            forged=self.annotations.forger is not None,
        )
        return self._loader(dataset, batch_sampler=batches)

    def _evaluation(self, split: str) -> tuple[FrameDataset, EveryNth, int]:
        """Return a split's frames, the rows that this process evaluates, and its batch size."""
        rank, world = self._process()
        dataset = self._dataset(split)
        return dataset, EveryNth(len(dataset), rank, world), max(1, self.batch_size // world)

    def val_dataloader(self) -> FrameLoader:
        """Return a dataloader that yields every validation frame once."""
        dataset, rows, size = self._evaluation("val")
        return self._loader(dataset, batch_sampler=EvaluationBatches(rows, size))

    def test_dataloader(self) -> FrameLoader:
        """Return a dataloader that yields every test frame once."""
        dataset, rows, size = self._evaluation("test")
        return self._loader(dataset, batch_sampler=EvaluationBatches(rows, size))

    def predict_dataloader(self) -> FrameLoader:
        """Return a dataloader of every test frame; Lightning rebuilds it around its sampler."""
        dataset, rows, size = self._evaluation("test")
        return self._loader(dataset, sampler=rows, batch_size=size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn uint8 images into the network's input, on their device.

        In training: random crop, augmentation; otherwise: centre crop. Then normalisation. Random
        numbers depend only on the seed, the batch number and the rank, so that both images of a
        pair are processed identically.
        """
        followers = {name: batch[name] for name in ("mask", "landmarks") if name in batch}
        if "teacher_image" in batch:
            batch["teacher_image"] = self._finished(batch["teacher_image"], batch)[0]
        batch["image"], moved = self._finished(batch["image"], batch, followers)
        batch.update(moved)  # type: ignore[typeddict-item]
        return batch

    def _finished(
        self, images: Tensor, batch: Batch, followers: Mapping[str, Tensor] = NOTHING
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the network's input, and the mask and landmarks that follow it."""
        training = self.trainer is not None and self.trainer.training
        rank, _ = self._process()
        corners = None
        if self.crop is not None and training:
            whole, place, parts = self._share(batch)  # crops belong to a whole batch
            corners = draw_corners(images, self.crop, self.seed, whole, rank=place, world=parts)
        key = (self.seed, batch["step"], rank) if training else None
        images, moved = finish(images, followers, self.augmentation, key, self.crop, corners)
        finished: Tensor = self.normalise.to(images.device)(images)
        return finished, moved
