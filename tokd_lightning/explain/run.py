"""Explanation of one run: its figures and tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation import Trained
from tokd_lightning.evaluation.evaluate import refuse_unwritable
from tokd_lightning.explain import cams, rfam
from tokd_lightning.explain.bands import band_table, draw_bands
from tokd_lightning.explain.drawing import save
from tokd_lightning.explain.options import (
    Options,
    band_edges,
    check_options,
    frames_of,
    loader_of,
    read,
    where,
)
from tokd_lightning.explain.record import FILE, before, earlier, write
from tokd_lightning.explain.survey import Survey, survey
from tokd_lightning.files import write_text
from tokd_lightning.loggers.wandb_run import confident_errors
from tokd_lightning.looks import network as label
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.detectors import Detector, extras_of
from tokd_lightning.models.look import attention_maps
from tokd_lightning.runs.identity import Config
from tokd_lightning.training.pictures import choose

_SINGLE = 5  # frames of which rfam.png shows the attention


class Explained(NamedTuple):
    """An explanation: its folder, the content of ``explanations.json``, and whether it is new."""

    folder: Path
    record: Config
    new: bool


def explain(
    trained: Trained,
    target: Target | None = None,
    options: Options | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> Explained:
    """Explain a run, or return an earlier explanation with the same record.

    Everything is computed in 32-true, whatever precision the run was trained in.

    Args:
        trained: The run.
        target: Data to explain it on; None takes the run's own.
        options: How to explain; None takes the defaults.
        force: Whether to explain again if there is an earlier explanation.
        say: Called with lines about the progress.
        bar: Whether to show a progress bar.

    Raises:
        TokdError: The data cannot be read or have nothing in the split, an earlier explanation
            differs, or the run's folder cannot be written.
    """
    options = options or Options()
    check_options(options)
    folder = trained.run.folder / where(target, trained, options.split)
    data = _with_hint(trained, target, options)
    edges = band_edges(options.bands, options.widths, data.input_size)
    record = before(trained, target, data, options, edges)
    name = record["run"] if folder.name == "explanations" else f"{record['run']} on {folder.name}"
    if not force and (kept := earlier(folder, record)):
        say(f"{name}: explained already, --force explains again")
        return Explained(folder, kept, False)
    refuse_unwritable(folder)
    started = time.monotonic()
    device = torch.device("cpu")
    if options.device != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda")
    network = cast(Any, trained.model.network.to(device).eval())
    few = data
    if options.band_frames is not None:
        few = frames_of(trained, target, options, options.band_frames)
    say(f"{name}: {len(few.table(options.split))} frames, {3 * options.bands} filters")
    with _progress(len(loader_of(few, options.split)), bar) as advance:
        found = survey(network, few, options.split, edges, advance)
    heading = f"{name}, {options.split} frames"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)  # it marks a complete explanation
    names = _bands(folder, found, network, heading, label(record["cell"]))
    names += _cams(folder, found, network, data, few, options, heading)
    record["seconds"] = round(time.monotonic() - started, 1)
    record["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    record["counts"] = {
        "frames": len(found.scores),
        "methods": found.methods,
        "skipped": len(few.skipped[options.split]),
    }
    write(folder, record, names)
    return Explained(folder, record, True)


def _with_hint(trained: Trained, target: Target | None, options: Options) -> FrameDataModule:
    """Build the data module and check that its split has frames."""
    try:
        data = frames_of(trained, target, options)
        empty = data.table(options.split).empty
    except TokdError as error:
        if target is not None:
            raise
        raise TokdError(f"{error} (the run's own data; if it is elsewhere now: --on)") from error
    if empty:
        raise TokdError(f"{data.root} has no frames in the split {options.split}")
    return data


def _bands(folder: Path, found: Survey, network: Any, heading: str, named: str) -> list[str]:
    table = band_table(found)
    write_text(folder / "bands.csv", table.to_csv(index=False))
    cutoffs = [network.high_pass.cutoff] if isinstance(network, DualBranchTeacher) else []
    return ["bands.csv", *save(draw_bands({named: table}, heading, cutoffs), folder / "bands")]


def _cams(
    folder: Path,
    found: Survey,
    network: Student | DualBranchTeacher | Detector,
    data: FrameDataModule,
    few: FrameDataModule,
    options: Options,
    heading: str,
) -> list[str]:
    split = options.split
    chosen = choose(data.table(split), options.frames)
    read_rows, batch = read(data, split, chosen.index.tolist())
    images, extras = batch["image"], extras_of(network, batch)
    rows = data.table(split).loc[read_rows]
    worst = confident_errors(found.scores)
    worst = worst[~worst["path"].isin(rows["path"])].head(options.errors)
    if len(worst):
        more_rows, more = read(few, split, worst.index.tolist())
        its = extras_of(network, more)
        rows = pd.concat([rows, few.table(split).loc[more_rows]])
        images = torch.cat([images, more["image"]])
        extras = {key: torch.cat([value, its[key]]) for key, value in extras.items()}
    seen = cams.look(network, data, rows, images, options.strides, extras)
    cams.write_maps(folder / "gradcam.npz", seen)
    sheet = cams.draw_cams(
        seen.rows, seen.images, cams.columns_of(seen), f"{heading}\nGrad-CAM; red where it is wrong"
    )
    names = ["gradcam.npz", *save(sheet, folder / "gradcam")]
    if found.attention is None or not isinstance(network, DualBranchTeacher):
        return names
    write_text(
        folder / "rfam.csv", rfam.rfam_table(found.attention, found.methods).to_csv(index=False)
    )
    few_images = images[: min(_SINGLE, len(read_rows))]
    device = next(network.parameters()).device
    _, pairs = attention_maps(network, few_images.to(device))
    single = [part.float().cpu().numpy() for pair in pairs for part in pair]
    label = data.table(split).groupby("method")["label"].first()
    page = rfam.draw_rfam(
        found.attention,
        found.methods,
        [bool(label[method]) for method in found.methods],
        seen.rows.head(len(few_images)),
        seen.images[: len(few_images)],
        single,
        f"{heading}\nAttention of the RFAMs: means and single frames",
    )
    return [*names, "rfam.csv", *save(page, folder / "rfam")]


@contextmanager
def _progress(total: int, bar: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr if ``bar`` is set."""
    if not bar:
        yield lambda: None
        return
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
