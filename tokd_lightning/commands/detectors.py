"""``tokd detectors``."""

import argparse
from typing import Any

from tokd_lightning.commands import asked, importing


def add_to(commands: Any) -> None:
    """Add ``tokd detectors`` to the subcommands."""
    detectors = commands.add_parser("detectors", help="the detectors of Table 2 side by side")
    detectors.add_argument(
        "--size", type=int, metavar="PX", help="side of the images (each detector's own)"
    )
    detectors.set_defaults(run=_detectors)


def _detectors(options: argparse.Namespace) -> int:
    with importing():
        from tokd_lightning.models.detectors.catalogue import print_detectors

    print_detectors(**asked(options))
    return 0
