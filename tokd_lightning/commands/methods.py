"""``tokd methods``."""

import argparse
from typing import Any

from tokd_lightning.commands import asked, importing


def add_to(commands: Any) -> None:
    """Add ``tokd methods`` to the subcommands."""
    methods = commands.add_parser("methods", help="the distillation methods side by side")
    methods.add_argument(
        "--student", default="resnet18_thin", metavar="NET", help="student (resnet18_thin)"
    )
    methods.add_argument(
        "--teacher", default="xception", metavar="NET", help="teacher's branches (xception)"
    )
    methods.add_argument(
        "--size", type=int, default=299, metavar="PX", help="side of the images (299)"
    )
    methods.set_defaults(run=_methods)


def _methods(options: argparse.Namespace) -> int:
    with importing():
        from tokd_lightning.distillation.catalogue import print_methods

    print_methods(**asked(options))
    return 0
