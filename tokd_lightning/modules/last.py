"""last.ckpt: all that a run needs to go on in the middle of an epoch as if nothing had happened."""

import math
import pickle
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed

from tokd_lightning.errors import Terminated, TokdError
from tokd_lightning.modules.finite import stop_if_broken

POSITION = "position"
SHARE = 0.01  # of the time, for saving
FIRST = 10  # batches before the first save, which tells what one takes
_LOOK = 16  # validation batches between two looks for a signal, where looking is talking
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SLURM's own, and what --signal=USR1@… asks it for


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt every few batches, at the end of every epoch, and when told to end.

    It is written between two batches (:attr:`TrainingLoader.between`), when Lightning has counted
    and logged the one and not asked for the other, and only where no gradients wait for the rest
    of their batch; at the end of an epoch after best.ckpt. It never holds weights that a loss has
    made which was not finite. What Lightning does not keep is under ``position``: the epoch's
    training accuracy so far, the frames skipped, the number of rows in ``metrics.csv``.

    After SIGTERM or SIGUSR1 the batch at hand is finished and saved, then the run ends with
    :class:`Terminated`; during a validation it ends at once, and the last checkpoint counts.

    Args:
        path: Where last.ckpt goes.
        every: Batches from one save to the next; None takes as many as keep saving below 1 % of
            the time, by what the saves before have taken.
    """

    def __init__(self, path: Path, every: int | None = None) -> None:
        self.path = path
        self.every = every
        self._wait = FIRST if every is None else every
        self._batches, self._since = 0, time.monotonic()
        self._told = False

    # When

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the moments between batches, and for signals."""
        self._wait_between(trainer, pl_module)
        for number in _SIGNALS:  # Lightning puts back what was before
            trainer._signal_connector._register_signal(number, self._note)
        self._batches, self._since = 0, time.monotonic()

    def _wait_between(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        if hasattr(loader, "between"):
            loader.between = partial(self._between, trainer, module)

    def _note(self, *_: Any) -> None:
        self._told = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Time batches alone, not the validation before them; the loader may be a new one."""
        self._wait_between(trainer, pl_module)
        self._batches, self._since = 0, time.monotonic()

    def _between(self, trainer: Any, module: Any) -> None:
        self._batches += 1
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done % module.accumulate or done % (trainer.val_check_batch or math.inf) == 0:
            return
        told = self._any_told(trainer)
        if told or self._batches >= self._wait:
            self._save(trainer, module)
        elif done % (trainer.log_every_n_steps or math.inf) == 0:  # a row was fetched anyway
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
        """See that what is to be validated, and perhaps to become best.ckpt, is sound."""
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
        """End at once where told to; there is nothing new to save."""
        look = trainer.world_size == 1 or batch_idx % _LOOK == 0
        if look and self._any_told(trainer):
            raise Terminated(self._farewell())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch."""
        self._save(trainer, pl_module, timed=False)
        lasting = trainer.current_epoch + 1 < (trainer.max_epochs or 0)
        if lasting and self._any_told(trainer):
            raise Terminated(self._farewell())

    # What

    def _save(self, trainer: pl.Trainer, module: Any, timed: bool = True) -> None:
        stop_if_broken(trainer, module, self.path.parent.parent, weights=True)
        started = time.monotonic()
        for logger in trainer.loggers:
            if hasattr(logger, "flush"):
                logger.flush()  # rows that the checkpoint counts
        trainer.save_checkpoint(self.path, weights_only=False)
        ended = time.monotonic()
        if timed and self.every is None:
            per_batch = (started - self._since) / max(self._batches, 1)
            wait = math.ceil((ended - started) / SHARE / max(per_batch, 1e-6))
            self._wait = int(trainer.strategy.broadcast(max(1, wait)))
        self._batches, self._since = 0, ended

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not keep, of all processes together."""
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
        """Go on counting; the first process has what all have counted."""
        module: Any = pl_module
        if (position := checkpoint.get(POSITION)) is None:
            return
        metric = module.train_accuracy
        if trainer.is_global_zero:
            for name, saved in zip(_sums(module), position["accuracy"], strict=True):
                setattr(metric, name, saved.to(metric.device))
        for name, rows in position["skipped"].items():
            module.data.skipped[name] |= set(rows)


def _sums(module: Any) -> dict[str, torch.Tensor]:
    """Return what the training accuracy of an epoch is made of."""
    return dict(module.train_accuracy.metric_state)


def rows_of(checkpoint: Path) -> int:
    """Read how many rows ``metrics.csv`` had for a checkpoint; all if it does not say.

    Raises:
        TokdError: The file is no checkpoint.
    """
    try:
        saved = torch.load(checkpoint, mmap=True, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise TokdError(f"{checkpoint} cannot be read as a checkpoint") from error
    return int(saved.get(POSITION, {}).get("rows", sys.maxsize))
