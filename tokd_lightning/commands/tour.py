"""``tokd tour``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.extras import require


def add_to(commands: Any) -> None:
    """Add ``tokd tour`` to the subcommands."""
    tour = commands.add_parser("tour", help="the whole main job on the demo data (make demo)")
    tour.add_argument(
        "--data",
        type=Path,
        default=Path("data/demo"),
        metavar="DIR",
        help="demo data, made if need be (data/demo)",
    )
    tour.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of all run folders (runs)",
    )
    tour.add_argument(
        "--quality", nargs="+", default=["c23"], metavar="Q", help="compressions (c23)"
    )
    tour.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="S", help="seeds of students (0)"
    )
    tour.add_argument("--workers", type=int, default=2, metavar="N", help="fits at a time (2)")
    tour.set_defaults(run=_tour)


def _tour(options: argparse.Namespace) -> int:
    from tokd_lightning.schedule.tour import run_demo

    require("torch", "tour")
    require("cv2", "tour")

    return run_demo(options.data, options.runs, options.quality, options.seed, options.workers)
