"""Evaluation of one run on one data set, by the code that tests a run."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pandas as pd
import torch

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.missed import missed_faces
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError, renamed, reworded
from tokd_lightning.evaluation.details import complete, further
from tokd_lightning.evaluation.open_run import Trained
from tokd_lightning.evaluation.record import SEEN, before, changes, counts
from tokd_lightning.files import write_bytes, write_text
from tokd_lightning.metrics.classification import inverted, metrics_by_method, video_table
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config
from tokd_lightning.training.callbacks.progress import ProgressBar
from tokd_lightning.training.console import mistakes_in_one_line
from tokd_lightning.training.results import device_of, rounded

OUR_WORDS = {
    r", or name their folder with --splits \(--data\.splits in training\)": "",
    r", or name its folder with --data\.splits": "",
    r"--data\.root": "--root",
    r"--data\.quality": "--on KIND-QUALITY:PATH",
    r"--data\.on_error": "--on-error",
    r"--data\.frames_per_video": "--frames",
    r"--data\.batch_size": "--batch-size",
    r"--data\.manifest": "--on own:FILE",
}


class Options(NamedTuple):
    """Options of an evaluation; None uses the value that the run was trained with.

    Attributes:
        split: ``test`` or ``val``.
        batch_size: Frames per batch.
        workers: Number of dataloader workers.
        device: ``auto``, ``cpu`` or ``gpu``; of several GPUs the first.
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        frames: Number of evenly spaced frames per video.
        on_error: Whether an unreadable frame ends the evaluation (``fail``) or is counted
            (``skip``).
        root: Folder that the paths in a list of frames are relative to; None for the list's folder.
    """

    split: str = "test"
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str | None = None
    frames: int | None = None
    on_error: str | None = None
    root: Path | None = None


def evaluate(
    trained: Trained,
    target: Target,
    options: Options | None = None,
    force: bool = False,
    update: bool = False,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> Config:
    """Score a run on a data set, or reuse an earlier evaluation that was made the same way.

    Frames get the size, crop and normalisation of the run's training, whatever the data set. The
    rest is the same as in ``tokd test``, and gives the same scores on the run's own data.

    Args:
        trained: The run.
        target: The data set.
        options: Options; by default as the run was trained.
        force: Evaluate again even if an evaluation exists.
        update: Evaluate again if an earlier evaluation differs.
        say: Function that prints a progress message.
        bar: Whether to show a progress bar.

    Returns:
        The contents of ``evaluations/<name>/evaluation.json``.

    Raises:
        TokdError: An option is invalid, the data cannot be read or have no frames in the split, an
            earlier evaluation differs, or the run's folder cannot be written.
    """
    options = options or Options()
    check_options(options)
    run, name = trained.run, folder_name(target, options.split)
    with our_words(), mistakes_in_one_line():
        data = module_of(trained, target, options)
        table = data.table(options.split)
        if table.empty:
            raise TokdError(f"{target.path} has no frames in the split {options.split}")
        precision = precision_of(trained, options)
        record = before(trained, target, data, options.split, precision)
        earlier = None if force else run.evaluation(name)
        if earlier is not None:
            changed = changes(earlier, record)
            if changed and not update:
                raise TokdError(
                    f"{run.folder}/evaluations/{name} was made with {changed}: --force evaluates "
                    "again, and --on NAME=KIND:PATH keeps both"
                )
            if not changed:
                say(f"{record['run']} on {name}: evaluated already, --force evaluates again")
                return complete(run, name, earlier)
        refuse_unwritable(run.folder / "evaluations" / name)
        say(f"{record['run']} on {name}: {len(table)} frames")
        data.say = say
        for note in data.notes(options.split):
            say(f"  {reworded(note, OUR_WORDS)}")
        if missed := missed_faces(Path(data.root)):
            say(f"{name}: {missed}, which are not scored")
        started = time.monotonic()
        trainer = score(trained.model, data, options, precision, bar)
        record["seconds"] = round(time.monotonic() - started, 1)
        record["device"] = device_of(trainer)
        record["metrics"] = rounded(trainer.callback_metrics)
        if line := inverted(trained.model.scores):
            say(f"  {line}")
        record["counts"] = counts(trained.model.scores, data, options.split)
        scores = trained.model.scores.drop(columns="loss")
        record |= further(run, record, scores)
        _write(run, name, record, scores)
    return run.evaluation(name) or record


def check_options(options: Options) -> None:
    """Check the values of options.

    Raises:
        TokdError: A number is too small, or the root folder or the device does not exist.
    """
    for key, least in (("batch_size", 1), ("frames", 1), ("workers", 0)):
        value = getattr(options, key)
        if value is not None and value < least:
            raise TokdError(f"--{key.replace('_', '-')} must be at least {least}, not {value}")
    if options.root is not None and not options.root.is_dir():
        raise TokdError(f"--root {options.root}: no such folder")
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    if options.device == "gpu" and not there:
        raise TokdError("no GPU was found: leave --device at auto, or set it to cpu")


def folder_name(target: Target, split: str = "test") -> str:
    """Return the name of an evaluation's folder in ``evaluations/`` of the run."""
    label = re.sub(r"[^\w.-]+", "-", target.label)
    return label if split == "test" else f"{label}-{split}"


