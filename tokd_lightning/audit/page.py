"""The page of an audit: self-contained HTML."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tokd_lightning import __version__
from tokd_lightning.audit.checks import VERDICTS
from tokd_lightning.audit.figure import auc_figure
from tokd_lightning.audit.frames import Part, outcome, parts
from tokd_lightning.report.page import render
from tokd_lightning.report.svg import Svg


class _Shown(NamedTuple):
    document: dict[str, Any]
    parts: list[Part]
    figure: Svg | None


def html(audits: Sequence[dict[str, Any]], source: str) -> str:
    """Return the page of audits: no network, no other files.

    Args:
        audits: Documents of :func:`~tokd_lightning.audit.record.audit_run`.
        source: Where the scores are from, for its head.
    """
    shown = []
    for number, audit in enumerate(audits, 1):
        figure = auc_figure(audit)
        drawn = Svg(figure, f"auc{number}", f"AUC of {audit['run']}") if figure else None
        shown.append(_Shown(audit, list(parts(audit)), drawn))
    rules = [(text, rule) for _, text, rule in VERDICTS]
    return render(
        "audit.html.j2", audits=shown, source=source, version=__version__, outcome=outcome,
        rules=rules,
    )  # fmt: skip
