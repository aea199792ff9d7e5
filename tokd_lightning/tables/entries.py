"""Tables of the paper as lists of entries, each filled by a run or cited."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from tokd_lightning.tables.grid import GridCell, Option, sharing

ACC, AUC, EER = "test/frame/acc", "test/frame/auc", "test/frame/eer"
HEADS = {"ffpp": "FF++ c40", "celebdf": "Celeb-DF", "demo": "mini-FF++ c40"}
HEADS["demo-c23"] = "mini-FF++ c23"


def auc_of(method: str) -> str:
    """Return the key of the AUC of one forgery against all real frames."""
    return f"{AUC} of {method}"


def auc_without(method: str) -> str:
    """Return the key of the AUC of all other forgeries against all real frames."""
    return f"{AUC} without {method}"


class Entry(NamedTuple):
    """One entry of a table.

    Attributes:
        row: Its row.
        column: Its column.
        metric: Key in ``metrics.json`` or in an evaluation; else ``parameters``, ``macs`` or
            ``latency``.
        published: The paper's number: percent, millions of parameters or 10^9 operations.
        cell: The run that fills it; None if the paper cites the number or no training is needed.
        on: Key of the data set that it is evaluated on, if it differs from the run's own.
        interval: Whether several seeds are shown with the interval of their mean, not their sd.
    """

    row: str
    column: str
    metric: str
    published: float | None
    cell: GridCell | None = None
    on: str = ""
    interval: bool = False

    @property
    def cited(self) -> bool:
        """Return whether the number is cited from other work, which is not run here."""
        return self.cell is None and self.metric.startswith("test/")


@dataclass(frozen=True)
class PaperTable:
    """A table or a figure of the paper.

    Args:
        key: ``table3``, ``figure4``, ``beyond``.
        title: What it shows.
        entries: Its entries; rows and columns are in the order of their first appearance.
        notes: Remarks on the published numbers.
    """

    key: str
    title: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def sharing(self, common: tuple[Option, ...]) -> "PaperTable":
        """Return the table of the runs that share these options (``--set``)."""
        entries = tuple(
            entry._replace(cell=sharing(entry.cell, common)) if entry.cell else entry
            for entry in self.entries
        )
        return replace(self, entries=entries)

    @property
    def cells(self) -> list[GridCell]:
        """The runs that the table needs, each once, without their teachers."""
        found = {entry.cell.name: entry.cell for entry in self.entries if entry.cell}
        return list(found.values())
