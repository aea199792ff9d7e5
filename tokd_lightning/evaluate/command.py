"""Every run named on every data set named, and one table."""

import json as jsonlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tokd_lightning.console import quieten
from tokd_lightning.data.target import Target, parse_target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluate.evaluating import Options, check_options, evaluate, folder_name
from tokd_lightning.evaluate.run import open_run
from tokd_lightning.naming import Config
from tokd_lightning.tables.evaluated import evaluation_table


def evaluate_command(
    runs: Sequence[Path],
    on: Sequence[str],
    force: bool = False,
    update: bool = False,
    json: bool = False,
    **options: Any,
) -> int:
    """Evaluate runs on data sets and print a table; what fails is named and passed over.

    Args:
        runs: Run folders, or the ``checkpoints/best.ckpt`` in them.
        on: Data sets, as :func:`~tokd_lightning.data.target.parse_target` reads them.
        force: Evaluate again what has been evaluated.
        update: Evaluate again where the earlier evaluation was of other frames, weights or options.
        json: Print what ``evaluation.json`` holds, as a list, in place of the table.
        **options: Of :class:`Options`.

    Returns:
        The exit code: 2 where something failed, or else 0.

    Raises:
        TokdError: The data sets or the options are not as they should be; nothing was done.
    """
    quieten()
    how = Options(**options)
    check_options(how)
    targets = _distinct([parse_target(text) for text in on], how.split)
    say = partial(print, file=sys.stderr if json else sys.stdout, flush=True)
    bar = sys.stdout.isatty() and not json
    records: list[Config] = []
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
            try:
                records.append(evaluate(trained, target, how, force, update, say, bar))
            except (TokdError, OSError) as error:
                failed = _complain(error, f"{path} on {folder_name(target, how.split)}: ")
    if json:
        print(jsonlib.dumps(records, indent=2))
    elif records:
        Console().print(evaluation_table(records))
    return 2 if failed else 0


def _distinct(targets: Sequence[Target], split: str) -> list[Target]:
    """Refuse two data sets that would share a folder; name one twice and it counts once."""
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
    said = f"{error.strerror or error}: {error.filename}" if isinstance(error, OSError) else error
    print(f"tokd: {where}{said}", file=sys.stderr, flush=True)
    return True
