"""``tokd probe``: time a few batches of a fit to estimate the duration of the whole fit."""

import resource
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor

from tokd_lightning.errors import renamed
from tokd_lightning.files import write_json
from tokd_lightning.loggers.run import is_rank_zero
from tokd_lightning.models import TeacherOutput
from tokd_lightning.modules.distill import DistillModule
from tokd_lightning.modules.shared_teacher import SharedTeacher
from tokd_lightning.training.cli import TokdCLI
from tokd_lightning.training.console import mistakes_in_one_line, quieten

PLACE = ".probes"  # below the folder of all runs
_WARM_UP, _TIMED, _VALIDATED = 2, 4, 2  # batches


class _Stopwatch(Callback):
    """Records when batches end, after synchronising the device."""

    def __init__(self) -> None:
        self.ends: dict[str, list[float]] = {"train": [], "val": []}

    def _note(self, stage: str) -> None:
        self.ends[stage].append(_now())

    def on_train_batch_end(self, *_: Any) -> None:
        """Record the end of a training step, including the loading of its batch."""
        self._note("train")

    def on_validation_batch_end(self, *_: Any) -> None:
        """Record the end of a validation batch."""
        self._note("val")

    def seconds(self, stage: str, warm_up: int) -> float:
        """Return seconds per batch after the warm-up batches."""
        ends = self.ends[stage]
        warm_up = min(warm_up, len(ends) - 1) - 1
        return (ends[-1] - ends[warm_up]) / (len(ends) - 1 - warm_up)


class _TimedTeacher(SharedTeacher):
    """Teacher that records the seconds of each forward pass, after synchronising the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def __call__(
        self,
        batch: Tensor,
        images: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> TeacherOutput:
        """Return logits and maps."""
        started = _now()
        output = super().__call__(batch, images, extras)
        self.seconds.append(_now() - started)
        return output


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


class _Probe(TokdCLI):
    """A fit of a few batches with a stopwatch, in its own folder: no run is touched."""

    def _folder(self, parser: LightningArgumentParser, config: Any) -> Path:
        folder = super()._folder(parser, config)
        return folder if folder.parent.name == PLACE else folder.parent / PLACE / folder.name

    def _handle_earlier_run(self, config: Any) -> None:
        if is_rank_zero() and self.run.folder.exists():  # an earlier probe, which is not kept
            self.run.hold()
            self.run.let_go()
            shutil.rmtree(self.run.folder)
        super()._handle_earlier_run(config)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer, with a teacher that is timed."""
        super().instantiate_classes()
        self.teacher = _TimedTeacher()
        if isinstance(self.model, DistillModule):
            self.model.shared_teacher = self.teacher

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer of the short run."""
        self.epochs = self.config_init["fit"].trainer.max_epochs or 1
        self.watch = _Stopwatch()
        return super().instantiate_trainer(
            max_epochs=1,
            limit_train_batches=_WARM_UP + _TIMED,
            limit_val_batches=_VALIDATED,
            callbacks=[self.watch],
            **kwargs,
        )


def probe(args: list[str], out: Path) -> int:
    """Time a few batches of a fit and write estimates for the whole fit and its test.

    Args:
        args: Arguments of ``tokd fit``.
        out: JSON to write.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: Any error that would end the fit.
    """
    quieten()
    with renamed({"tokd fit --config": "tokd probe --config"}), mistakes_in_one_line():
        started = time.monotonic()
        cli = _Probe(["fit", *args, "--rerun", "--log", "none"])
        whole = time.monotonic() - started
    write_json(out, _measured(cli, whole))
    return 0


def _measured(cli: _Probe, whole: float) -> dict[str, Any]:
    watch, data = cli.watch, cli.datamodule
    batches = {
        "train": len(data.train_dataloader()),
        "val": len(data.val_dataloader()),
        "test": len(data.test_dataloader()),
    }
    step, scoring = watch.seconds("train", _WARM_UP), watch.seconds("val", 1)
    first = watch.ends["train"][0]
    last = watch.ends["val"][-1]
    start = whole - (last - first)  # imports, networks, first batch and shutdown
    per_epoch = batches["train"] * step + batches["val"] * scoring
    cuda = torch.cuda.is_available()
    memory = (
        torch.cuda.max_memory_reserved()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    passes = cli.teacher.seconds[_WARM_UP:]
    teacher = sum(passes) / len(passes) * cli.epochs * batches["train"] if passes else 0.0
    return {
        "teacher": round(teacher, 1),
        "kept": round(_kept(cli.trainer) / 2**30, 3),
        "seconds": round(2 * start + cli.epochs * per_epoch + batches["test"] * scoring, 1),
        "seconds_per_step": step,
        "seconds_per_evaluated_batch": scoring,
        "epochs": cli.epochs,
        "batches": batches,
        "memory": round(memory / 2**30, 2),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "precision": str(cli.trainer.precision),
    }


def _kept(trainer: pl.Trainer) -> int:
    """Return the bytes that a fit keeps while others take their turns: weights and moments."""
    of_model = sum(p.nbytes for p in trainer.model.parameters()) if trainer.model else 0
    states = [state for made in trainer.optimizers for state in made.state.values()]
    moments = [v.nbytes for state in states for v in state.values() if isinstance(v, Tensor)]
    return of_model + sum(moments)
