"""``tokd compare``."""

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add ``tokd compare`` to the subcommands."""
    compare = commands.add_parser("compare", help="runs side by side: a table and the curves")
    compare.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="folder for table and curves (runs/compare)",
    )
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from tokd_lightning.report.compare import compare_runs

    folders = [path for path in options.folders if (path / "fit.yaml").is_file()]
    for path in options.folders:
        if len(options.folders) > 1 and path.is_dir() and path not in folders:
            print(f"{path} is not a run folder: left out")
    compare_runs(folders or options.folders, options.out)
    return 0
