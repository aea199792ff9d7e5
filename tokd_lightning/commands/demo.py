"""``tokd demo``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import print_next


def add_to(commands: Any) -> None:
    """Add ``tokd demo`` to the subcommands."""
    demo = commands.add_parser("demo", help="make a synthetic mini-FF++ to try everything on")
    demo.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    demo.add_argument(
        "--identities", type=int, metavar="N", help="number of people (120, or one per photograph)"
    )
    demo.add_argument(
        "--faces",
        type=Path,
        metavar="DIR",
        help="folder of photographs to use instead of drawn faces",
    )
    demo.add_argument(
        "--landmarks",
        type=Path,
        metavar="CSV",
        help="landmarks of the photographs: file name, then x, y pairs",
    )
    demo.add_argument(
        "--quality", nargs="+", default=["c23", "c40"], metavar="Q", help="compressions (c23 c40)"
    )
    demo.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed, other faces (0)"
    )
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from tokd_lightning.demo import make_demo

    make_demo(
        options.out,
        identities=options.identities,
        faces=options.faces,
        landmarks=options.landmarks,
        quality=options.quality,
        seed=options.seed,
    )
    print_next("fit", "--config", "experiments/demo_teacher.yaml", "--data.root", options.out)
    return 0
