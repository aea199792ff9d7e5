"""Reports and audits from a bundle, and the bundle of a folder of runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokd_lightning.errors import TokdError
from tokd_lightning.report.reader import Reader, StateOf, state_of
from tokd_lightning.runs.bundle import Bundle, read_bundle, write_bundle
from tokd_lightning.tables.grid import DATASETS, GridCell, Option
from tokd_lightning.tables.paper import TABLES, paper_table


@contextmanager
def opened(file: Path) -> Iterator[Bundle]:
    """Write the runs of a bundle to a temporary folder, which is removed afterwards.

    Raises:
        TokdError: It is not a bundle, or is damaged or hostile.
    """
    with tempfile.TemporaryDirectory(prefix="tokd-bundle-") as folder:
        yield read_bundle(file, Path(folder))


def state_in(bundle: Bundle) -> StateOf:
    """Return the function that tells the states of cells as they were when it was written."""

    def state(cell: GridCell, runs: Path) -> tuple[str, tuple[str, ...]]:
        known = bundle.states.get(cell.name)
        return state_of(cell, runs) if known is None else (known[0], tuple(known[1]))

    return state


def write(
    runs: Path, file: Path, state: StateOf, common: tuple[Option, ...], recipe: str
) -> tuple[int, int]:
    """Write a bundle of all runs with the states of all cells that have one.

    Args:
        runs: Folder of all run folders.
        file: The bundle.
        state: Function that returns the state of a cell.
        common: Options that all runs share (``--set``).
        recipe: Training recipe of the detectors.

    Returns:
        The number of runs and of files.

    Raises:
        TokdError: There is no run, or a file cannot be read or written.
    """
    reader = Reader(runs)
    states: dict[str, tuple[str, tuple[str, ...]]] = {}
    for key in TABLES:
        for cell in paper_table(key, tuple(DATASETS), recipe).sharing(common).cells:
            for one in reader.seeds(cell):
                if one.name in states:
                    continue
                try:
                    states[one.name] = state(one, runs)
                except TokdError:
                    continue  # its unreadable file is in the bundle and gives the same error
    return write_bundle(runs, file, states)
