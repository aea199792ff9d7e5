"""Findings of ``tokd verify``, gathered and told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from tokd_lightning.data.verify.kinds import KINDS, SEVERITIES, Severity

_EXAMPLES = 3
_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


class Finding(NamedTuple):
    """All that was found of one kind."""

    code: str
    items: list[str]
    details: dict[str, str]

    @property
    def severity(self) -> Severity:
        """How bad it is: errors and warnings make ``tokd verify`` exit with 1, notes do not."""
        return KINDS[self.code].severity

    @property
    def message(self) -> str:
        """What it means and what to do."""
        return f"{KINDS[self.code].meaning}; {KINDS[self.code].remedy}"


def printable(text: str) -> str:
    """Write a file name so that any terminal and JSON can hold it, whatever its bytes were."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Report:
    """Findings, gathered in any order and told in one."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = {}

    def add(self, code: str, item: str, detail: str = "") -> None:
        """Note that ``item``, a path or a name, has the problem ``code``; once is enough."""
        if code not in KINDS:
            raise ValueError(f"no kind of finding is called {code!r}")
        self._found.setdefault(code, {}).setdefault(printable(item), printable(detail))

    def extend(self, code: str, items: Iterable[str]) -> None:
        """Note several items of one kind."""
        for item in items:
            self.add(code, item)

    def items(self, code: str) -> set[str]:
        """Return what was found of one kind so far."""
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
        """Whether there are neither errors nor warnings."""
        return all(KINDS[c].severity == "note" for c in self._found)

    def as_json(self) -> list[dict[str, Any]]:
        """Return plain lists and dicts, one dict per finding; this form is kept stable."""
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
        """Draw the findings for people, with the first examples of each."""
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
