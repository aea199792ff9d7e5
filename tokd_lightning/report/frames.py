"""Tables of the report as DataFrames: one per table, from which all forms are written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from tokd_lightning.report import text
from tokd_lightning.report.conflict import Pair, tally
from tokd_lightning.report.model import (
    CITED,
    MAJORITY,
    METRICS,
    FilledEntry,
    Report,
    TableReport,
    commands,
)
from tokd_lightning.report.reader import Result

PAPER, OURS, DIFFERENCE = "paper", "ours", "difference"
COLUMNS = (
    *("table", "row", "column", "metric", "published", "ours", "difference", "state", "reasons"),
    *("run", "seed", "tested_on", *METRICS, "majority", "parameters", "macs"),
    *("config_hash", "source_hash", "data_hash", "teacher_hash", "commit", "seconds", "device"),
    *("precision", "balance", "synthetic", "other_frames", "command"),
)
_RECORDED = ("parameters", "macs", "commit", "device", "precision", "balance", "synthetic")
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#~"})


def table_frame(table: TableReport) -> pd.DataFrame:
    """Return a table as texts, up to three lines per row: the paper's, ours, and the difference.

    Lines without any text are left out. The index is (row, ``paper`` | ``ours`` | ``difference``).
    """
    lines: dict[str, tuple[Callable[[FilledEntry], bool], Callable[[FilledEntry], str]]] = {
        PAPER: (lambda it: it.entry.published is not None, text.published),
        OURS: (lambda it: it.state != CITED, _ours),
        DIFFERENCE: (lambda it: it.difference is not None, _difference),
    }
    index, rows = [], []
    for row, entries in table.frame.iterrows():
        known = [entry for entry in entries if entry is not None]
        for kind, (has, shown) in lines.items():
            if any(map(has, known)):
                index.append((row, kind))
                rows.append(["" if entry is None else shown(entry) for entry in entries])
    names = pd.MultiIndex.from_tuples(index or [("", "")], names=["", ""])
    return pd.DataFrame(rows or [[""] * len(table.frame.columns)], names, table.frame.columns)


def _ours(filled: FilledEntry) -> str:
    return text.ours(filled) + "".join(f" ({flag})" for flag in text.flags(filled))


def _difference(filled: FilledEntry) -> str:
    return "" if filled.difference is None else text.signed(filled.difference)


def verdicts_frame(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Count per method the rows in which both is above rgb, in the paper and in our runs."""
    rows = []
    for method in dict.fromkeys(pair.method for pair in pairs):
        mine = [pair for pair in pairs if pair.method == method]
        found = [pair.difference for pair in mine if pair.difference]
        sure = sum(difference.low * difference.high > 0 for difference in found)
        paper = _tallied([pair.published for pair in mine])
        ours = _tallied([difference.mean for difference in found])
        rows.append((method, paper, ours, f"{sure} of {len(found)}" if found else text.NOTHING))
    heads = ("Method", "Paper: both above RGB", "Ours: both above RGB", "Interval excludes 0")
    return pd.DataFrame(rows, columns=heads).set_index("Method")


def _tallied(differences: Sequence[float | None]) -> str:
    found = tally(differences)
    tied = found.known - found.positive - found.negative
    ties = f" ({tied} tied)" if tied else ""
    return f"{found.positive} of {found.known}{ties}" if found.known else text.NOTHING


def pairs_frame(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return both - rgb of every row and method, with its interval or why there is none."""
    heads = ("Row", "Method", "Paper", "Ours", "95 % interval", "Seeds above 0")
    return pd.DataFrame(map(_pair, pairs), columns=heads).set_index(["Row", "Method"])


def _pair(pair: Pair) -> tuple[str, ...]:
    paper = text.NOTHING if pair.published is None else text.signed(pair.published)
    found = pair.difference
    if found is None:
        return pair.row, pair.method, paper, text.NOTHING, pair.why, text.NOTHING
    interval = f"[{text.signed(100 * found.low)}, {text.signed(100 * found.high)}]"
    seeds = f"{found.positive} of {len(pair.seeds)}"
    return pair.row, pair.method, paper, text.signed(100 * found.mean), interval, seeds


def long_frame(report: Report) -> pd.DataFrame:
    """Return every entry in full precision: a row per seed with a run, or one row without any run.

    ``published``, ``ours`` and ``difference`` have the table's unit (percent, millions, 10^9
    operations); the other metrics are fractions.
    """
    rows = []
    for table in report.tables:
        for filled in table.entries.values():
            entry = filled.entry
            start: dict[str, Any] = {"table": table.table.key, "metric": entry.metric}
            start |= {"row": entry.row, "column": entry.column, "published": entry.published}
            rows += [start | row for row in _rows(filled, report.runs)]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _rows(filled: FilledEntry, runs: str) -> Iterator[dict[str, Any]]:
    entry = filled.entry
    if filled.results:
        yield from (_of(result, filled, runs) for result in filled.results)
        return
    row: dict[str, Any] = {"state": filled.state}
    if filled.ours:
        row |= {"ours": filled.ours.mean, "difference": filled.difference}
    if entry.cell:
        row |= {"run": entry.cell.name, "seed": entry.cell.seed}
        row["command"] = " && ".join(commands(entry.cell, runs))
    yield row


def _of(result: Result, filled: FilledEntry, runs: str) -> dict[str, Any]:
    cell, entry = result.cell, filled.entry
    row: dict[str, Any] = {"state": result.state, "reasons": "; ".join(result.reasons)}
    row |= {"run": cell.name, "seed": cell.seed, "tested_on": entry.on or cell.data}
    row |= {key: result.metrics.get(name) for key, (_, name) in METRICS.items()}
    row["majority"] = result.metrics.get(MAJORITY)
    value = result.metrics.get(entry.metric)
    if result.counts and value is not None:
        row["ours"] = 100 * value
        if entry.published is not None:
            row["difference"] = 100 * value - entry.published
    if record := result.record:
        row |= {key: getattr(record, key) for key in _RECORDED} | {"seconds": record.fit_seconds}
    row |= {f"{what}_hash": result.hash_of(what) for what in ("config", "source", "teacher")}
    row |= {"data_hash": result.data_hash, "other_frames": filled.other_frames or None}
    return row | {"command": " && ".join(commands(cell, runs))}


def escape(raw: str) -> str:
    """Escape the special characters of Markdown."""
    return " ".join(raw.translate(_MARKDOWN).splitlines())


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table of texts as Markdown, its index as columns on the left."""
    rule = ["---"] * frame.index.nlevels + ["---:"] * len(frame.columns)
    rows = [[*key, *values] for key, values in records(frame)]
    lines = [list(map(escape, line)) for line in (headers(frame), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def headers(frame: pd.DataFrame) -> list[str]:
    """Return the names of the index levels and of the columns."""
    return [*(str(name or "") for name in frame.index.names), *map(str, frame.columns)]


def records(frame: pd.DataFrame) -> list[tuple[list[str], list[str]]]:
    """Return the index and the values of every row."""
    keys = [list(key) if isinstance(key, tuple) else [key] for key in frame.index]
    return list(zip(keys, frame.to_numpy().tolist(), strict=True))
