"""Construction of the report: the paper's tables filled with the results of the runs."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tokd_lightning import __version__
from tokd_lightning.report.conflict import Pair, compare_branches
from tokd_lightning.report.evaluated_figures import reliability_figure, robustness_figure
from tokd_lightning.report.evaluations import EvaluatedOn, figure_name, read_evaluations
from tokd_lightning.report.figures import alpha_figure, cosine_figure, pairs_figure
from tokd_lightning.report.model import (
    CITED,
    COMPUTED,
    MAJORITY,
    METRICS,
    NOT_COMPUTED,
    FilledEntry,
    Report,
    TableReport,
)
from tokd_lightning.report.reader import NOT_RUN, Reader, Result, state_among
from tokd_lightning.report.svg import Svg
from tokd_lightning.runs.identity import DETECTOR
from tokd_lightning.runs.provenance import commit, comparable_data
from tokd_lightning.tables.entries import Entry, PaperTable
from tokd_lightning.tables.grid import DETECTORS, STUDENTS
from tokd_lightning.tables.statistics import Summary, summary

_SCALES = {"parameters": 1e-6, "macs": 1e-9, "latency": 1.0}
# Row of Table 1 or 2 -> network whose size it shows.
_NETWORKS = {name: name for name in (*STUDENTS.values(), "Teacher")} | {"TOKD": "Xception"}
_NETWORKS |= {title: title for title in DETECTORS.values()}


def build(tables: Sequence[PaperTable], reader: Reader) -> Report:
    """Fill the tables with the results of the runs.

    Args:
        tables: Tables and figures.
        reader: Reader of the folder of runs.
    """
    filled = tuple(_fill(table, reader) for table in tables)
    third = [table for table in filled if table.table.key == "table3"]
    pairs = tuple(pair for table in third for pair in compare_branches(table.table, reader))
    shown = {entry.cell.dataset.name for t in tables for entry in t.entries if entry.cell}
    evaluated = read_evaluations(reader, shown)
    figures = _figures(filled, pairs, evaluated, reader)
    return Report(
        filled,
        pairs,
        figures,
        tuple(reader.warnings),
        str(reader.runs),
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        __version__,
        commit() or "",
        evaluated,
    )


def _figures(
    tables: Sequence[TableReport],
    pairs: Sequence[Pair],
    evaluated: Sequence[EvaluatedOn],
    reader: Reader,
) -> dict[str, Svg]:
    title = "Both branches minus RGB, by method"
    drawn = [("both-rgb", title, pairs_figure(pairs))]
    for table in tables:
        if table.table.key == "figure3":
            drawn.append(("figure3", table.table.title, alpha_figure(table)))
        elif table.table.key == "figure4":
            drawn.append(("figure4", table.table.title, cosine_figure(table, reader)))
    for its in evaluated:
        for kind, title, draw in (
            ("robustness", "AUC over strength", robustness_figure),
            ("reliability", "Reliability", reliability_figure),
        ):
            drawn.append((figure_name(kind, its.name), f"{title} on {its.title}", draw(its)))
    return {name: Svg(figure, name, title) for name, title, figure in drawn if figure}


def _fill(table: PaperTable, reader: Reader) -> TableReport:
    sizes = reader.sizes()
    results = {
        (entry.row, entry.column): reader.results(entry.cell, entry.on) if entry.cell else ()
        for entry in table.entries
    }
    odd, notes = _other_frames(table, results)
    filled = {}
    for entry in table.entries:
        key = entry.row, entry.column
        if entry.cell is None:
            filled[key] = _without_run(entry, sizes)
        else:
            values = _values(entry, results[key])
            state = state_among(results[key])
            if entry.cell.role == DETECTOR and state == NOT_RUN and entry.published is not None:
                state = CITED  # until it is run
            filled[key] = FilledEntry(entry, state, results[key], values, key in odd)
    return TableReport(table, filled, (*notes, *table.notes))


def _without_run(entry: Entry, sizes: dict[str, dict[str, float]]) -> FilledEntry:
    if entry.cited:
        return FilledEntry(entry, CITED)
    if entry.row not in _NETWORKS:
        return FilledEntry(entry, CITED)
    size = sizes.get(_NETWORKS[entry.row], {}).get(entry.metric)
    if size is None:
        return FilledEntry(entry, CITED if entry.row in DETECTORS.values() else NOT_COMPUTED)
    ours = Summary(size * _SCALES[entry.metric], None, 1)
    return FilledEntry(entry, COMPUTED, (), {entry.metric: ours})


def _values(entry: Entry, results: Sequence[Result]) -> dict[str, Summary]:
    wanted = dict.fromkeys([entry.metric, *(key for _, key in METRICS.values()), MAJORITY])
    values = {}
    for key in wanted:
        found = [result.metrics.get(key) for result in results if result.counts]
        if ours := summary([100 * value for value in found if value is not None]):
            values[key] = ours
    return values


def _other_frames(
    table: PaperTable, results: dict[tuple[str, str], tuple[Result, ...]]
) -> tuple[set[tuple[str, str]], list[str]]:
    """Return the entries tested on other frames than most of their row, and notes on them."""
    groups: dict[tuple[str, str], list[tuple[tuple[str, str], Result]]] = {}
    for entry in table.entries:
        if entry.cell:
            key = entry.row, entry.column
            group = groups.setdefault((entry.row, entry.on or entry.cell.data), [])
            group += [(key, r) for r in results[key] if r.counts and r.data_hash]
    odd: set[tuple[str, str]] = set()
    notes = []
    for (row, _), group in groups.items():
        hashes = comparable_data([result.data_hashes for _, result in group])
        found = [(key, data) for (key, _), data in zip(group, hashes, strict=True)]
        counts = Counter(hashes)
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            odd |= {key for key, data in found if data != usual}
            notes.append(
                f"Row “{row}”: its runs were not tested on the same frames "
                f"({len(counts)} data hashes); those that differ from most are marked."
            )
    return odd, notes
