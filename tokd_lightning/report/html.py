"""The report as a self-contained HTML page: no network, no other files."""

import json
from html import escape
from itertools import groupby
from pathlib import Path

from tokd_lightning.report import text
from tokd_lightning.report.cells import cells, place_html
from tokd_lightning.report.evaluated_page import evaluated_sections
from tokd_lightning.report.model import METRICS, Report, TableReport
from tokd_lightning.report.plain import plain

_HERE = Path(__file__).parent
_TITLE = "TOKD: the paper’s tables, repeated"
_KEY = (
    "In each place: <b>ours</b>, mean ± sd over seeds, above <i>the paper’s number</i> and the "
    "difference; bold is the best of ours. Select a place for its command, seeds, hashes, time, "
    "device and all metrics."
)


def html(report: Report) -> str:
    """Return the HTML page."""
    data = json.dumps(cells(report), ensure_ascii=False).replace("<", "\\u003c")
    script = (_HERE / "page.js").read_text()
    sections = [_section(table, report) for table in report.tables]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{_TITLE}</title>",
        f"<style>\n{(_HERE / 'page.css').read_text()}</style>",
        "</head>",
        '<body data-metric="acc">',
        _top(report),
        _navigation(report),
        "<main>",
        *sections,
        evaluated_sections(report),
        _legend(),
        "</main>",
        _footer(report),
        '<dialog aria-labelledby="about"><div class="in"></div></dialog>',
        f'<script type="application/json" id="cells">{data}</script>',
        f"<script>\n{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _top(report: Report) -> str:
    source = f", commit <code>{escape(report.commit[:12])}</code>" if report.commit else ""
    data = ", ".join(map(escape, report.datasets))
    parts = [
        '<header class="top">',
        f"<h1>{_TITLE}</h1>",
        '<p class="meta">Two-in-one knowledge distillation for forgery detection, with '
        f"<b>tokd_lightning {escape(report.version)}</b>{source}. Made {escape(report.when)} from "
        f"<code>{escape(report.runs)}</code>.{f' Data: <b>{data}</b>.' if data else ''}</p>",
    ]
    if report.synthetic:
        said = escape(report.synthetic)
        parts.append(f'<div class="box synthetic"><p>{said}</p></div>')
    parts.append(_progress(report))
    if report.warnings:
        lines = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
        head = "Some files could not be read; all else is here:"
        parts.append(f'<div class="box warnings" role="status">{head}<ul>{lines}</ul></div>')
    parts.append("<noscript><p>The details of each cell are in report.csv.</p></noscript>")
    return "\n".join([*parts, "</header>"])


def _progress(report: Report) -> str:
    states = report.states()
    total = sum(states.values())
    if not total:
        return ""
    bars = "".join(
        f'<i class="{kind}" style="width:{100 * states.get(kind, 0) / total:.2f}%"></i>'
        for kind in ("done", "stale")
    )
    said = escape(text.progress(report))
    return (
        f'<div class="progress"><b>{said}</b><div class="bar" aria-hidden="true">{bars}</div></div>'
    )


def _navigation(report: Report) -> str:
    links = [(table.table.key, table.heading or "Beyond the paper") for table in report.tables]
    if report.pairs:
        at = next(n for n, (key, _) in enumerate(links) if key == "table3")
        links.insert(at + 1, ("both-rgb", "Both − RGB"))
    if report.evaluated:
        links.append(("evaluations", "Beyond the metrics"))
    items = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name in links)
    choices = "".join(
        f'<label><input type="radio" name="metric" value="{key}"'
        f"{' checked' if key == 'acc' else ''}>{escape(title)}</label>"
        for key, (title, _) in METRICS.items()
    )
    choice = (
        f"<fieldset><legend>Metric shown beside the paper’s accuracy</legend>{choices}</fieldset>"
    )
    return f'<nav aria-label="Report"><div><ul>{items}</ul>{choice}</div></nav>'


