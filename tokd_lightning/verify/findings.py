"""Report of the findings of ``tokd verify``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from tokd_lightning.verify.kinds import KINDS, SEVERITIES, Severity

_EXAMPLES = 3
_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


class Finding(NamedTuple):
    """Everything found of one kind."""

    code: str
    items: list[str]
    details: dict[str, str]

    @property
    def severity(self) -> Severity:
        """Severity: errors and warnings make ``tokd verify`` exit with 1, notes do not."""
        return KINDS[self.code].severity

    @property
    def message(self) -> str:
        """Meaning and remedy."""
        return f"{KINDS[self.code].meaning}; {KINDS[self.code].remedy}"


def printable(text: str) -> str:
    """Return a file name, of any bytes, in a form that terminals and JSON accept."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Report:
    """Findings, added in any order and returned in a fixed one."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = {}

    def add(self, code: str, item: str, detail: str = "") -> None:
        """Add the problem ``code`` of ``item``, a path or a name; repetitions are ignored."""
        if code not in KINDS:
            raise ValueError(f"no kind of finding is called {code!r}")
        self._found.setdefault(code, {}).setdefault(printable(item), printable(detail))

    def extend(self, code: str, items: Iterable[str]) -> None:
        """Add several items of one kind."""
        for item in items:
            self.add(code, item)

    def items(self, code: str) -> set[str]:
        """Return the items found of one kind so far."""
        return set(self._found.get(code, {}))

    def findings(self) -> list[Finding]:
        """Return the findings, the worst first, then in the order of :data:`KINDS`."""
        order = list(KINDS)
        codes = sorted(
            self._found, key=lambda c: (SEVERITIES.index(KINDS[c].severity), order.index(c))
        )
        return [
            Finding(c, sorted(self._found[c]), {i: d for i, d in self._found[c].items() if d})
            for c in codes
        ]

    @property
    def ok(self) -> bool:
        """Return whether there are neither errors nor warnings."""
        return all(KINDS[c].severity == "note" for c in self._found)

    def as_json(self) -> list[dict[str, Any]]:
        """Return plain lists and dicts, one dict per finding; this format is stable."""
        return [
            {
                "code": f.code,
                "severity": f.severity,
                "count": len(f.items),
                "items": f.items,
                "details": f.details,
                "message": f.message,
            }
            for f in self.findings()
        ]

    def table(self) -> Table:
        """Draw the table of findings, with the first examples of each."""
        table = Table(title="Findings", title_justify="left", show_lines=True)
        table.add_column("finding", no_wrap=True)
        table.add_column("how many", justify="right")
        table.add_column("what it is; what to do", ratio=2)
        table.add_column("examples", ratio=3, overflow="fold")
        for finding in self.findings():
            colour = _COLOURS[finding.severity]
            examples = [
                f"{item} ({finding.details[item]})" if item in finding.details else item
                for item in finding.items[:_EXAMPLES]
            ]
            if len(finding.items) > _EXAMPLES:
                examples.append(f"and {len(finding.items) - _EXAMPLES} more")
            table.add_row(
                f"[{colour}]{finding.severity}[/]\n{finding.code}",
                str(len(finding.items)),
                finding.message,
                escape("\n".join(examples)),
            )
        return table
