"""``tokd audit``: audit runs, print the checks, write a page and JSON."""

import json as jsonlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokd_lightning.audit.frames import interval, outcome
from tokd_lightning.audit.page import html
from tokd_lightning.audit.record import audit_run
from tokd_lightning.audit.stored import has_scores
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_json, write_text
from tokd_lightning.report.bundled import opened

Say = Callable[[str], None]
_STYLES = {"fault": "bold red", "caveat": "yellow", "passed": "green", "not checked": "dim"}


def audit_command(
    runs: Sequence[Path],
    out: Path | None = None,
    data: Path | None = None,
    probe: str | None = None,
    weights: Path | None = None,
    json: bool = False,
    *,
    console: Console | None = None,
) -> int:
    """Audit runs, print the checks and write ``audit.html`` and ``<run>.json``.

    Args:
        runs: Run folders, or bundles of ``tokd report --bundle``, of all runs in them.
        out: Folder to write; None for ``audit`` next to the first run, ``<bundle>-audit`` next to a
            bundle.
        data: Where the data of the runs are: measure on them first, and keep what was measured in
            the runs' folders.
        probe: Backbone of a linear probe to fit on the data.
        weights: File of its weights; None downloads timm's.
        json: Print the documents as a list instead of tables.
        console: Console to print to; standard output by default.

    Returns:
        The exit code: 1 if a check for faults failed, else 0.

    Raises:
        TokdError: A run has no stored scores, two have the same name, or a file cannot be read or
            written; nothing was written.
    """
    say = partial(print, file=sys.stderr if json else sys.stdout)
    folders = list({run.resolve(): run for run in runs}.values())
    if data is not None:
        _measure(folders, data, probe, weights, say)
    elif probe is not None:
        raise TokdError("--probe needs the runs' data: --data DIR")
    elif weights is not None:
        raise TokdError("--weights are those of a linear probe: --data DIR --probe NAME")
    audits = [audit for run in folders for audit in _audits(run, say)]
    names = [audit["run"] for audit in audits]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TokdError(f"two runs are called {twice[0]}: audit them one after the other")
    first = folders[0].resolve()
    place = first.with_name(f"{first.stem}-audit") if first.is_file() else first.parent / "audit"
    target = out or place
    shown = (run.name if run.is_file() else str(run.parent) for run in folders)
    _write(audits, target, ", ".join(dict.fromkeys(shown)))
    if json:
        sys.stdout.write(jsonlib.dumps(audits, indent=2) + "\n")
    else:
        _print(audits, target, console or Console())
    return 1 if any(map(_faulty, audits)) else 0


def _audits(run: Path, say: Say) -> list[dict[str, Any]]:
    """Audit a run, or all runs of a bundle that have scores."""
    if not run.is_file():
        return [audit_run(run)]
    with opened(run) as bundle:
        folders = sorted(path for path in bundle.folder.iterdir() if path.is_dir())
        scored = [folder for folder in folders if has_scores(folder)]
        if not scored:
            raise TokdError(f"{run} has no run with stored scores")
        if len(scored) < len(folders):
            say(f"{run}: {len(folders) - len(scored)} of {len(folders)} runs have no scores")
        try:
            return [audit_run(folder) for folder in scored]
        except TokdError as error:
            raise TokdError(str(error).replace(str(bundle.folder.parent), str(run))) from error


def _measure(
    folders: Sequence[Path], data: Path, name: str | None, weights: Path | None, say: Say
) -> None:
    from tokd_lightning.audit.measure import measure  # imports torch

    if file := next((folder for folder in folders if folder.is_file()), None):
        raise TokdError(f"{file} is a bundle, to which nothing is added: --data is for run folders")
    if weights is not None and name is None:
        raise TokdError("--weights are those of a linear probe: name it, --probe NAME")
    for folder in folders:
        measure(folder, data, name, weights, say)


def _write(audits: Sequence[dict[str, Any]], folder: Path, source: str) -> None:
    page = html(audits, f"stored scores in {source}")
    for audit in audits:
        write_json(folder / f"{audit['run']}.json", audit)
    write_text(folder / "audit.html", page)


def _faulty(audit: dict[str, Any]) -> bool:
    return any(outcome(check) == "fault" for check in audit["checks"])


def _print(audits: Sequence[dict[str, Any]], folder: Path, console: Console) -> None:
    for audit in audits:
        console.print(Text(f"\n{audit['run']}", style="bold"))
        for note in audit["notes"]:
            console.print(Text(note))
        console.print(_ranking(audit))
        console.print(_checks(audit))
        console.print(Text(audit["verdict"]["text"], style="bold"))
        console.print(Text(f"({audit['verdict']['rule']})"))
    console.print(Text(f"\n{folder / 'audit.html'}"), soft_wrap=True)


def _ranking(audit: dict[str, Any]) -> Table:
    table = _table("videos, percent", "AUC", "AP", "EER", "TPR at 1 %")
    for one in audit["ranking"]:
        found = one["video"]
        values = [interval(found[key]) for key in ("auc", "ap", "eer", "tpr@0.01")]
        # A value above its interval: four of them are wider than a terminal.
        table.add_row(Text(one["name"], overflow="fold"), *(v.replace(" [", "\n[") for v in values))
    return table


def _checks(audit: dict[str, Any]) -> Table:
    table = _table("check", "outcome", "value")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "left"
    for check in audit["checks"]:
        word = outcome(check)
        table.add_row(check["name"], Text(word, style=_STYLES[word]), Text(check["said"]))
    return table


def _table(*heads: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table
