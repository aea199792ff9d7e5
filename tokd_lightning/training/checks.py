"""Checks that run before any work begins."""

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.modules import DetectionModule
from tokd_lightning.modules.checkpoint import read_checkpoint
from tokd_lightning.modules.distill import NO_TEACHER
from tokd_lightning.modules.partial import HEADER, weights_hash
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config, differences
from tokd_lightning.runs.provenance import (
    UNKNOWN_ROWS,
    changed_data,
    rows_are_known,
    source_hash,
    with_source,
)
from tokd_lightning.training.console import some

_SELECTING = ("acc", "balanced_acc", "acc_real", "acc_fake", "auc", "ap")  # higher is better
_PRECISIONS = (None, "32-true", "32", "16-mixed", "bf16-mixed")
# Strategies whose processes do not start from the command line, or that shard the parameters,
# which two optimizers do not support.
_STRATEGIES = re.compile("spawn|fork|notebook|fsdp|deepspeed|model_?parallel|xla", re.IGNORECASE)


def check_arguments(config: Config) -> None:
    """Check a fit's arguments, with this program's messages rather than Lightning's.

    Raises:
        TokdError: A seed, precision, strategy, number of epochs, monitor, number of pictures,
            checkpoint interval or checkpoint is invalid, or Lightning's gradient clipping or
            accumulation is used.
    """
    trainer, seed = config["trainer"], config["seed_everything"]
    if isinstance(seed, bool) or seed < 0:
        raise TokdError(f"--seed_everything must be a number from 0 on, not {seed}")
    if str(trainer.get("precision")) not in map(str, _PRECISIONS):
        raise TokdError(
            f"--trainer.precision {trainer.get('precision')} rounds the weights or does not fit "
            "the images: use 32-true, 16-mixed or bf16-mixed"
        )
    if _STRATEGIES.search(str(trainer.get("strategy"))):
        raise TokdError(
            f"--trainer.strategy {trainer['strategy']} is not supported: use auto or ddp, whose "
            "processes are commands of their own with the whole network each"
        )
    if 0 in (trainer.get("max_epochs"), trainer.get("limit_val_batches")):
        raise TokdError(
            "best.ckpt is selected by validation: --trainer.max_epochs and "
            "--trainer.limit_val_batches must not be 0"
        )
    monitors = [f"val/{level}/{name}" for level in ("frame", "video") for name in _SELECTING]
    if config.get("monitor") not in monitors:
        raise TokdError(f"--monitor {config.get('monitor')}: choose from {', '.join(monitors)}")
    for key, ours in (("accumulate_grad_batches", "accumulate"), ("gradient_clip_val", "clip")):
        if trainer.get(key) not in (None, 1 if ours == "accumulate" else None):
            raise TokdError(
                f"--trainer.{key} is not supported, because it handles a single optimizer: "
                f"use --model.{ours}"
            )
    every = config.get("checkpoint_every")
    if every is not None and every < 1:
        raise TokdError(f"--checkpoint_every must be a number of batches from 1 on, not {every}")
    if (config.get("pictures") or 0) < 0:  # `or 0`: the value can be null
        raise TokdError(f"--pictures must be a number from 0 on, not {config['pictures']}")
    path = config.get("ckpt_path")
    if path and not Path(path).is_file():
        raise TokdError(f"--ckpt_path {path}: no such file")


def method_of(model: Config) -> Any:
    """Return the class of a student's method from its ``model`` arguments; None without one."""
    module, _, name = str((model.get("distiller") or {}).get("class_path")).rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def check_teacher(model: Config) -> None:
    """Check that the teacher exists if the method needs one.

    Raises:
        TokdError: No teacher is named, or its checkpoint is missing or holds something else.
    """
    if getattr(method_of(model), "needs_teacher", False) is not True:
        return
    if not model.get("teacher"):
        raise TokdError(NO_TEACHER)
    if not Path(model["teacher"]).is_file():
        read_checkpoint(model["teacher"], "teacher")  # raises, with instructions for making one


def check_earlier(run: Run, config: Config, reuse: bool) -> None:
    """Check that a run folder does not hold a different or finished run.

    Raises:
        TokdError: The run has a different configuration, or is finished and ``reuse`` is False.
    """
    earlier = run.config("fit")
    if earlier and (changed := differences(config, earlier)):
        raise TokdError(
            f"{run.folder} holds a run of another configuration ({some(changed)}): "
            "--rerun sets it aside and starts again"
        )
    if run.results() is not None and not reuse:
        raise TokdError(
            f"{run.folder} is finished: test it with tokd test, or use --rerun to set it aside and "
            "start again"
        )


