"""``tokd show``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import OUR_WORDS, asked
from tokd_lightning.errors import renamed


def add_to(commands: Any) -> None:
    """Add ``tokd show`` to the subcommands."""
    show = commands.add_parser("show", help="draw frames of a data set, or the errors of a run")
    show.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv, a .json, or a run")
    show.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="picture to write"
    )
    show.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that the paths are relative to"
    )
    show.add_argument("--quality", metavar="Q", help="compression to show (all)")
    show.add_argument("--method", nargs="+", metavar="M", help="manipulations to show (all)")
    show.add_argument("--split", choices=("train", "val", "test"), help="split to show (all)")
    show.add_argument(
        "--identities", type=int, default=4, metavar="N", help="people, a row each (4)"
    )
    show.add_argument(
        "--tile", type=int, default=160, metavar="PX", help="side of each picture (160)"
    )
    show.add_argument("--cutoff", type=float, default=0.33, help="cutoff of the high-pass (0.33)")
    show.add_argument(
        "--seed", type=int, metavar="S", help="draw the videos at random by this seed"
    )
    show.add_argument(
        "--forge", choices=("bi", "sbi"), help="draw forged samples of real frames, as in training"
    )
    show.add_argument(
        "--landmarks", type=Path, metavar="CSV", help="landmarks for --forge (DIR/landmarks.csv)"
    )
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    from tokd_lightning.show import show

    with renamed(OUR_WORDS):
        return show(**asked(options))
