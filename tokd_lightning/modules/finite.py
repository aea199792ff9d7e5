"""Detection of a non-finite loss without device synchronisation, and report of its frames."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed, nn

from tokd_lightning.errors import AlikeError
from tokd_lightning.files import write_text

FILE = "nonfinite.csv"
_COLUMNS = ["path", "dataset", "method", "video", "frame", "label"]


class FiniteLoss:
    """Records, on the device, the frames of the first batch whose loss is not finite."""

    def __init__(self) -> None:
        self._bad: Tensor | None = None
        self._rows: Tensor | None = None
        self._good = torch.zeros((), dtype=torch.int64)

    def note(self, loss: Tensor, rows: Tensor) -> None:
        """Check the loss of a batch, without waiting for the device.

        Args:
            loss: Scalar.
            rows: Row numbers of its frames in the split's table.
        """
        bad = ~loss.detach().isfinite()
        if self._bad is None or self._rows is None:
            self._bad, self._rows, self._good = bad, rows, torch.zeros_like(bad, dtype=torch.int64)
        elif self._rows.shape == rows.shape:
            self._rows = torch.where(self._bad, self._rows, rows)
        elif not self.broken:
            self._rows = rows
        self._bad = self._bad | bad
        self._good = self._good + ~self._bad

    @property
    def broken(self) -> bool:
        """Whether a loss was not finite; waits for the device."""
        return self._bad is not None and bool(self._bad)

    @property
    def good(self) -> int:
        """Number of batches before the first bad one."""
        return int(self._good)

    @property
    def rows(self) -> list[int]:
        """Row numbers of the first bad batch, or of the last batch if none was bad."""
        return [] if self._rows is None else self._rows.tolist()


def finite_weights(module: nn.Module) -> bool:
    """Return whether all parameters are finite; waits for the device once."""
    return bool(torch.stack([p.isfinite().all() for p in module.parameters()]).all())


def stop_if_broken(trainer: pl.Trainer, module: Any, folder: Path, weights: bool = False) -> None:
    """End the run on all ranks if the loss of a batch was not finite.

    Args:
        trainer: The trainer.
        module: The DetectionModule that it trains.
        folder: Folder of ``nonfinite.csv``, the frames of that batch.
        weights: Check the weights too.

    Raises:
        AlikeError: A loss, or with ``weights`` a weight, was not finite.
    """
    broken, what = _anywhere(trainer, module.finite.broken), "loss"
    if weights and not broken:
        broken, what = _anywhere(trainer, not finite_weights(module)), "update"
    if not broken:
        return
    parts: list[Any] = [(module.finite.good, module.finite.rows)]
    if what == "loss" and not module.finite.broken:
        parts = [None]
    if trainer.world_size > 1:
        mine, parts = parts[0], [None] * trainer.world_size
        distributed.all_gather_object(parts, mine)
    # Ranks whose loss became non-finite through another rank's step come later.
    first = min(good for good, _ in filter(None, parts))
    table = module.data.table("train")
    rows = table.iloc[[row for good, part in filter(None, parts) if good == first for row in part]]
    path = folder / FILE
    if trainer.is_global_zero:
        write_text(path, rows[[name for name in _COLUMNS if name in rows]].to_csv(index=False))
    raise AlikeError(
        f"the {what} of a batch in epoch {trainer.current_epoch + 1} is not finite; its frames are "
        f"in {path}, and last.ckpt, where there is one, is from before: look at those frames, or "
        "lower the learning rate"
    )


def _anywhere(trainer: pl.Trainer, broken: bool) -> bool:
    if trainer.world_size == 1:
        return broken
    return bool(trainer.strategy.reduce_boolean_decision(broken, all=False))
