"""Base data module of all data sets: tables, dataloaders and processing on the device."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import kornia.augmentation
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
from tokd_lightning.data.clips import ClipDataset
from tokd_lightning.data.degrade import DegradeFor, make_degradation
from tokd_lightning.data.frames import Batch, FrameDataset, FrameLoader, OnError, loader
from tokd_lightning.data.index import FrameIndex
from tokd_lightning.data.manifest import SPLITS, counts_table
from tokd_lightning.data.partners import find_partners
from tokd_lightning.data.sampling import Balance, EvaluationBatches, EveryNth, TrainingBatches
from tokd_lightning.data.shared import Seat
from tokd_lightning.data.synthetic import is_synthetic
from tokd_lightning.errors import TokdError
from tokd_lightning.terminal import keep_words

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class FrameDataModule(BatchSeeds, FrameIndex, LightningDataModule):
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
        leave_out: Methods, such as ``[Deepfakes]``, whose fakes are left out of training and
            validation; the test has them, and reports them separately as ``unseen``.
        degrade: Perturbations of which every training image gets a random chain on the workers, by
            (seed, epoch, row): ``all``, or names as in ``[h264, jpeg, resize]``; see
            :class:`~tokd_lightning.data.degrade.Degradation`.
        degrade_options: ``share`` (0.3), the probability of each link, and ``strength`` (3), the
            largest one, between 1 and 5.
        degrade_for: ``both`` degrades the teacher's images exactly as the student's; ``student``
            leaves the teacher's as they are. By default ``both``.

    Attributes:
        skipped: Rows of each split found unreadable so far by this process.
        accumulate: Number of consecutive parts of a training batch; training code may set it.
        unpaired: Number of training frames left out without a partner at ``teacher_quality``.
        announced: Whether the output of :meth:`setup` has been printed, or is suppressed.
        say: Prints the lines below the table of :meth:`setup`.
        seat: Place at a stream of batches that several fits share; None for a fit alone.

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
        leave_out: list[str] | None = None,
        degrade: list[str] | str | None = None,
        degrade_options: dict[str, Any] | None = None,
        degrade_for: DegradeFor | None = None,
    ) -> None:
        check_sizes(
            crop,
            size,
            max_unpaired,
            frames_per_video=frames_per_video,
            batch_size=batch_size,
            samples_per_epoch=samples_per_epoch,
            clip=clip,
            num_workers=num_workers,
            seed=seed,
        )
        check_sources(quality, teacher_quality, forge, balance, batch_size, clip)
        place = Path(root)
        annotations = Annotations(place, landmarks, forge, forge_options)
        super().__init__(
            *(place, quality, frames_per_video, size, on_error, teacher_quality, max_unpaired),
            *(annotations, clip, leave_out or ()),
        )
        self.degrade = make_degradation(degrade, degrade_options)
        if degrade_for is not None and self.degrade is None:
            raise TokdError("degrade_for belongs to --data.degrade: name its links, or all")
        self.degrade_for: DegradeFor = degrade_for or "both"
        self.name = name
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
        self.seed = seed
        self.skipped: dict[str, set[int]] = {split: set() for split in SPLITS}
        self.accumulate = 1
        self._said: set[str] = set()
        self.say: Callable[[str], None] = print
        self.seat: Seat | None = None

    @property
    def input_size(self) -> int:
        """Pixels along both sides of the network's input."""
        return self.size if self.crop is None else self.crop

    def setup(self, stage: str) -> None:
        """Index the data and, when training or a test begins, print its counts once."""
        if self.seat is not None:
            self.seat.stream.join(self)
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
            for line in (*self.notes(), *self._pairs, *self._apart, *self._left_out):
                self.say(line)
            for line in self._batch_notes() if stage == "fit" else ():
                self.say(line)
            self._say_annotations()

    def _say_annotations(self) -> None:
        """Print what is missing or forged, once; a network may require more after ``setup``."""
        for line in self.annotations.notes:
            if line not in self._said and (self.trainer is None or self.trainer.is_global_zero):
                self._said.add(line)
                self.say(line)

    def teardown(self, stage: str) -> None:
        """Print how many frames could not be read and were skipped."""
        if self.trainer is None or not self.trainer.is_global_zero:
            return
        for split, rows in self.skipped.items():
            if rows:
                self.say(f"{len(rows)} {split} frames could not be read and were left out")

    @property
    def class_weights(self) -> Tensor | None:
        """Loss weights of (real, fake) that balance both; None unless ``loss_weight`` is set."""
        if self.balance != "loss_weight":
            return None
        number = self._class_numbers()
        if not bool(number.all()):
            raise TokdError("balance loss_weight needs real and fake training frames, not one kind")
        return number.sum() / (2.0 * number)

    def _class_numbers(self) -> Tensor:
        """Return the number of (real, fake) training samples, in any unit."""
        return torch.bincount(torch.tensor(self.table("train")["label"].tolist()), minlength=2)

    def _batch_notes(self) -> list[str]:
        """Return sentences on how training batches are composed."""
        pairs = [find_partners(self.table("train")).describe()] if self._pairing else []
        chains = [] if self.degrade is None else [self.degrade.describe(self.degrade_for)]
        return [*pairs, *self._composition_notes(), *chains]

    def _composed(self) -> dict[str, Any]:
        """Return the arguments of the sampler that compose a batch of several data sets."""
        return {}

    def _composition_notes(self) -> list[str]:
        return []

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that may have been made by one ``tokd prepare`` each, relative to the root."""
        return ("",)

    @property
    def synthetic(self) -> bool:
        """Whether ``tokd demo`` made the data."""
        return is_synthetic(self.root)

    @property
    def _pairing(self) -> bool:
        """Whether batches are made of stored fakes and their source frames."""
        return self.balance == "paired" and self.annotations.forger is None

    def _dataset(self, split: str) -> FrameDataset:
        table = self.table(split)
        if not len(table):
            raise TokdError(f"{self.root} has no frames in the split {split}")
        if self.announced:
            self._say_annotations()
        train = split == "train"
        paired = train and self.teacher_quality is not None
        reading: dict[str, Any] = {"on_error": self.on_error, "substitute": train, "paired": paired}
        reading["seed"] = self.seed
        if train and self.degrade is not None:
            clean = self.degrade_for == "student"
            reading |= {"degrade": self.degrade, "clean_teacher": clean}
        if self.clip is not None:
            reading |= {"clips": self._clips[split]}
            dataset: FrameDataset = ClipDataset(table, self.root, self.size, **reading)
        elif self.annotations.used:
            reading |= self.annotations.arguments(split)
            dataset = AnnotatedDataset(table, self.root, self.size, **reading)
        else:
            dataset = FrameDataset(table, self.root, self.size, **reading)
        dataset.skipped = self.skipped[split]
        return dataset

    def _loader(self, split: str, dataset: FrameDataset, **batches: Any) -> FrameLoader:
        pin = torch.cuda.is_available()
        made = loader(dataset, self.num_workers, pin, self.seed, **batches)
        made.seat, made.split = self.seat, split
        return made

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
        dataset, table = self._dataset("train"), self.table("train")
        labels = table["label"].to_numpy()
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
            partners=find_partners(table).rows if self._pairing else None,
            numbered=self.degrade is not None,
            **self._composed(),
        )
        return self._loader("train", dataset, batch_sampler=batches)

    def _evaluation(self, split: str) -> tuple[FrameDataset, EveryNth, int]:
        """Return a split's frames, the rows that this process evaluates, and its batch size."""
        rank, world = self._process()
        dataset = self._dataset(split)
        return dataset, EveryNth(len(dataset), rank, world), max(1, self.batch_size // world)

    def val_dataloader(self) -> FrameLoader:
        """Return a dataloader that yields every validation frame once."""
        dataset, rows, size = self._evaluation("val")
        return self._loader("val", dataset, batch_sampler=EvaluationBatches(rows, size))

    def test_dataloader(self) -> FrameLoader:
        """Return a dataloader that yields every test frame once."""
        dataset, rows, size = self._evaluation("test")
        return self._loader("test", dataset, batch_sampler=EvaluationBatches(rows, size))

    def predict_dataloader(self) -> FrameLoader:
        """Return a dataloader of every test frame; Lightning rebuilds it around its sampler."""
        dataset, rows, size = self._evaluation("test")
        return self._loader("test", dataset, sampler=rows, batch_size=size)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to the device, one that fits share once."""

        def move() -> Batch:
            moved: Batch = super(FrameDataModule, self).transfer_batch_to_device(
                batch, device, dataloader_idx
            )
            return moved

        if self.seat is None:
            return move()
        return cast(Batch, copy.copy(self.seat.stream.once("moved", batch["image"], move)))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn uint8 images into the network's input, on their device.

        In training: random crop, augmentation; otherwise: centre crop. Then normalisation. Random
        numbers depend only on the seed, the batch number and the rank, so that both images of a
        pair are processed identically.
        """
        given = cast(dict[str, Tensor], batch)
        followers: dict[str, Tensor] = {
            name: given[name] for name in ("mask", "landmarks") if name in given
        }

        def finish() -> dict[str, Tensor]:
            image, moved = self._finished(given["image"], batch, followers)
            if "teacher_image" in given:
                moved["teacher_image"] = self._finished(given["teacher_image"], batch)[0]
            return {"image": image, **moved}

        if self.seat is None:
            finished = finish()
        else:
            finished = self.seat.stream.once("finished", given["image"], finish)
        return cast(Batch, {**batch, **finished})

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
