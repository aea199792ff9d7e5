"""``tokd verify``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import OUR_WORDS, asked
from tokd_lightning.errors import renamed


def add_to(commands: Any) -> None:
    """Add ``tokd verify`` to the subcommands."""
    verify = commands.add_parser("verify", help="look for what silently spoils a data set")
    verify.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv or a .json")
    verify.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that a list's paths are relative to"
    )
    verify.add_argument(
        "--expect",
        choices=("ffpp", "celebdf-v1", "celebdf-v2", "dfdc", "ffiw", "wilddeepfake", "kodf"),
        metavar="NAME",
        help="compare with the published numbers of videos: ffpp, celebdf-v1, celebdf-v2, dfdc, "
        "ffiw, wilddeepfake, kodf",
    )
    verify.add_argument("--quality", metavar="Q", help="compression to look at (all)")
    verify.add_argument(
        "--splits", type=Path, metavar="DIR", help="folder of the split files, if elsewhere"
    )
    verify.add_argument("--frames", type=int, metavar="N", help="frames wanted of each video (32)")
    verify.add_argument(
        "--size", type=int, metavar="PX", help="side that all frames must have, in pixels"
    )
    verify.add_argument("--quick", action="store_true", help="read only the headers of the files")
    verify.add_argument(
        "--json",
        nargs="?",
        const=True,
        type=Path,
        metavar="FILE",
        help="print JSON, or write it to FILE",
    )
    verify.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from tokd_lightning.verify import verify

    with renamed(OUR_WORDS):
        return verify(**asked(options))
