"""Recognition of data made by ``tokd demo``, whose numbers say nothing about real data sets."""

from pathlib import Path

SYNTHETIC = "synthetic"
"""Name of the data set in tables and run names."""
NOTICE = "SYNTHETIC.txt"
"""File that marks a tree as synthetic; it is copied to everything made from it."""


def is_synthetic(root: Path) -> bool:
    """Return whether a folder holds data made by ``tokd demo``."""
    return (root / NOTICE).is_file()
