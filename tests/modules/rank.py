"""One process of a data-parallel run: ``python rank.py ROOT TEACHER OUT PROCESSES``.

Fits a student and a teacher, tests both, fits them again with BatchNorm's statistics at work, alone
and shared, and through an overflow, and writes what it ended with to ``OUT/<rank>.pt``.
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
from small import (
    DoubleFrames,
    Statistics,
    distill_module,
    half,
    quiet,
    sgd,
    snapshot,
    teacher_module,
)
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.errors import Terminated
from tokd_lightning.modules.batchnorm import SyncedBatchNorm
from tokd_lightning.training.callbacks.resume import LastCheckpoint

SAMPLES, BATCH = 20, 6  # three batches, and two frames that are left out


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


def frames(root: Path, kind: type[FFPPDataModule] = DoubleFrames) -> FFPPDataModule:
    return kind(
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
    return quiet(**{**defaults, "limit_val_batches": 1.0, **options})


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


def moving(root: Path, teacher: Path, processes: int, **options: Any) -> dict[str, Any]:
    """Return the state and the scores of networks whose BatchNorm keeps its statistics."""
    found = {}
    for name, module in learners(teacher).items():
        trainer = trainer_of(processes, **options)
        trainer.fit(module, datamodule=frames(root))
        found[name] = {"state": snapshot(module.cpu())} | validated(trainer, module)
        found[name]["norms"] = [str(type(m)) for m in module.modules() if isinstance(m, BATCHNORM)]
    return found


BATCHNORM = nn.modules.batchnorm._BatchNorm


def synced(root: Path, teacher: Path, processes: int, **options: Any) -> dict[str, Any]:
    """Return what :func:`moving` does where the processes share the statistics."""
    shared = {"sync_batchnorm": True, "plugins": [SyncedBatchNorm()]}
    return moving(root, teacher, processes, **shared, **options)


def in_place_of_kernels(norm: nn.SyncBatchNorm, x: torch.Tensor) -> torch.Tensor:
    """Do what a SyncBatchNorm does on a GPU, for equal parts; torch has no kernels for CPUs."""
    if not norm.training:
        return nn.BatchNorm2d.forward(norm, x)
    processes, axes = distributed.get_world_size(), (0, 2, 3)
    mean = all_reduce(x.mean(axes)) / processes
    centred = x - mean[:, None, None]
    variance = all_reduce(centred.square().mean(axes)) / processes
    count = x[:, 0].numel() * processes
    norm.running_mean.lerp_(mean.detach(), norm.momentum)
    norm.running_var.lerp_(variance.detach() * count / (count - 1), norm.momentum)
    norm.num_batches_tracked += 1
    scale = norm.weight / (variance + norm.eps).sqrt()
    return centred * scale[:, None, None] + norm.bias[:, None, None]


def on_the_cpu() -> None:
    """Let SyncBatchNorm do without a GPU, and DDP not refuse it."""
    nn.SyncBatchNorm.forward = in_place_of_kernels
    nn.parallel.DistributedDataParallel._passing_sync_batchnorm_handle = lambda *_: None


class Overflow(Callback):
    """Spoils the loss of one part, later a gradient, on the last process; notes what follows."""

    def __init__(self, loss: int, gradient: int) -> None:
        self.loss, self.gradient, self.part = loss, gradient, -1

    def on_train_start(self, trainer, module):
        backward, last = module.backward, trainer.global_rank == trainer.world_size - 1

        def spoiled(value, part):
            return value * torch.inf if last and self.part == part else value

        def counted(loss, *args, **options):
            self.part += 1
            backward(spoiled(loss, self.loss), *args, **options)

        module.backward = counted
        weight = next(module.network.parameters())  # far from where rotations look
        weight.register_hook(lambda gradient: spoiled(gradient, self.gradient))
        self.weights, self.scales = [parameters(module)], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (batch_idx + 1) % module.accumulate == 0:
            self.weights.append(parameters(module))
            self.scales.append(trainer.precision_plugin.scaler.get_scale())


def parameters(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def overflow(root: Path, teacher: Path, processes: int) -> dict[str, Any]:
    """Return weights and loss scales of float16 in three parts, clipped: steps 2, 4 fail."""
    found = {}
    for name, module in in_parts(teacher).items():
        float16 = {"precision": None, **half(2.0**6)}
        seen = Overflow(loss=4, gradient=10)
        trainer = trainer_of(
            processes, callbacks=[Statistics(), seen], limit_val_batches=0, max_epochs=2, **float16
        )
        trainer.fit(module, datamodule=frames(root, FFPPDataModule))
        found[name] = {"weights": seen.weights, "scales": seen.scales}
        if len(trainer.optimizers) == 2:
            found[name]["turned"] = [int(s["steps"]) for s in trainer.optimizers[1].state.values()]
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
    result["overflow"] = overflow(root, teacher, processes)
    on_the_cpu()
    result["synced"] = synced(root, teacher, processes)
    result["told"] = told(root, teacher, processes, out)
    part = out / f"{torch.distributed.get_rank()}.part"
    torch.save(result, part)
    part.rename(part.with_suffix(".pt"))
