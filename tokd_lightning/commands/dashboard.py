"""``tokd dashboard``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add ``tokd dashboard`` to the subcommands."""
    board = commands.add_parser("dashboard", help="a W&B workspace and report of all runs")
    board.add_argument(
        "runs",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="RUNS_DIR",
        help="folder of all run folders (runs)",
    )
    board.add_argument("--project", metavar="P", help="W&B project (WANDB_PROJECT, else tokd)")
    board.add_argument(
        "--entity", metavar="E", help="W&B user or team (WANDB_ENTITY, else your own)"
    )
    board.add_argument(
        "--dry-run", action="store_true", help="print what would be made; needs no account"
    )
    board.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write workspace and report as JSON"
    )
    board.set_defaults(run=_dashboard)


def _dashboard(options: argparse.Namespace) -> int:
    from tokd_lightning.report.dashboard import dashboard

    return dashboard(**asked(options))
