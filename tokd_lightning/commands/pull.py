"""``tokd pull``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add ``tokd pull`` to the subcommands."""
    pull = commands.add_parser("pull", help="download an exported student from the Hub")
    pull.add_argument("repo", metavar="OWNER/NAME", help="repository, with @REVISION if not main")
    pull.add_argument("--out", type=Path, metavar="DIR", help="new folder (models/NAME)")
    pull.set_defaults(run=_pull)


def _pull(options: argparse.Namespace) -> int:
    from tokd_lightning.deploy.hub import pull

    return pull(**asked(options))
