"""``tokd figure``."""

from typing import Any

from tokd_lightning.commands.table import add_grid, make


def add_to(commands: Any) -> None:
    """Add ``tokd figure`` to the subcommands."""
    figure = commands.add_parser("figure", help="make a figure of the paper")
    figure.add_argument("number", choices=("3", "4"), metavar="3|4", help="figure")
    add_grid(figure)
    figure.set_defaults(run=make, kind="figure")
