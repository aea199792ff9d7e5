"""``tokd validate``."""

from typing import Any

from tokd_lightning.commands import importing
from tokd_lightning.training.help import add_help


def add_to(commands: Any) -> None:
    """Add ``tokd validate`` to the subcommands."""
    add_help(commands, "validate")


def main(args: list[str]) -> int:
    """Run ``tokd validate`` with its arguments; return the exit code."""
    with importing():
        from tokd_lightning.training.cli import run

    return run(["validate", *args])
