"""LaTeX tables, for ``booktabs``."""

import re

import pandas as pd

from tokd_lightning.report import text
from tokd_lightning.report.frames import OURS, pairs_frame, table_frame
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
_SCALED = (r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + "\n", "}")


def escape(raw: str) -> str:
    """Escape the special characters of LaTeX; pandas knows only those of ASCII text."""
    return " ".join("".join(_SPECIAL.get(c, c) for c in raw).splitlines())


def _bold(text: str) -> str:
    return rf"\textbf{{{text}}}"


def latex(table: TableReport) -> str:
    r"""Return one table as a ``table*`` that needs ``booktabs`` and ``graphicx``.

    Each row has a line with the paper's numbers, one with ours and one with the differences. The
    best of ours is bold, per row where rows compare methods, else per column.
    """
    frame = table_frame(table).map(escape)
    best = table.frame.map(lambda filled: filled is not None and table.best(filled))
    bold = [[kind == OURS and best.at[row, head] for head in best] for row, kind in frame.index]
    frame = frame.mask(pd.DataFrame(bold, frame.index, best.columns), frame.map(_bold))
    number = "".join(c for c in table.heading if c.isdigit())
    title = escape((f"{table.heading} of the paper: " if number else "") + table.table.title)
    caption = rf"{title}. Mean $\pm$ sd over seeds. {' '.join(map(escape, table.notes))}"
    return _environment("table*", caption, table.table.key, _tabular(frame), _SCALED)


def latex_pairs(report: Report) -> str:
    """Return a table of both - rgb of every row and method, with its interval."""
    frame = pairs_frame(report.pairs).map(escape)
    about = escape(text.about_intervals(report.pairs))
    caption = f"Both branches minus RGB, in points. {about}"
    return _environment("table", caption, "both-rgb", _tabular(frame))


def _tabular(frame: pd.DataFrame) -> str:
    """Return a ``tabular`` of escaped texts, with a space between the rows of the first level."""
    names = [escape(str(name)) for name in frame.index.names]
    keys = [tuple(map(escape, key)) for key in frame.index]
    frame.index = pd.MultiIndex.from_tuples(keys)
    frame.columns = [rf"\multicolumn{{1}}{{c}}{{{escape(head)}}}" for head in frame.columns]
    written = frame.style.to_latex(
        column_format="ll" + "r" * len(frame.columns), hrules=True, multirow_align="naive",
        clines="skip-last;data",
    )  # fmt: skip
    head, middle, body = written.partition("\\midrule\n")
    head = head.replace(" &  & ", " & ".join([*names, ""]), 1)
    body = re.sub(r"\\cline\{[\d-]+\}\n(\\bottomrule)", r"\1", body)
    return head + middle + re.sub(r"\\cline\{[\d-]+\}", r"\\addlinespace", body)


def _environment(
    kind: str, caption: str, key: str, tabular: str, around: tuple[str, str] = ("", "")
) -> str:
    lines = [
        rf"\begin{{{kind}}}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{key}}}",
    ]
    return "\n".join([*lines, around[0] + tabular.strip() + around[1], rf"\end{{{kind}}}", ""])