def _section(table: TableReport, report: Report) -> str:
    key, title = table.table.key, escape(table.table.title)
    head = f"<small>{table.heading}</small> {title}" if table.heading else title
    figure = report.figures.get(key)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    parts = [
        f'<section id="{key}">',
        f"<h2>{head}</h2>",
        f'<p class="key">{_KEY}</p>' if table is report.tables[0] else "",
        f'<div class="figure" tabindex="0">{figure.inline()}</div>' if figure else "",
        _table(table) if table.rows else "<p>Nothing for these data sets.</p>",
        f'<ul class="notes">{notes}</ul>' if notes else "",
        "</section>",
    ]
    if key == "table3" and report.pairs:
        parts.append(_pairs(report))
    return "\n".join(part for part in parts if part)


def _table(table: TableReport) -> str:
    heads, body = table.heads, []
    for name in table.lines:
        places = [table.at(name, head) for head in heads]
        inside = "".join(f"<td>{place_html(table, p) if p else ''}</td>" for p in places)
        body.append(f'<tr><th scope="row">{_named(name)}</th>{inside}</tr>')
    fit = " fit" if len(heads) < 7 else " wide" if len(heads) > 9 else ""
    label = f'role="group" aria-label="{escape(table.table.title)}"'
    lines = [
        f'<div class="scroll{fit}" tabindex="0" {label}>',
        f"<table><thead>{_heads(heads)}</thead>",
        "<tbody>",
        *body,
        "</tbody></table></div>",
    ]
    return "\n".join(lines)


def _named(name: str) -> str:
    first, comma, second = name.partition(", ")
    shown = f'<span class="nb">{escape(first)}</span>' if len(first) < 18 else escape(first)
    return f"{shown}<small>{escape(second)}</small>" if comma else shown


def _heads(columns: list[str]) -> str:
    """Return the header rows: two levels where neighbours share all but their last word."""
    upper, lower = ['<th rowspan="2"></th>'], []
    for prefix, members in groupby(columns, lambda column: column.rpartition(" ")[0]):
        names = list(members)
        if prefix and len(names) > 1:
            span = f'class="group" colspan="{len(names)}" scope="colgroup"'
            upper.append(f"<th {span}><span>{escape(prefix.rstrip(','))}</span></th>")
            lower += [f'<th scope="col">{escape(name[len(prefix) + 1 :])}</th>' for name in names]
        else:
            upper += [f'<th scope="col" rowspan="2">{_named(name)}</th>' for name in names]
    return f"<tr>{''.join(upper)}</tr><tr>{''.join(lower)}</tr>"


def _pairs(report: Report) -> str:
    figure = report.figures.get("both-rgb")
    counted = [[escape(part) for part in line] for line in text.verdicts(report.pairs)]
    rows, earlier = [], ""
    for pair in report.pairs:
        row, *rest = (escape(part) for part in text.pair_line(pair))
        rows.append([row if pair.row != earlier else "", *rest])
        earlier = pair.row
    return "\n".join(
        [
            '<section id="both-rgb" class="pairs">',
            "<h2>Both branches less RGB alone</h2>",
            "<p>The paper’s claim: taught both branches, TOKD gains and every other method "
            "loses. Here is the sign of each difference, in points of frame accuracy.</p>",
            plain(text.VERDICTS, counted, left=1),
            f'<div class="figure" tabindex="0">{figure.inline()}</div>' if figure else "",
            plain(text.PAIRS, rows, left=2),
            f'<p class="key">{escape(text.about_intervals(report.pairs))}</p>',
            "</section>",
        ]
    )


def _legend() -> str:
    words = "".join(
        f"<dt>{escape(word)}</dt><dd>{escape(what)}</dd>" for word, what in text.LEGEND.items()
    )
    return f'<section id="legend"><h2>Words and signs</h2><dl>{words}</dl></section>'


def _footer(report: Report) -> str:
    return (
        "<footer>Percent, test split, frame level unless said otherwise; a frame is called fake "
        "where P(fake) is above 0.5. One real video to four fakes: always saying fake has 80 % "
        "accuracy on FF++. All places in full precision, a row per seed: report.csv. "
        f"tokd_lightning {escape(report.version)}, {escape(report.when)}.</footer>"
    )
