"""End of a run whose loss or weights are not finite, with a report of the frames."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import distributed, nn

from tokd_lightning.errors import AlikeError
from tokd_lightning.files import write_text

FILE = "nonfinite.csv"
_COLUMNS = ["path", "dataset", "method", "video", "frame", "label"]


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
