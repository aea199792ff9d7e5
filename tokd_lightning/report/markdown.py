"""The report as Markdown."""

from collections.abc import Sequence

from tokd_lightning.report import text
from tokd_lightning.report.evaluated_text import evaluated_parts
from tokd_lightning.report.evaluations import EvaluatedOn
from tokd_lightning.report.model import Report, TableReport

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#~"})


def escape(raw: str) -> str:
    """Escape the special characters of Markdown."""
    return " ".join(raw.translate(_SPECIAL).splitlines())


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    about = f"{report.when}, tokd_lightning {report.version}"
    if report.commit:
        about += f", commit {report.commit[:12]}"
    parts = ["# TOKD: the paper's tables, repeated", escape(f"{about}, runs in {report.runs}.")]
    if report.datasets:
        parts.append(escape(f"Data: {', '.join(report.datasets)}."))
    if report.synthetic:
        parts.append(f"**{escape(report.synthetic)}**")
    parts.append(f"**{escape(text.progress(report))}**")
    if report.warnings:
        parts.append("\n".join(f"- warning: {escape(line)}" for line in report.warnings))
    for table in report.tables:
        parts.append(_table(table))
        if table.table.key == "table3" and report.pairs:
            parts.append(_pairs(report))
    parts += [_evaluated(its) for its in report.evaluated]
    legend = "\n".join(f"- {escape(word)}: {escape(what)}" for word, what in text.LEGEND.items())
    return "\n\n".join([*parts, "## Words", legend]) + "\n"


def _table(table: TableReport) -> str:
    head = f"{table.heading}. {table.table.title}" if table.heading else table.table.title
    lines = text.lines(table)
    body = [[row, kind, *texts] for row, kind, texts in lines]
    notes = "\n".join(f"- {escape(note)}" for note in table.notes)
    rows = _rows(["", "", *table.heads], body) if body else "Nothing for these data sets."
    return "\n\n".join(part for part in (f"## {escape(head)}", rows, notes) if part)


def _pairs(report: Report) -> str:
    counted = _rows(text.VERDICTS, text.verdicts(report.pairs), left=1)
    each = _rows(text.PAIRS, [text.pair_line(pair) for pair in report.pairs])
    about = escape(text.about_intervals(report.pairs))
    return "\n\n".join(["## Both − RGB", counted, each, about])


def _evaluated(its: EvaluatedOn) -> str:
    parts = [f"## {escape(f'Beyond the paper: {its.title}')}"]
    for part in evaluated_parts(its):
        parts += [f"### {escape(part.title)}", _rows(part.heads, part.rows, part.left)]
        parts += [escape(note) for note in part.notes]
    return "\n\n".join(parts)


def _rows(heads: Sequence[str], body: Sequence[Sequence[str]], left: int = 2) -> str:
    rule = [*["---"] * left, *["---:"] * (len(heads) - left)]
    written = [[escape(part) for part in line] for line in (heads, *body)]
    lines = [written[0], rule, *written[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
