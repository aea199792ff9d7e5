"""``tokd push``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add ``tokd push`` to the subcommands."""
    push = commands.add_parser("push", help="upload an exported student to the Hugging Face Hub")
    push.add_argument("model", type=Path, metavar="MODEL", help="what tokd export wrote")
    push.add_argument("repo", metavar="OWNER/NAME", help="repository; created if missing")
    push.add_argument(
        "--run",
        dest="results",
        type=Path,
        metavar="DIR",
        help="add a run's metrics and test scores",
    )
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--dry-run", action="store_true", help="print what would be uploaded")
    push.set_defaults(run=_push)


def _push(options: argparse.Namespace) -> int:
    from tokd_lightning.deploy.hub import push

    return push(**asked(options))
