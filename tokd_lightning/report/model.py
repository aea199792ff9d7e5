"""Data model of the report: the entries of every table, filled, cited or empty."""

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from tokd_lightning.report.conflict import Pair
from tokd_lightning.report.evaluations import EvaluatedOn
from tokd_lightning.report.reader import NOT_RUN, STALE, Result, state_among
from tokd_lightning.report.svg import Svg
from tokd_lightning.tables.entries import ACC, AUC, EER, Entry, PaperTable
from tokd_lightning.tables.grid import GridCell
from tokd_lightning.tables.statistics import Summary

# Metrics that the reader can choose to show instead of the accuracy.
METRICS = {
    "acc": ("Accuracy", ACC),
    "balanced": ("Balanced accuracy", "test/frame/balanced_acc"),
    "auc": ("AUC", AUC),
    "eer": ("EER", EER),
    "video": ("Video AUC", "test/video/auc"),
}
MAJORITY = "test/frame/majority"
_MAX_COLUMNS = 13  # maximum number of columns that fit on a page
CITED, COMPUTED, NOT_COMPUTED = "cited", "computed", "not computed"


@dataclass(frozen=True)
class FilledEntry:
    """An entry of a table with our results.

    Args:
        entry: The entry of the paper's table.
        state: ``done``, ``stale``, ``not run``, ``cited``, ….
        results: Results of the existing runs, by seed.
        values: Metric -> ours over the seeds: percent, millions, 10^9 operations, milliseconds.
        other_frames: Whether it was tested on other frames than most of its row.
    """

    entry: Entry
    state: str
    results: tuple[Result, ...] = ()
    values: dict[str, Summary] = field(default_factory=dict)
    other_frames: bool = False

    @property
    def ours(self) -> Summary | None:
        """Our result for the metric of the paper's entry."""
        return self.values.get(self.entry.metric)

    @property
    def difference(self) -> float | None:
        """Ours minus the published number; None if either is missing or ours is stale."""
        published = self.entry.published
        if self.state == STALE:
            return None
        return None if self.ours is None or published is None else self.ours.mean - published

    @property
    def counted(self) -> tuple[Result, ...]:
        """The runs behind ours."""
        return tuple(result for result in self.results if result.counts)


@dataclass(frozen=True)
class TableReport:
    """A table of the paper with our results.

    Args:
        table: The paper's table.
        entries: The entries by row and column.
        notes: Caveats on our results, then the notes of the paper's table.
    """

    table: PaperTable
    entries: dict[tuple[str, str], FilledEntry]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        """Rows in the paper's order."""
        return list(dict.fromkeys(entry.row for entry in self.table.entries))

    @property
    def columns(self) -> list[str]:
        """Columns in the paper's order."""
        return list(dict.fromkeys(entry.column for entry in self.table.entries))

    @property
    def heading(self) -> str:
        """``Table 3``, ``Figure 4`` or, if not in the paper, empty."""
        key = self.table.key
        return f"{key[:-1].capitalize()} {key[-1]}" if key[-1].isdigit() else ""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The entries as shown, None where there is none; transposed if wider than a page."""
        found = [[self.entries.get((row, column)) for column in self.columns] for row in self.rows]
        frame = pd.DataFrame(found, self.rows, self.columns, dtype=object)
        return frame.T if len(self.columns) > _MAX_COLUMNS else frame

    def filled(self) -> "TableReport | None":
        """Return the table without rows and columns that no run has filled; None if all are empty.

        Rows and columns that only have cited numbers are kept.
        """
        empty = {key for key, filled in self.entries.items() if _is_empty(filled)}
        wanted = {key for key, filled in self.entries.items() if filled.state != CITED} - empty
        if not wanted:
            return None
        rows, columns = ({key[axis] for key in empty} - {key[axis] for key in wanted}
                         for axis in (0, 1))  # fmt: skip
        kept = tuple(e for e in self.table.entries if e.row not in rows and e.column not in columns)
        entries = {
            (entry.row, entry.column): self.entries[entry.row, entry.column] for entry in kept
        }
        return replace(self, table=replace(self.table, entries=kept), entries=entries)

    def best(self, filled: FilledEntry) -> bool:
        """Return whether ours is the best, of at least two, of its row (Table 3) or column."""
        row, column = filled.entry.row, filled.entry.column
        by_row = self.table.key in {"table3", "beyond"}
        rivals = [
            other.ours.mean
            for (r, c), other in self.entries.items()
            if other.ours and other.state != STALE and (r == row if by_row else c == column)
        ]
        if (
            filled.ours is None
            or filled.state == STALE
            or len(rivals) < 2
            or not filled.entry.metric.startswith("test/")
        ):
            return False
        return filled.ours.mean == (min if filled.entry.metric == EER else max)(rivals)


@dataclass(frozen=True)
class Report:
    """All data that the renderers need.

    Args:
        tables: Tables and figures in the paper's order.
        pairs: Comparisons of both with rgb, for Table 3.
        figures: Name of a figure -> its drawing.
        warnings: Files that could not be read, and other warnings, a line each.
        runs: Folder of all runs, as given.
        when: Date of the report.
        version: Version of this package.
        commit: Commit of its source.
        evaluated: Results of ``tokd evaluate``, by data set.
        bundle: The bundle that it was made from, and what wrote it; empty for run folders.
    """

    tables: tuple[TableReport, ...]
    pairs: tuple[Pair, ...]
    figures: Mapping[str, Svg]
    warnings: tuple[str, ...]
    runs: str
    when: str
    version: str
    commit: str
    evaluated: tuple[EvaluatedOn, ...] = ()
    bundle: str = ""

    def states(self) -> dict[str, int]:
        """Count the cells by their state, each cell once."""
        cells = {
            filled.entry.cell.name: state_among(filled.results)
            for filled in self._entries()
            if filled.entry.cell and not filled.entry.on
        }
        elsewhere = {
            (filled.entry.cell.name, filled.entry.on): filled.state.replace(CITED, NOT_RUN)
            for filled in self._entries()
            if filled.entry.cell and filled.entry.on
        }
        return dict(Counter([*cells.values(), *elsewhere.values()]).most_common())

    @property
    def synthetic(self) -> str:
        """A sentence about synthetic data among the runs; empty without any."""
        records = [result.record for filled in self._entries() for result in filled.counted]
        drawn = {record.synthetic for record in records if record}
        if True not in drawn:
            return ""
        which = "Some of these numbers are" if False in drawn else "All numbers here are"
        return f"{which} of synthetic data and say nothing about FF++ or Celeb-DF."

    @property
    def datasets(self) -> list[str]:
        """Data sets of the cells."""
        found = (filled.entry.cell.dataset for filled in self._entries() if filled.entry.cell)
        return list(dict.fromkeys(f"{data.title} ({data.quality})" for data in found))

    def _entries(self) -> list[FilledEntry]:
        return [filled for table in self.tables for filled in table.entries.values()]


def _is_empty(filled: FilledEntry) -> bool:
    return filled.state != CITED and filled.ours is None


def commands(cell: GridCell, runs: str) -> list[str]:
    """Return the two command lines that fit and test a run."""
    fit = shlex.join(["tokd", "fit", *cell.arguments(None, Path(runs))])
    test = shlex.join(["tokd", "test", "--config", str(Path(runs) / cell.name / "fit.yaml")])
    return [fit, test]
