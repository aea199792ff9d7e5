"""Details of the page's entries, shown on a click: runs, hashes, metrics, commands."""

from typing import Any

from tokd_lightning.report import text
from tokd_lightning.report.model import MAJORITY, METRICS, FilledEntry, Report, commands
from tokd_lightning.report.reader import Result
from tokd_lightning.runs.record import RunRecord
from tokd_lightning.tables.grid import DATASETS
from tokd_lightning.tables.statistics import summary

MEASURES = {
    **dict(METRICS.values()),
    "Video accuracy": "test/video/acc",
    "Majority": MAJORITY,
}
MADE = (
    *("State", "Configuration", "Data", "Source", "Teacher", "Commit", "Time", "Device"),
    *("Precision", "Balance", "Selected epoch"),
)


def key_of(filled: FilledEntry) -> str:
    """Return the key of the details of an entry; entries filled by the same run share it."""
    entry = filled.entry
    name = entry.cell.name if entry.cell else ""
    return f"{name}@{entry.on}" if entry.on else name


def details(report: Report) -> dict[str, Any]:
    """Return the details of all entries, for the page's script."""
    found: dict[str, Any] = {}
    for table in report.tables:
        for filled in table.entries.values():
            if filled.entry.cell and key_of(filled) not in found:
                found[key_of(filled)] = _about(filled, report.runs)
    return {"cells": found, "measures": list(MEASURES), "made": MADE}


def _about(filled: FilledEntry, runs: str) -> dict[str, Any]:
    cell, on = filled.entry.cell, filled.entry.on
    assert cell is not None
    title = cell.title.removesuffix(f" seed {cell.seed}")
    if on:
        title += f", tested on {DATASETS[on].title}"
    said = f"{cell.name}: {filled.state}"
    if filled.other_frames:
        said += "; not tested on the same frames as most of its row"
    results = filled.results
    wanted = [result.cell for result in results] or [cell]
    teacher = cell.teacher
    lines = [("the teacher, first", commands(teacher, runs)[0])] if teacher else []
    lines += [(f"seed {one.seed}", "\n".join(commands(one, runs))) for one in wanted]
    return {
        "title": title,
        "state": said,
        "metrics": _metrics(filled),
        "runs": [{"name": f"seed {r.cell.seed}", "made": _made(r)} for r in results],
        "commands": lines,
    }


def _metrics(filled: FilledEntry) -> list[list[str | None]]:
    counted = filled.counted
    rows = [
        [f"seed {result.cell.seed}", *(_percent(result, key) for key in MEASURES.values())]
        for result in counted
    ]
    if len(counted) > 1:
        means: list[str | None] = ["mean ± sd"]
        for key in MEASURES.values():
            values = [result.metrics.get(key) for result in counted]
            ours = summary([100 * value for value in values if value is not None])
            means.append(text.mean_and_sd(ours, key) if ours else None)
        rows.append(means)
    return rows


def _percent(result: Result, key: str) -> str | None:
    value = result.metrics.get(key)
    return None if value is None else text.number(100 * value, key)


def _made(result: Result) -> list[str | None]:
    record = result.record or RunRecord(metrics={})
    reasons = f" ({', '.join(result.reasons)})" if result.reasons else ""
    made = [
        result.state + reasons,
        result.hash_of("config"),
        result.data_hash,
        result.hash_of("source"),
        result.hash_of("teacher"),
        record.commit,
        _time(record.fit_seconds),
        record.device,
        record.precision,
        record.balance,
        None if record.selected is None else record.selected.epoch + 1,
    ]
    return [str(value) if value not in (None, "") else None for value in made]


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if seconds >= 60 else f"{seconds:.0f} s"
