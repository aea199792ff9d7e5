"""``tokd inputs``."""

from typing import Any

from tokd_lightning.commands import importing
from tokd_lightning.training.help import add_help


def add_to(commands: Any) -> None:
    """Add ``tokd inputs`` to the subcommands."""
    add_help(commands, "inputs")


def main(args: list[str]) -> int:
    """Run ``tokd inputs`` with its arguments; return the exit code."""
    with importing():
        from tokd_lightning.training.inputs import print_inputs

    return print_inputs(args)
