"""The command ``tokd explain``: figures of each run and of all together, and W&B."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.data.target import Target, parse_target
from tokd_lightning.errors import TokdError, one_line
from tokd_lightning.evaluation import Trained, open_run
from tokd_lightning.evaluation.evaluate import OUR_WORDS, our_words
from tokd_lightning.explain.bands import draw_bands
from tokd_lightning.explain.cams import draw_cams, read_maps, together
from tokd_lightning.explain.drawing import save
from tokd_lightning.explain.options import Options, check_options
from tokd_lightning.explain.run import Explained, explain
from tokd_lightning.files import write_text
from tokd_lightning.loggers.wandb_run import ended, publish, recorded
from tokd_lightning.loggers.wandb_run import open_run as open_wandb
from tokd_lightning.report.rows import distinct_labels, rank, read_row
from tokd_lightning.runs.identity import cell
from tokd_lightning.training.console import mistakes_in_one_line, quieten

_OUR_WORDS = {**OUR_WORDS, r"--data\.root": "--on KIND-QUALITY:PATH"}


def explain_command(
    runs: Sequence[Path],
    on: str | None = None,
    out: Path = Path("runs/explanations"),
    force: bool = False,
    **options: Any,
) -> int:
    """Explain runs; a run that fails is reported and skipped.

    Args:
        runs: Run folders, or the ``checkpoints/best.ckpt`` in them.
        on: A data set, as :func:`~tokd_lightning.data.target.parse_target` reads it; None takes
            each run's own.
        out: Folder for the figures of several runs together.
        force: Whether to explain a run again that was explained already.
        **options: Fields of :class:`Options`.

    Returns:
        The exit code: 2 if a run failed, else 0.

    Raises:
        TokdError: The data set or the options are invalid; nothing was done.
    """
    quieten()
    how = Options(**options)
    check_options(how)
    target = None if on is None else parse_target(on)
    done: dict[Path, Explained] = {}
    failed = False
    for path in runs:
        try:
            trained = open_run(path)
            if trained.run.folder.resolve() in done:
                continue
            explained = _one(trained, target, how, force)
        except (TokdError, OSError) as error:
            said = one_line(error)
            where = "" if str(path) in said else f"{path}: "
            print(f"tokd: {where}{said}", file=sys.stderr, flush=True)
            failed = True
            continue
        done[trained.run.folder.resolve()] = explained
    if len(done) > 1:
        compare(done, out)
    return 2 if failed else 0


def _one(trained: Trained, target: Target | None, how: Options, force: bool) -> Explained:
    say = partial(print, flush=True)
    with our_words(_OUR_WORDS), mistakes_in_one_line():
        explained = explain(trained, target, how, force, say, sys.stderr.isatty())
    for name in explained.record["files"]:
        if explained.new and name.endswith((".png", ".csv")):
            say(f"  {explained.folder / name}")
    folder = trained.run.folder
    shown = explained.new and explained.folder.name == "explanations" and recorded(folder)
    if shown and trained.run.results() is not None:  # otherwise its fit may still be writing there
        with ended():
            publish(open_wandb(folder, cell(trained.config), trained.config), folder)
    return explained


def compare(done: dict[Path, Explained], out: Path) -> list[Path]:
    """Draw runs together: the bands of all, and Grad-CAM on the frames they have in common.

    Args:
        done: Run folder -> its explanation.
        out: Output folder.

    Returns:
        The written files.

    Raises:
        TokdError: A file cannot be read or written.
    """
    rows = distinct_labels(sorted((read_row(folder) for folder in done), key=rank))
    runs = {row.label: done[Path(row.folder)] for row in rows}
    tables = {label: pd.read_csv(it.folder / "bands.csv") for label, it in runs.items()}
    records = [it.record for it in runs.values()]
    names: list[str] = []
    same = {tuple(record["options"]["edges"]) for record in records}
    about = ", ".join(dict.fromkeys(_about(record) for record in records))
    if len(same) == 1:
        whole = pd.concat([table.assign(run=label) for label, table in tables.items()])
        write_text(out / "bands.csv", whole.to_csv(index=False))
        cutoffs = {
            record["network"]["cutoff"] for record in records if "cutoff" in record["network"]
        }
        title = f"Bands of frequency taken out of {about}"
        names += ["bands.csv", *save(draw_bands(tables, title, sorted(cutoffs)), out / "bands")]
    else:
        print("the runs were explained with different bands: no common figure of them")
    maps = [(label, read_maps(it.folder / "gradcam.npz")) for label, it in runs.items()]
    frames, images, columns = together(maps)
    if len(frames):
        heading = f"{about}\nGrad-CAM for fake, and P(fake); red where it is wrong"
        names += save(draw_cams(frames, images, columns, heading), out / "gradcam")
    else:
        print("the runs have no frame in common: no common figure of Grad-CAM")
    written = [out / name for name in names]
    print("\n".join(f"  {path}" for path in written if path.suffix != ".pdf"))
    return written


def _about(record: dict[str, Any]) -> str:
    data = record["data"]
    return f"{data['name']}-{data['quality']}, {record['split']} frames"
