"""``tokd fit``."""

from typing import Any

from tokd_lightning.commands import importing
from tokd_lightning.training.help import add_help


def add_to(commands: Any) -> None:
    """Add ``tokd fit`` to the subcommands."""
    add_help(commands, "fit")


def main(args: list[str]) -> int:
    """Run ``tokd fit`` with its arguments; return the exit code."""
    with importing():
        from tokd_lightning.training.cohort import fit

    fit(args)
    return 0
