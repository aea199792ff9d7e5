"""LaTeX tables, for ``booktabs``."""

from tokd_lightning.report import text
from tokd_lightning.report.model import Report, TableReport

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "“": "``",
    "”": "''",
    "α": r"$\alpha$",
}


def escape(raw: str) -> str:
    """Escape the special characters of LaTeX."""
    return " ".join("".join(_SPECIAL.get(c, c) for c in raw).splitlines())


def latex(table: TableReport) -> str:
    r"""Return one table as a ``table*`` that needs ``booktabs`` and ``graphicx``.

    Each row has a line with the paper's numbers, one with ours and one with the differences. The
    best of ours is bold, per row where rows compare methods, else per column.
    """
    number = "".join(c for c in table.heading if c.isdigit())
    label = f"{table.heading} of the paper: " if number else ""
    lines = []
    earlier = ""
    for row, kind, texts in text.lines(table):
        if earlier and row != earlier:
            lines.append(r"\addlinespace")
        shown = [escape(part) for part in texts]
        if kind == text.OURS:
            places = [table.at(row, head) for head in table.heads]
            shown = [
                rf"\textbf{{{part}}}" if place and table.best(place) else part
                for part, place in zip(shown, places, strict=True)
            ]
        name = escape(row) if row != earlier else ""
        lines.append(" & ".join([name, kind, *shown]) + r" \\")
        earlier = row
    heads = [rf"\multicolumn{{1}}{{c}}{{{escape(column)}}}" for column in table.heads]
    notes = " ".join(escape(note) for note in table.notes)
    parts = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(label + table.table.title)}. Mean $\pm$ sd over seeds. {notes}}}",
        rf"\label{{tab:{table.table.key}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{ll{'r' * len(table.heads)}}}",
        r"\toprule",
        " & ".join(["", "", *heads]) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(parts) + "\n"


def latex_pairs(report: Report) -> str:
    """Return a table of both - rgb of every row and method, with its interval."""
    lines = []
    earlier = ""
    for pair in report.pairs:
        if earlier and pair.row != earlier:
            lines.append(r"\addlinespace")
        row, *rest = text.pair_line(pair)
        parts = [row if row != earlier else "", *rest]
        lines.append(" & ".join(escape(part) for part in parts) + r" \\")
        earlier = pair.row
    parts = [
        r"\begin{table}",
        r"\centering",
        r"\caption{Both branches less RGB alone, in points. "
        rf"{escape(text.about_intervals(report.pairs))}}}",
        r"\label{tab:both-rgb}",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        " & ".join(escape(head) for head in text.PAIRS) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"
