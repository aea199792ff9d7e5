"""One process of tuned networks trained by two: ``tuned_rank.py ROOT TEACHER OUT PROCESSES``."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rank import frames, trainer_of, validated
from small import Statistics, distill_module, sgd, snapshot, teacher_module

SIZE = 48  # px, of `frames`
VIT: dict[str, Any] = {
    "backbone": "test_vit",
    "branches": "rgb",
    "projectors": False,
    "size": SIZE,
}


def modules(teacher: Path) -> dict[str, pl.LightningModule]:
    """Return a module of each kind; to be made again for each fit."""
    step = {"optimizer": partial(sgd, lr=0.01)}
    ema = {**step, "ema": 0.6}
    return {
        "teacher, ema": teacher_module(**ema),
        "student, ema": distill_module(teacher, **ema),
        "norms": teacher_module(**step, **VIT, tune="norms"),
        "norms of a student, ema": distill_module(teacher, **ema, tune="norms"),
        "lora, ema, layer decay": teacher_module(**ema, **VIT, tune="lora(2)", layer_decay=0.9),
        "norms, recomputed, in parts": teacher_module(
            **step, **VIT, tune="norms", checkpointing=True, accumulate=3
        ),
    }


class Saved(Callback):
    """Saves at the end of the fit's epochs, while adapters and averages are there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save, on the first process."""
        trainer.save_checkpoint(self.path)


def learned(root: Path, teacher: Path, out: Path, processes: int) -> dict[str, Any]:
    """Return state and scores of each module after two epochs; save its checkpoint in ``out``."""
    torch.set_num_threads(1)
    found = {}
    for name, module in modules(teacher).items():
        start = snapshot(module)
        path = out / f"{name} {processes}.ckpt"
        # BatchNorm's statistics would differ between processes, and so between one and two.
        callbacks = [Statistics(), Saved(path)]
        trainer = trainer_of(processes, callbacks=callbacks, max_epochs=2)
        trainer.fit(module, datamodule=frames(root))
        found[name] = {"start": start, "end": snapshot(module)} | validated(trainer, module)
        frozen = [] if module.tuning is None else module.tuning.frozen_entries()
        found[name]["frozen"] = [f"{module.kind}.{entry}" for entry in frozen]
    return found


def moving(root: Path, processes: int) -> dict[str, Any]:
    """Return what a teacher ends with whose BatchNorm keeps its statistics, averaged."""
    module = teacher_module(optimizer=partial(sgd, lr=0.01), ema=0.6)
    trainer = trainer_of(processes)
    trainer.fit(module, datamodule=frames(root))
    return {"end": snapshot(module, "teacher.")} | validated(trainer, module)


if __name__ == "__main__":
    root, teacher, out = (Path(argument) for argument in sys.argv[1:4])
    result = learned(root, teacher, out, int(sys.argv[4])) | {"moving": moving(root, 2)}
    torch.save(result, out / f"{os.environ['LOCAL_RANK']}.pt")