def precision_of(trained: Trained, options: Options) -> str:
    """Return the precision to score a run in: by default that of its training."""
    return str(options.precision or trained.config["trainer"].get("precision") or "32-true")


def module_of(trained: Trained, target: Target, options: Options) -> FrameDataModule:
    """Build the data module for a data set with a run's size, crop and normalisation."""
    own = trained.fed

    def chosen(given: Any, key: str) -> Config:
        return {key: own[key] if given is None else given}

    workers = min(own["num_workers"], os.cpu_count() or 1)
    data = target.module(
        options.split,
        options.root,
        num_workers=workers if options.workers is None else options.workers,
        **{key: own[key] for key in SEEN},
        **chosen(options.batch_size, "batch_size"),
        **chosen(options.frames, "frames_per_video"),
        **chosen(options.on_error, "on_error"),
    )
    trained.model.ask(data)
    data.announced = True  # the caller describes the data, on its own output
    return data


def score(
    model: pl.LightningModule, data: FrameDataModule, options: Options, precision: str, bar: bool
) -> pl.Trainer:
    """Run a module's test or validation step on all frames of the split."""
    trainer = pl.Trainer(
        accelerator=options.device,
        devices=1,
        precision=precision,  # type: ignore[arg-type]  # the command line checks the choices
        logger=False,
        callbacks=[ProgressBar()] if bar else [],
        enable_progress_bar=bar,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    test = trainer.test if options.split == "test" else trainer.validate
    try:
        test(model, datamodule=data, verbose=False)
    except SystemExit:  # raised by Lightning after Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    return trainer


def _write(run: Run, name: str, record: Config, scores: pd.DataFrame) -> None:
    from tokd_lightning.evaluation.reliability import reliability_png
    from tokd_lightning.evaluation.roc import roc_png  # the import takes a second

    folder = run.folder / "evaluations" / name
    # evaluation.json marks the folder as complete; roc.png may not be written again.
    for old in ("evaluation.json", "roc.png"):
        (folder / old).unlink(missing_ok=True)
    tables = {"frames": scores, "videos": video_table(scores), "methods": metrics_by_method(scores)}
    for level, table in tables.items():
        write_text(folder / f"{level}.csv", table.to_csv(index=False))
    title = f"{record['run']}\non {name}"
    if png := roc_png(scores, title):
        write_bytes(folder / "roc.png", png)
    write_bytes(folder / "reliability.png", reliability_png(record["calibration"], title))
    run.write_evaluation(name, record)


@contextmanager
def our_words(words: Mapping[str, str] = OUR_WORDS) -> Iterator[None]:
    """Rename options of ``tokd fit`` in error messages to the options of this command.

    Args:
        words: Regular expression of a ``tokd fit`` option -> text of this command.
    """
    with renamed(words):
        yield


def refuse_unwritable(folder: Path) -> None:
    """Raise TokdError if a folder cannot be written, before the evaluation rather than after."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise TokdError(f"{folder} cannot be written")
