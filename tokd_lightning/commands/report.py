"""``tokd report``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked
from tokd_lightning.commands.table import add_recipe, add_settings, names
from tokd_lightning.errors import TokdError

# For an option that takes several values and can be repeated.
_SEVERAL: dict[str, Any] = {"nargs": "+", "default": [], "action": "extend"}


def add_to(commands: Any) -> None:
    """Add ``tokd report`` to the subcommands."""
    report = commands.add_parser("report", help="the paper's tables and figures next to the runs")
    report.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a bundle, instead of run folders"
    )
    report.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="write scores, metrics and provenance of all runs to one file instead",
    )
    report.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of all run folders (runs)",
    )
    report.add_argument(
        "--table",
        nargs="+",
        metavar="N",
        help="3, figure4, beyond, generalise, … (default: all that have runs)",
    )
    report.add_argument("--dataset", nargs="+", metavar="D",
        help="data sets: ffpp, celebdf, demo, demo-c23 (the paper's two)")  # fmt: skip
    add_settings(report)
    add_recipe(report)
    report.add_argument(
        "--filled",
        action="store_true",
        help="LaTeX of the rows and columns that have runs",
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="folder to write (RUNS/report)")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from tokd_lightning.report.command import report

    given = asked(options)
    if given["file"] is not None and given["runs"] is not None:
        raise TokdError(f"{given['file']} is a bundle and holds its runs: leave out --runs")
    given["runs"] = given["runs"] or Path("runs")
    for key in ("table", "dataset"):  # "ffpp,celebdf" as in tokd table, or separate values
        given[key] = [name for text in given[key] or () for name in names(text)] or None
    return report(**given)
