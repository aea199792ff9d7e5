"""Options of the ``tokd`` commands beside those of Lightning; what they run is imported lazily."""

import argparse
from typing import Any


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command by name."""
    return {name: value for name, value in vars(options).items() if name != "run"}
