"""Table entries of the page: their HTML, and the details shown on a click."""

from html import escape
from typing import Any

from tokd_lightning.report import text
from tokd_lightning.report.model import (
    CITED,
    MAJORITY,
    METRICS,
    Place,
    Report,
    TableReport,
    commands,
)
from tokd_lightning.report.reading import Result
from tokd_lightning.runs.record import RunRecord
from tokd_lightning.tables.entries import ACC
from tokd_lightning.tables.grid import DATASETS
from tokd_lightning.tables.statistics import Summary, summary

MEASURES = {
    **dict(METRICS.values()),
    "Video accuracy": "test/video/acc",
    "Majority": MAJORITY,
}
MADE = (
    *("State", "Configuration", "Data", "Source", "Teacher", "Commit", "Time", "Device"),
    *("Precision", "Balance", "Selected epoch"),
)


def key_of(place: Place) -> str:
    """Return the key of the details of an entry; entries filled by the same run share it."""
    entry = place.entry
    name = entry.cell.name if entry.cell else ""
    return f"{name}@{entry.on}" if entry.on else name


def place_html(table: TableReport, place: Place) -> str:
    """Return the HTML inside an entry of a table."""
    entry = place.entry
    switch = entry.metric == ACC and bool(place.values)
    parts = []
    if place.state != CITED:
        best = " best" if table.best(place) else ""
        parts.append(f'<span class="ours{best}">{_ours(place, switch)}</span>')
    below = ""
    if entry.published is not None:
        difference = "" if place.difference is None else text.signed(place.difference)
        what = '<b class="what">acc</b>' if switch else ""
        below = f'<span class="paper">{text.published(place)}</span>'
        below += f'<span class="more diff"><span>{difference}</span>{what}</span>'
    elif place.state == CITED:
        below = f'{text.NOTHING}<span class="more"></span>'
    parts.append(f'<span class="below">{below}</span>' if below else "")
    parts += [f'<span class="flag">{flag}</span>' for flag in text.flags(place)]
    inside = "".join(parts)
    if entry.cell is None:
        return f'<span class="place">{inside}</span>'
    # For screen readers, which do not see the headers.
    said = f"{entry.row}, {entry.column}: ours {text.ours(place)}, paper {text.published(place)}"
    kind = "place switch" if switch else "place"
    about = f'data-cell="{escape(key_of(place))}" aria-label="{escape(said)}"'
    return f'<button type="button" class="{kind}" {about}>{inside}</button>'


def _ours(place: Place, switch: bool) -> str:
    if place.ours is None:
        flag = ' class="flag unreadable"' if place.state == "unreadable" else ' class="state"'
        return f"<span{flag}>{escape(place.state)}</span>"
    if not switch:
        return _number(place.ours, place.entry.metric)
    return "".join(
        f'<span data-m="{name}">{_number(place.values.get(key), key)}</span>'
        for name, (_, key) in METRICS.items()
    )


def _number(ours: Summary | None, metric: str) -> str:
    if ours is None:
        return f'{text.NOTHING}<span class="more"></span>'
    mean, _, sd = text.mean_and_sd(ours, metric).partition(" ± ")
    return f'{mean}<span class="more">{"±" if sd else ""}{sd}</span>'


def cells(report: Report) -> dict[str, Any]:
    """Return the details of all entries, for the page's script."""
    found: dict[str, Any] = {}
    for table in report.tables:
        for place in table.places.values():
            if place.entry.cell and key_of(place) not in found:
                found[key_of(place)] = _about(place, report.runs)
    return {"cells": found, "measures": list(MEASURES), "made": MADE}


def _about(place: Place, runs: str) -> dict[str, Any]:
    cell, on = place.entry.cell, place.entry.on
    assert cell is not None
    title = cell.title.removesuffix(f" seed {cell.seed}")
    if on:
        title += f", tested on {DATASETS[on].title}"
    said = f"{cell.name}: {place.state}"
    if place.other_frames:
        said += "; not tested on the same frames as most of its row"
    results = place.results
    wanted = [result.cell for result in results] or [cell]
    teacher = cell.teacher
    lines = [("the teacher, first", commands(teacher, runs)[0])] if teacher else []
    lines += [(f"seed {one.seed}", "\n".join(commands(one, runs))) for one in wanted]
    return {
        "title": title,
        "state": said,
        "metrics": _metrics(place),
        "runs": [{"name": f"seed {r.cell.seed}", "made": _made(r)} for r in results],
        "commands": lines,
    }


def _metrics(place: Place) -> list[list[str | None]]:
    counted = place.counted
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
