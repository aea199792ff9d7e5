"""``tokd probe``."""

from pathlib import Path
from typing import Any

from tokd_lightning.commands import LineParser, importing
from tokd_lightning.training.help import add_help


def add_to(commands: Any) -> None:
    """Add ``tokd probe`` to the subcommands."""
    add_help(commands, "probe")


def main(args: list[str]) -> int:
    """Run ``tokd probe`` with its arguments; return the exit code."""
    parser = LineParser(prog="tokd probe", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    given, fit = parser.parse_known_args(args)
    with importing():
        from tokd_lightning.training.probe import probe

    return probe(fit, given.out)
