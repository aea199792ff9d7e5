"""Checkpoint callback for mid-epoch resume: last.ckpt holds the complete state of a run."""

import math
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import distributed

from tokd_lightning.errors import Terminated, TokdError, reason
from tokd_lightning.files import replacing
from tokd_lightning.lightning_internals import on_signal
from tokd_lightning.training.callbacks.finite import stop_if_broken

POSITION = "position"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
DAMAGED = "last.damaged.ckpt"
SHARE = 0.01  # maximum fraction of the time spent on saving
FIRST = 10  # batches before the first save, which measures its duration
_LOOK = 16  # validation batches between signal checks that need communication
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SLURM's default, and that of --signal=USR1@…


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt every few batches, at the end of every epoch, and after a signal.

    It is written between two batches (:attr:`TrainingLoader.between`), when Lightning has counted
    and logged the first and not requested the second, and only when no gradients are waiting for
    the rest of their batch; at the end of an epoch it is written after best.ckpt. It never holds
    weights updated by a non-finite loss. State that Lightning does not keep is under ``position``:
    the epoch's training accuracy so far, the skipped frames, the number of rows in ``metrics.csv``.
    The checkpoint before it stays as ``previous.ckpt`` until training ends, in case a disk loses
    data.

    After SIGTERM or SIGUSR1 the current batch is finished and saved, then the run ends with
    :class:`Terminated`; during a validation it ends at once and resumes from the last checkpoint.

    Args:
        path: Path of last.ckpt.
        every: Batches between two saves; None chooses a number that keeps saving below 1 % of the
            time, from the duration of the previous save.
    """

    def __init__(self, path: Path, every: int | None = None) -> None:
        self.path = path
        self.every = every
        self._wait = FIRST if every is None else every
        self._told = False
        self._spent = 0.0
        self.use_clock(time.monotonic)
        self.whole = True  # whether the seconds cover the whole run

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Count seconds by this clock from now on."""
        self._clock = clock
        self._batches, self._since, self._began = 0, clock(), clock()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all resumes; without work lost by a kill."""
        return self._spent + self._clock() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting seconds."""
        self._spent, self._began = float(state_dict["seconds"]), self._clock()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the previous checkpoint: training is complete."""
        previous = self.path.with_name(PREVIOUS)
        if trainer.is_global_zero and previous.is_file():
            if self.path.is_file():
                previous.unlink()
            else:  # last.ckpt was damaged, and nothing was left to train
                previous.replace(self.path)

    # When to save

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register for the moments between batches, and for signals."""
        self._wait_between(trainer, pl_module)
        for number in _SIGNALS:  # Lightning restores the earlier handlers
            on_signal(trainer, number, self.tell)
        self._batches, self._since = 0, self._clock()

    def _wait_between(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        if hasattr(loader, "between"):
            loader.between = partial(self._between, trainer, module)

    def tell(self, *_: Any) -> None:
        """Ask the run to save after its batch and end, as a signal does."""
        self._told = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the timing, which excludes the validation before; the loader may be a new one."""
        self._wait_between(trainer, pl_module)
        self._batches, self._since = 0, self._clock()

    def _between(self, trainer: Any, module: Any) -> None:
        self._batches += 1
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done % module.accumulate or done % (trainer.val_check_batch or math.inf) == 0:
            return
        told = self._any_told(trainer)
        if told or self._batches >= self._wait:
            self._save(trainer, module)
        elif done % (trainer.log_every_n_steps or math.inf) == 0:  # logging has synchronised anyway
            stop_if_broken(trainer, module, self.path.parent.parent)
        if told:
            raise Terminated(self._farewell())

    def _any_told(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self._told
        return bool(trainer.strategy.reduce_boolean_decision(self._told, all=False))

    def _farewell(self) -> str:
        return f"told to end: the same command resumes {self.path.parent.parent}"

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the weights before they are validated and can become best.ckpt."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            stop_if_broken(trainer, pl_module, self.path.parent.parent, weights=True)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End at once after a signal; there is nothing new to save."""
        look = trainer.world_size == 1 or batch_idx % _LOOK == 0
        if look and self._any_told(trainer):
            raise Terminated(self._farewell())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the epoch."""
        self._save(trainer, pl_module, timed=False)
        lasting = trainer.current_epoch + 1 < (trainer.max_epochs or 0)
        if lasting and self._any_told(trainer):
            raise Terminated(self._farewell())

    # What to save

    def _save(self, trainer: pl.Trainer, module: Any, timed: bool = True) -> None:
        stop_if_broken(trainer, module, self.path.parent.parent, weights=True)
        started = self._clock()
        for logger in trainer.loggers:
            if hasattr(logger, "flush"):
                logger.flush()  # the checkpoint counts these rows
        trainer.save_checkpoint(self.path, weights_only=False)
        ended = self._clock()
        if timed and self.every is None:
            per_batch = (started - self._since) / max(self._batches, 1)
            wait = math.ceil((ended - started) / SHARE / max(per_batch, 1e-6))
            self._wait = int(trainer.strategy.broadcast(max(1, wait)))
        self._batches, self._since = 0, ended

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state that Lightning does not keep, combined over all ranks."""
        module: Any = pl_module
        sums = torch.stack([v.detach().clone() for v in _sums(module).values()])
        skipped = getattr(module.data, "skipped", {})
        if trainer.world_size > 1:
            distributed.all_reduce(sums)
            parts: list[Any] = [None] * trainer.world_size
            distributed.all_gather_object(parts, skipped)
            skipped = {name: set().union(*(part[name] for part in parts)) for name in skipped}
        rows = [logger.rows for logger in trainer.loggers if hasattr(logger, "rows")]
        checkpoint[POSITION] = {
            "accuracy": sums.cpu(),
            "skipped": {name: sorted(rows) for name, rows in skipped.items()},
            "rows": rows[0] if rows else 0,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore that state; rank zero gets the accuracy counts of all ranks."""
        module: Any = pl_module
        self.whole = self.state_key in checkpoint.get("callbacks", {})
        if (position := checkpoint.get(POSITION)) is None:
            return
        metric = module.train_accuracy
        if trainer.is_global_zero:
            for name, saved in zip(_sums(module), position["accuracy"], strict=True):
                setattr(metric, name, saved.to(metric.device))
        for name, rows in position["skipped"].items():
            module.data.skipped[name] |= set(rows)


def _sums(module: Any) -> dict[str, torch.Tensor]:
    """Return the sums behind an epoch's training accuracy."""
    return dict(module.train_accuracy.metric_state)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: the earlier one stays until the new one is complete.

    Lightning writes to the temporary folder and moves the file from there; if that is on another
    disk, the move is a copy and can be truncated.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a file next to the target, then rename it.

        Raises:
            TokdError: The disk is full or cannot be written.
        """
        path = Path(path)
        try:
            with replacing(path, path.with_name(f".{path.name}.part")) as part:
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                keep_previous(path)
        except RuntimeError as error:
            raise TokdError(f"{path} cannot be written: {_reason(error)}") from error


def keep_previous(last: Path) -> None:
    """Link last.ckpt as previous.ckpt, which remains when the next last.ckpt replaces it.

    Other checkpoints are unaffected.
    """
    if last.name != LAST or not last.is_file():
        return
    previous = last.with_name(PREVIOUS)
    part = previous.with_name(f".{PREVIOUS}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(last, part)
    except OSError:  # e.g. no hard links: for a moment only the previous one exists
        with suppress(OSError):
            last.replace(previous)
        return
    part.replace(previous)


def checkpoint_to_resume(last: Path) -> tuple[Path | None, str]:
    """Return the checkpoint to resume from: last.ckpt, or the one before if that is damaged.

    Args:
        last: Path of last.ckpt.

    Returns:
        The checkpoint, or None if there is none, and the damage of last.ckpt.

    Raises:
        TokdError: A checkpoint exists, but none is readable.
    """
    previous = last.with_name(PREVIOUS)
    wrong = damage(last) if last.is_file() else ""
    if last.is_file() and not wrong:
        return last, ""
    if previous.is_file() and not damage(previous):
        return previous, wrong
    if not last.is_file() and not previous.is_file():
        return None, ""
    raise TokdError(
        f"{last} is {f'damaged ({wrong})' if wrong else 'missing'}, and there is no intact "
        f"{PREVIOUS} before it: --rerun sets the run aside and starts again"
    )


def damage(path: Path) -> str:
    """Return the damage of a checkpoint file; empty if it is intact."""
    try:
        if not path.stat().st_size:
            return "empty"
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        return str(getattr(error, "strerror", None) or "cut short, or no checkpoint")
    return "" if broken is None else f"its part {broken} has changed"


def rows_of(checkpoint: Path) -> int:
    """Return the number of ``metrics.csv`` rows at a checkpoint; ``sys.maxsize`` if unrecorded.

    Raises:
        TokdError: The checkpoint cannot be read.
    """
    try:
        saved = torch.load(checkpoint, mmap=True, map_location="cpu", weights_only=True)
        return int(saved.get(POSITION, {}).get("rows", sys.maxsize))
    except Exception as error:  # torch raises many kinds
        raise TokdError(f"{checkpoint} cannot be read as a checkpoint") from error


def _reason(error: BaseException) -> str:
    """Return the system's error message, which torch hides behind its own."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, OSError):
        link = link.__context__
    return str(error).splitlines()[0] if link is None else reason(link)