def check_inputs(run: Run, model: Any, data: FrameDataModule) -> dict[str, Any]:
    """Check that a run is resumed or reused with the same data and teacher.

    Warn of a teacher trained on different data or another fold, and of one whose run is unfinished,
    so that its best.ckpt may still change.

    Args:
        run: The run.
        model: Its ``teacher_path`` names the teacher, if there is one.
        data: The data to train on.

    Returns:
        Hashes of the data and the teacher.

    Raises:
        TokdError: The run folder was made from different data or another teacher.
    """
    inputs = data.data_hashes()
    path = getattr(model, "teacher_path", None)
    teacher = _teacher(path, _stamp(path)) if path and Path(path).is_file() else None
    if path:
        inputs["teacher"] = "" if teacher is None else teacher[0]
        if asked := (Run(Path(path).absolute().parent.parent).inputs() or {}).get("recipe"):
            inputs["teacher_recipe"] = asked
    earlier = run.inputs() or {}
    changed = changed_data(earlier, inputs) if earlier else ""
    if not changed and run.results() is None and run.last.is_file() and rows_are_known(earlier):
        reordered = earlier["rows"].get("order") != inputs["rows"]["order"]
        changed = "another order of the rows" if reordered else ""
    what = f"different data ({changed})" if changed else ""
    if not what and earlier and earlier.get("teacher") != inputs.get("teacher"):
        what = "the maps of another teacher"
    if what:
        raise TokdError(
            f"{run.folder} was trained on {what}: --rerun sets it aside and starts again"
        )
    if earlier and not rows_are_known(earlier):
        rank_zero_info(f"{run.folder}: {UNKNOWN_ROWS}")
    if path and teacher is not None:
        tell_of_teacher(teacher[1], data)
        _warn_of_unfinished(Path(path).absolute())
    return inputs


def _stamp(path: str) -> tuple[int, ...]:
    """Return what changes where a file is written again."""
    file = Path(path).stat()
    return file.st_ino, file.st_size, file.st_mtime_ns


@lru_cache(maxsize=1)
def _teacher(path: str, stamp: tuple[int, ...]) -> tuple[str, Config]:
    """Return a teacher's hash and header; the fits of a cohort read the same file."""
    checkpoint = read_checkpoint(path, "teacher")
    return weights_hash(checkpoint["state_dict"]), checkpoint[HEADER]


def tell_of_teacher(header: Config, data: FrameDataModule) -> None:
    """Warn of a teacher that was trained on another data set, quality or fold."""
    theirs, ours = str(header.get("data")), f"{data.name}-{data.teacher_quality or data.quality}"
    if had := [name for name in data.leave_out if name not in (header.get("leave_out") or ())]:
        rank_zero_warn(
            f"the teacher's training may have had {', '.join(had)}, which its student's "
            "leaves out: train the teacher with the same --data.leave_out, or what it passes on is "
            "not unseen"
        )
    if theirs != ours:
        rank_zero_warn(f"the teacher was trained on {theirs}, and is shown {ours} here")
    if (fold := header.get("fold")) is None:
        rank_zero_info("the teacher's checkpoint does not say its splits: they are not compared")
    elif fold != data.fold_hash() and theirs.rpartition("-")[0] == data.name:
        rank_zero_warn(
            "the teacher was trained on other splits or videos: it may have seen this student's "
            "validation and test videos"
        )


def _warn_of_unfinished(teacher: Path) -> None:
    run = Run(teacher.parent.parent)
    if teacher == run.best and run.config() and not run.results():
        rank_zero_warn(
            f"the teacher's run {run.folder.name} is not finished, so that its best.ckpt may "
            f"still change: tokd fit --config {run.folder / 'fit.yaml'} resumes it"
        )


def check_fit_of(header: dict[str, Any], model: DetectionModule, data: FrameDataModule) -> None:
    """Check that a checkpoint's network and input match the configuration.

    Raises:
        TokdError: It holds another network, or was trained with another normalisation or image
            size.
    """
    theirs: Config = header["network"]
    ours = cast(Config, model.network.spec)
    if theirs != ours:
        keys = [key for key in ours if theirs.get(key) != ours[key]]
        raise TokdError(
            f"the checkpoint holds another network than the configuration "
            f"({', '.join(f'{key} {theirs.get(key)} instead of {ours[key]}' for key in keys)})"
        )
    for key in ("mean", "std", "input_size"):
        if header[key] != getattr(data, key):
            raise TokdError(
                f"the checkpoint was trained on images with {key} {header[key]}, the data module "
                f"gives {key} {getattr(data, key)}: use the run's own fit.yaml as --config"
            )


def sources_of(run: Run, resumed: bool) -> list[str | None]:
    """Return the hashes of the code of all parts of a fit, and warn where the code has changed.

    Args:
        run: The run.
        resumed: Whether earlier parts of the fit exist.
    """
    now = source_hash()
    if not resumed:
        return [now]
    earlier = (run.inputs() or {}).get("sources") or [None]
    if earlier[-1] != now:
        before = f"code {earlier[-1][:8]}" if earlier[-1] else "code that it does not say"
        rank_zero_warn(
            f"{run.folder} was started with {before} and resumes with {now[:8]}: "
            "metrics.json names both"
        )
    return with_source(earlier, now)


def kept_recipe(run: Run, config: Config, recipe: str) -> str:
    """Return the recipe hash that a run was started with, where its configuration is the same.

    Args:
        run: The run.
        config: The resolved configuration of this command.
        recipe: The hash of this command's own recipe.
    """
    earlier = run.config()
    if earlier is None or differences(config, earlier):
        return recipe
    return str((run.inputs() or {}).get("recipe", recipe))
