"""The report as CSV: one row per entry and seed, in full precision."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from tokd_lightning.report.model import MAJORITY, METRICS, Place, Report, commands
from tokd_lightning.report.reading import Result

COLUMNS = (
    *("table", "row", "column", "metric", "published", "ours", "difference", "state", "reasons"),
    *("run", "seed", "tested_on", *METRICS, "majority", "parameters", "macs"),
    *("config_hash", "source_hash", "data_hash", "teacher_hash", "commit", "seconds", "device"),
    *("precision", "balance", "synthetic", "other_frames", "command"),
)
_RECORDED = ("parameters", "macs", "commit", "device", "precision", "balance", "synthetic")


def long_form(report: Report) -> str:
    """Return every entry as CSV: a row per seed with a run, or one row without any run.

    ``published``, ``ours`` and ``difference`` have the table's unit (percent, millions, 10^9
    operations); the other metrics are fractions.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        for place in table.places.values():
            entry = place.entry
            start: dict[str, Any] = {"table": table.table.key, "metric": entry.metric}
            start |= {"row": entry.row, "column": entry.column, "published": entry.published}
            for row in _rows(place, report.runs):
                writer.writerow(start | row)
    return text.getvalue()


def _rows(place: Place, runs: str) -> Iterator[dict[str, Any]]:
    entry = place.entry
    if not place.results:
        row: dict[str, Any] = {"state": place.state}
        if place.ours:
            row |= {"ours": place.ours.mean, "difference": place.difference}
        if entry.cell:
            row |= {"run": entry.cell.name, "seed": entry.cell.seed}
            row["command"] = " && ".join(commands(entry.cell, runs))
        yield row
        return
    for result in place.results:
        yield _of(result, place, runs)


def _of(result: Result, place: Place, runs: str) -> dict[str, Any]:
    cell, entry = result.cell, place.entry
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
        row |= {key: getattr(record, key) for key in _RECORDED}
        row["seconds"] = record.fit_seconds
    row |= {f"{what}_hash": result.hash_of(what) for what in ("config", "source", "teacher")}
    row |= {"data_hash": result.data_hash, "other_frames": place.other_frames or None}
    return row | {"command": " && ".join(commands(cell, runs))}
