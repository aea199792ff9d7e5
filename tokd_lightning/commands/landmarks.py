"""``tokd landmarks``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import OUR_WORDS, asked
from tokd_lightning.errors import renamed


def add_to(commands: Any) -> None:
    """Add ``tokd landmarks`` to the subcommands."""
    landmarks = commands.add_parser("landmarks", help="find 68 points on every face of a data set")
    landmarks.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv or a .json")
    landmarks.add_argument(
        "--out", type=Path, metavar="CSV", help="file to write (PATH/landmarks.csv)"
    )
    landmarks.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that the paths are relative to"
    )
    landmarks.add_argument(
        "--margin", type=float, help="side of the frames / side of the face (prepare.json, or 1.3)"
    )
    landmarks.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    landmarks.set_defaults(run=_landmarks)


def _landmarks(options: argparse.Namespace) -> int:
    from tokd_lightning.prepare.landmarks import find_landmarks

    with renamed(OUR_WORDS):
        return find_landmarks(**asked(options))
