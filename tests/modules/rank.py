"""One process of a data-parallel run: ``python rank.py ROOT TEACHER OUT PROCESSES``.

Fits a student and a teacher, tests both, fits them again with BatchNorm's statistics at work, and
writes what it ended with to ``OUT/<rank>.pt``.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from small import DoubleFrames, Statistics, distill_module, quiet, sgd, snapshot, teacher_module

from tokd_lightning.errors import Terminated
from tokd_lightning.modules.last import LastCheckpoint

SAMPLES, BATCH = 18, 6


def rehearse(root: Path, teacher: Path, processes: int) -> dict[str, Any]:
    """Return the state, the metrics and the scores of a student and of a teacher."""
    every = learners(teacher) | in_parts(teacher)
    return {name: _run(module, root, processes) for name, module in every.items()}


def learners(teacher: Path) -> dict[str, pl.LightningModule]:
    torch.set_num_threads(1)
    return {
        "student": distill_module(
            teacher,
            {"teacher_projectors": "frozen", "alpha_frequency": 3.0},
            optimizer=partial(sgd, lr=0.01),
        ),
        "teacher": teacher_module(optimizer=partial(sgd, lr=0.01)),
    }


def in_parts(teacher: Path) -> dict[str, pl.LightningModule]:
    options = {"optimizer": partial(sgd, lr=0.01), "accumulate": 3, "clip": 0.1}
    return {
        "student in parts": distill_module(teacher, {"alpha_frequency": 3.0}, **options),
        "teacher in parts": teacher_module(**options),
    }


def frames(root: Path) -> DoubleFrames:
    return DoubleFrames(
        root,
        quality="c23",
        size=48,
        batch_size=BATCH,
        samples_per_epoch=SAMPLES,
        num_workers=0,
        augmentation=[],
    )


def trainer_of(processes: int, **options: Any) -> pl.Trainer:
    strategy = "ddp" if processes > 1 else "auto"
    defaults = {"devices": processes, "strategy": strategy, "precision": "64-true"}
    return quiet(**defaults, limit_val_batches=1.0, **options)


def validated(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if "val/" in k}
    return {"metrics": metrics, "val": module.scores["p_fake"].to_dict()}


def _run(module: pl.LightningModule, root: Path, processes: int) -> dict[str, Any]:
    trainer, data = trainer_of(processes, max_epochs=2, callbacks=[Statistics()]), frames(root)
    trainer.fit(module, datamodule=data)
    found = {"steps": trainer.global_step, "state": snapshot(module)}
    found |= validated(trainer, module)
    (metrics,) = trainer.test(module, datamodule=data, verbose=False)
    return found | {"test_metrics": metrics, "test": module.scores["p_fake"].to_dict()}


def moving(root: Path, teacher: Path, processes: int) -> dict[str, Any]:
    """Return the state and the scores of networks whose BatchNorm keeps its statistics."""
    found = {}
    for name, module in learners(teacher).items():
        trainer = trainer_of(processes)
        trainer.fit(module, datamodule=frames(root))
        found[name] = {"state": snapshot(module, f"{name}.")} | validated(trainer, module)
    return found


class Told(Callback):
    """Tells one of the processes alone to end."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        last = trainer.global_rank == trainer.world_size - 1
        if last and (trainer.current_epoch, batch_idx) == (1, 0):
            os.kill(os.getpid(), signal.SIGTERM)


def told(root: Path, teacher: Path, processes: int, out: Path) -> dict[str, Any]:
    """Return the state of a run that was told to end, and went on, and of an undisturbed one."""
    found = {}
    path = out / f"{processes}.ckpt"
    for name in ("whole", "told", "resumed"):
        # In float64 before it is loaded, which would round it otherwise.
        module, frame = learners(teacher)["teacher"].double(), frames(root)
        callbacks = [Statistics(), LastCheckpoint(path, 100)] + [Told()] * (name == "told")
        how = {"max_epochs": 2, "enable_checkpointing": True}
        trainer = trainer_of(processes, callbacks=callbacks, **how)
        resumed = {"ckpt_path": path, "weights_only": True} if name == "resumed" else {}
        try:
            trainer.fit(module, datamodule=frame, **resumed)
        except Terminated:
            found["step"] = trainer.global_step
        else:
            state = snapshot(module) | {"acc": trainer.callback_metrics["train/acc"]}
            found[name] = state
    return found


if __name__ == "__main__":
    root, teacher, out = (Path(argument) for argument in sys.argv[1:4])
    processes = int(sys.argv[4])
    result = rehearse(root, teacher, processes) | {"moving": moving(root, teacher, processes)}
    result["told"] = told(root, teacher, processes, out)
    part = out / f"{torch.distributed.get_rank()}.part"
    torch.save(result, part)
    part.rename(part.with_suffix(".pt"))
