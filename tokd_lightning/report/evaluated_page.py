"""Section of the page on evaluations beyond the paper's metrics."""

from html import escape

from tokd_lightning.report.evaluated_figures import MOST
from tokd_lightning.report.evaluated_text import Part, evaluated_parts
from tokd_lightning.report.evaluations import EvaluatedOn, figure_name
from tokd_lightning.report.model import Report
from tokd_lightning.report.plain import plain


def evaluated_sections(report: Report) -> str:
    """Return the section's HTML; empty if nothing was evaluated."""
    if not report.evaluated:
        return ""
    parts = [
        '<section id="evaluations" class="beyond">',
        "<h2>Beyond the paper’s metrics</h2>",
        '<p class="key">What <code>tokd evaluate</code> has found: whether P(fake) means what it '
        "says, what is found when few reals may be accused, how each forgery fares, and what is "
        "left when pictures get worse.</p>",
        *(_on(its, report) for its in report.evaluated),
        "</section>",
    ]
    return "\n".join(parts)


def _on(its: EvaluatedOn, report: Report) -> str:
    overview, *others = evaluated_parts(its)
    parts = [f"<h3>On {escape(its.title)}</h3>", _part(overview)]
    if len(its.runs) > MOST:
        parts.append(f'<p class="key">In the figures: the {MOST} runs of the highest AUC.</p>')
    for kind in ("robustness", "reliability"):
        if figure := report.figures.get(figure_name(kind, its.name)):
            parts.append(f'<div class="figure" tabindex="0">{figure.inline()}</div>')
    for part in others:
        title = escape(part.title)
        parts.append(f"<details><summary>{title}</summary>{_part(part)}</details>")
    return "\n".join(parts)


def _part(part: Part) -> str:
    rows = [[escape(text) for text in row] for row in part.rows]
    notes = "".join(f"<li>{escape(note)}</li>" for note in part.notes)
    return plain(part.heads, rows, part.left) + f'<ul class="notes">{notes}</ul>'
