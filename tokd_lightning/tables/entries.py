"""What a table of the paper is made of: places, each filled by a run or cited."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from tokd_lightning.tables.grid import GridCell, Option, sharing

ACC, AUC, EER = "test/frame/acc", "test/frame/auc", "test/frame/eer"
HEADS = {"ffpp": "FF++ c40", "celebdf": "Celeb-DF", "demo": "mini-FF++ c40"}
HEADS["demo-c23"] = "mini-FF++ c23"


class Entry(NamedTuple):
    """One place of a table.

    Attributes:
        row: Its row.
        column: Its column.
        metric: Key in ``metrics.json`` or in an evaluation; ``parameters`` or ``macs``.
        published: The paper's number: percent, millions of parameters or 10^9 operations.
        cell: The run that fills it; None where the paper cites it or it needs no training.
        on: Key of the data set that it is evaluated on, where that is not its own.
    """

    row: str
    column: str
    metric: str
    published: float | None
    cell: GridCell | None = None
    on: str = ""

    @property
    def cited(self) -> bool:
        """Whether the number is of other work, which is not run here."""
        return self.cell is None and self.metric.startswith("test/")


@dataclass(frozen=True)
class PaperTable:
    """A table or a figure of the paper.

    Args:
        key: ``table3``, ``figure4``, ``beyond``.
        title: What it shows.
        entries: Its places, rows and columns in the order of their first appearance.
        notes: What a reader of the published numbers should know.
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
        """The runs that it needs, each once, without their teachers."""
        found = {entry.cell.name: entry.cell for entry in self.entries if entry.cell}
        return list(found.values())
