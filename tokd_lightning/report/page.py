"""The report as a self-contained HTML page and as Markdown, from the templates next to it."""

from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from tokd_lightning.report import text
from tokd_lightning.report.evaluated_figures import MAX_RUNS
from tokd_lightning.report.evaluated_frames import evaluated_parts
from tokd_lightning.report.evaluations import figure_name
from tokd_lightning.report.frames import (
    escape,
    headers,
    markdown_table,
    pairs_frame,
    records,
    table_frame,
    verdicts_frame,
)
from tokd_lightning.report.model import METRICS, FilledEntry, Report
from tokd_lightning.report.page_details import details, key_of
from tokd_lightning.report.svg import DARK, LIGHT


def column_groups(columns: list[str]) -> list[tuple[str, list[str]]]:
    """Group neighbouring columns that share all but their last word; others stay alone."""
    groups: list[tuple[str, list[str]]] = []
    for prefix, members in groupby(columns, lambda column: column.rpartition(" ")[0]):
        names = list(members)
        if prefix and len(names) > 1:
            groups.append((prefix.rstrip(","), [name[len(prefix) + 1 :] for name in names]))
        else:
            groups += [("", [name]) for name in names]
    return groups


def mean_and_sd(filled: FilledEntry, key: str) -> tuple[str, str]:
    """Return ours for a metric: the mean, and the sd, the interval, or an empty text."""
    if (ours := filled.values.get(key)) is None:
        return text.NOTHING, ""
    if filled.entry.interval and ours.interval:
        mean, _, interval = text.ours(filled).partition(" ")
        return mean, f" {interval}"
    mean, _, sd = text.mean_and_sd(ours, key).partition(" ± ")
    return mean, f"±{sd}" if sd else ""


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html.j2"]),
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"md": escape, "md_table": markdown_table}
_HELPERS: dict[str, Any] = {
    "text": text,
    "metrics": METRICS,
    "light": LIGHT,
    "dark": DARK,
    "max_runs": MAX_RUNS,
    "key_of": key_of,
    "mean_and_sd": mean_and_sd,
    "headers": headers,
    "records": records,
    "column_groups": column_groups,
    "parts": evaluated_parts,
    "figure_name": figure_name,
    "table_frame": table_frame,
    "verdicts": verdicts_frame,
    "pairs": pairs_frame,
}


def html(report: Report) -> str:
    """Return the HTML page: no network, no other files."""
    return render("page.html.j2", report=report, details=details(report))


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    return render("report.md.j2", report=report)


def render(template: str, **values: Any) -> str:
    """Render a template of ``templates/`` with the functions that all of them share."""
    return _ENVIRONMENT.get_template(template).render(**values, **_HELPERS)
