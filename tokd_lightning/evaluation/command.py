"""``tokd evaluate``: evaluate every given run on every given data set, and print a table."""

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tokd_lightning.data.perturbations import chosen
from tokd_lightning.data.target import Target, parse_target
from tokd_lightning.errors import TokdError, one_line
from tokd_lightning.evaluation.evaluate import Options, check_options, evaluate, folder_name
from tokd_lightning.evaluation.open_run import open_run
from tokd_lightning.evaluation.robustness import measure_robustness
from tokd_lightning.files import write_bytes
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config
from tokd_lightning.tables.evaluation_tables import (
    details_tables,
    evaluation_table,
    robustness_tables,
)
from tokd_lightning.training.console import quieten


def evaluate_command(
    runs: Sequence[Path],
    on: Sequence[str],
    force: bool = False,
    update: bool = False,
    json: bool = False,
    robustness: str | None = None,
    details: bool = False,
    **options: Any,
) -> int:
    """Evaluate runs on data sets and print a table; failures are printed and skipped.

    Args:
        runs: Run folders, or the ``checkpoints/best.ckpt`` in them.
        on: Data sets, in the syntax of :func:`~tokd_lightning.data.target.parse_target`.
        force: Evaluate again even if an evaluation exists.
        update: Evaluate again if the earlier evaluation had other frames, weights or options.
        json: Print the contents of each ``evaluation.json``, as a list, instead of the table.
        robustness: Perturbations to score the runs under, in the syntax of
            :func:`~tokd_lightning.data.perturbations.chosen`; None for none.
        details: Print calibration, thresholds and forgeries too.
        **options: Fields of :class:`Options`.

    Returns:
        The exit code: 2 if something failed, else 0.

    Raises:
        TokdError: The data sets or the options are invalid; nothing was done.
    """
    quieten()
    how = Options(**options)
    check_options(how)
    perturbations = [] if robustness is None else chosen(robustness)
    targets = _distinct([parse_target(text) for text in on], how.split)
    say = partial(print, file=sys.stderr if json else sys.stdout, flush=True)
    bar = sys.stdout.isatty() and not json
    records: list[Config] = []
    curves: dict[str, list[tuple[Run, Config]]] = {}
    done: set[Path] = set()
    failed = False
    for path in runs:
        try:
            trained = open_run(path)
        except (TokdError, OSError) as error:
            failed = _complain(error)
            continue
        if (folder := trained.run.folder.resolve()) in done:
            continue
        done.add(folder)
        for target in targets:
            name = folder_name(target, how.split)
            again: dict[str, Any] = {"force": force, "update": update, "say": say, "bar": bar}
            try:
                records.append(evaluate(trained, target, how, **again))
                if perturbations:
                    found = measure_robustness(trained, target, perturbations, how, **again)
                    curves.setdefault(name, []).append((trained.run, found))
            except (TokdError, OSError) as error:
                failed = _complain(error, f"{path} on {name}: ")
    pictures = _draw_together(curves)
    measured = [found for its in curves.values() for _, found in its]
    if json:
        print(jsonlib.dumps([_with_robustness(one, measured) for one in records], indent=2))
    elif records:
        console = Console()
        console.print(evaluation_table(records))
        for table in [*(details_tables(records) if details else []), *robustness_tables(measured)]:
            console.print(table)
        for picture in pictures:
            console.print(Text(str(picture)), soft_wrap=True)
    return 2 if failed else 0


def _draw_together(curves: Mapping[str, Sequence[tuple[Run, Config]]]) -> list[Path]:
    """Return the picture of each data set; for several runs, draw one next to the run folders."""
    pictures = []
    for name, its in curves.items():
        folder = its[0][0].folder / "evaluations" / name
        picture = folder / "robustness.png"
        if len(its) > 1:
            from tokd_lightning.evaluation.robustness_pictures import robustness_png

            picture = its[0][0].folder.parent / "compare" / f"robustness_{name}.png"
            write_bytes(picture, robustness_png([found for _, found in its], f"on {name}"))
        pictures.append(picture)
    return pictures


def _with_robustness(record: Config, measured: Sequence[Config]) -> Config:
    """Add to an evaluation the robustness measured for the same run, data set and split."""
    key = ("run", "data", "split")
    its = [one for one in measured if all(one[k] == record[k] for k in key)]
    return record | {"robustness": its[0]} if its else record


def _distinct(targets: Sequence[Target], split: str) -> list[Target]:
    """Return the distinct data sets; raise TokdError if two different ones share a folder name."""
    distinct: dict[str, Target] = {}
    for target in targets:
        name = folder_name(target, split)
        if distinct.setdefault(name, target) != target:
            raise TokdError(
                f"--on {distinct[name].path} and --on {target.path} are both called {name}: name "
                "one, --on NAME=KIND:PATH"
            )
    return list(distinct.values())


def _complain(error: TokdError | OSError, where: str = "") -> bool:
    print(f"tokd: {where}{one_line(error)}", file=sys.stderr, flush=True)
    return True
