"""Checks of Lightning trainer options that would train or select differently from their name."""

import math
import re
from collections.abc import Iterable

from lightning.pytorch import callbacks as lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import Config

_AVERAGED = "best.ckpt is selected among the weights of epochs, not of their average: leave it out"
_CALLBACKS: dict[str, str] = {
    "StochasticWeightAveraging": _AVERAGED,
    "WeightAveraging": _AVERAGED,
    "LearningRateFinder": "it cannot try rates with the optimizers here: set --model.optimizer.lr",
    "BatchSizeFinder": "a batch size is part of the experiment: set --data.batch_size, and "
    "--model.accumulate where it does not fit the memory",
    "GradientAccumulationScheduler": "it counts batches of one optimizer: use --model.accumulate",
    "BaseFinetuning": "it changes the optimizer during the run: use --model.warm_up_epochs of "
    "DistillModule, which trains only the classifier first",
    "ModelPruning": "its masks are no part of the networks that are tested and exported: leave it "
    "out",
    "SpikeDetection": "it needs a loss from every training step; a loss that is not finite ends "
    "the run without it",
}
_DEVICES = re.compile(r"auto|-1|\d+(\s*,\s*\d+)*,?")
_RISING = ("acc", "acc_real", "acc_fake", "balanced_acc", "auc", "ap")


def check_trainer_options(trainer: Config) -> None:
    """Check for trainer options that two optimizers and custom samplers do not follow.

    Args:
        trainer: The trainer section of a resolved configuration.

    Raises:
        TokdError: Such an option is set.
    """
    refused = {
        "gradient_clip_algorithm": "use --model.clip, which is the largest norm",
        "overfit_batches": "every epoch draws its own batches: use --data.samples_per_epoch, and "
        "--trainer.limit_val_batches if need be",
        "use_distributed_sampler": "the loaders divide the frames among processes themselves: "
        "leave it out",
    }
    for key, instead in refused.items():
        if trainer.get(key) not in (None, False, 0):
            raise TokdError(f"--trainer.{key} is not supported: {instead}")
    devices = trainer.get("devices")
    if isinstance(devices, str) and not _DEVICES.fullmatch(devices):
        raise TokdError(f"--trainer.devices {devices!r}: give a number, indices as 0,1, or auto")
    for key in ("check_val_every_n_epoch", "val_check_interval"):
        value = trainer.get(key)
        if isinstance(value, int | float) and value <= 0:
            raise TokdError(f"--trainer.{key} must be above 0, not {value}")
    if trainer.get("enable_checkpointing") is False and not trainer.get("fast_dev_run"):
        raise TokdError(
            "--trainer.enable_checkpointing false leaves no best.ckpt, which is the result of a "
            "fit: leave it out, or try a few batches with --trainer.fast_dev_run true"
        )


def check_callbacks(given: Iterable[Callback]) -> None:
    """Check for callbacks that break a run, and for early stopping in the wrong direction.

    Raises:
        TokdError: There is such a callback.
    """
    for callback in given:
        name = type(callback).__name__
        for kind, reason in _CALLBACKS.items():
            base = getattr(lightning, kind, None)  # not every Lightning version has all of them
            if base is not None and isinstance(callback, base):
                raise TokdError(f"--trainer.callbacks: {name} is not supported: {reason}")
        if isinstance(callback, lightning.EarlyStopping):
            _check_stopping(callback)


def _check_stopping(callback: lightning.EarlyStopping) -> None:
    split, _, rest = callback.monitor.partition("/")
    metric = rest.rpartition("/")[2]
    named = {f"{level}/{name}" for level in ("frame", "video") for name in (*_RISING, "eer")}
    if split != "train" and (split != "val" or rest not in {*named, "loss"}):
        raise TokdError(
            f"--trainer.callbacks: EarlyStopping monitors {callback.monitor}, which is not logged: "
            "choose val/loss, val/frame/acc, val/frame/auc or another metric of metrics.csv"
        )
    better = "max" if metric in _RISING else "min"
    if callback.mode != better:
        raise TokdError(
            f"--trainer.callbacks: EarlyStopping with mode {callback.mode} stops while "
            f"{callback.monitor} improves: set its mode to {better}"
        )


def check_classes(data: FrameDataModule, limit: float | None, world: int) -> None:
    """Check that training and checkpoint selection see frames of both classes.

    Args:
        data: The data to train on.
        limit: ``--trainer.limit_val_batches``: a number of batches, or a fraction.
        world: World size.

    Raises:
        TokdError: All training frames, or all validation frames used, are of one class.
    """
    for split in ("train", "val"):
        labels = data.table(split)["label"]
        if labels.empty:
            held_out = split == "val" and getattr(data, "val_fraction", 0) is None
            advice = ": take some from training with --data.val_fraction 0.1" if held_out else ""
            raise TokdError(f"{data.root} has no frames in the split {split}{advice}")
        if labels.nunique() == 1:
            there, absent = ("fake", "real") if labels.iloc[0] else ("real", "fake")
            purpose = "learn from" if split == "train" else "select a checkpoint by"
            raise TokdError(
                f"all {len(labels)} frames of the split {split} are {there}, which is nothing to "
                f"{purpose}: add {absent} ones"
            )
    if limit is None:
        return
    size = max(1, data.batch_size // world)
    share = isinstance(limit, float) and limit <= 1
    batches = math.ceil(len(labels) / world / size) * limit if share else limit
    seen = labels.head(int(batches) * size * world)
    if seen.nunique() < 2:
        kind = "fake" if len(seen) and seen.iloc[0] else "real"
        raise TokdError(
            f"--trainer.limit_val_batches {limit} leaves {len(seen)} of {len(labels)} validation "
            f"frames, all {kind}: give more batches, or fewer frames with --data.frames_per_video"
        )
    if len(seen) < len(labels):
        rank_zero_warn(
            f"validation sees {len(seen)} of {len(labels)} frames (--trainer.limit_val_batches "
            f"{limit}): best.ckpt is selected by these only"
        )
