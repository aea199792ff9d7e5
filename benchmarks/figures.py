"""A measured figure: its row in the table, its JSON, and whether it meets its target."""

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.timing import Spread, spread

_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
MISSED = "✗ missed"


class Curve(NamedTuple):
    """Growth of a cost with a size.

    Attributes:
        axis: Label of the size's axis.
        quantity: ``time`` or ``memory``.
        unit: Unit of the cost.
        points: Sizes, ascending, and the measured cost of each.
    """

    axis: str
    quantity: str
    unit: str
    points: list[tuple[float, Spread]]


class Row(NamedTuple):
    """A figure: name, unit, spread, optional target, and optional curve."""

    what: str
    unit: str
    spread: Spread
    target: str = ""
    curve: Curve | None = None

    def __str__(self) -> str:
        median, low, high = self.spread
        quartiles = "" if low == high else f" [{low:.3f}, {high:.3f}]"
        target = f" ({self.target})" if self.target else ""
        missed = f" {MISSED}" if self.met is False else ""
        return f"{self.what}: {median:.3f} {self.unit}{quartiles}{target}{missed}"

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without a target."""
        if not self.target:
            return None
        sign, limit = self.target.split()
        return bool(_HOLDS[sign](self.spread.median, float(limit)))

    def as_json(self) -> dict[str, Any]:
        """Return the figure's entry in the JSON."""
        found = {"what": self.what, "unit": self.unit, **self.spread._asdict()}
        found |= {"target": self.target, "met": self.met}
        if self.curve is not None:
            points = [{"at": at, **value._asdict()} for at, value in self.curve.points]
            found["curve"] = self.curve._asdict() | {"points": points}
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Row":
        """Build a row from its JSON entry."""
        curve = found.get("curve")
        if curve is not None:
            points = [(point["at"], _spread_in(point)) for point in curve["points"]]
            curve = Curve(**(curve | {"points": points}))
        return cls(found["what"], found["unit"], _spread_in(found), found["target"], curve)


def _spread_in(found: dict[str, Any]) -> Spread:
    return Spread(found["median"], found["low"], found["high"])


def exactly(value: float) -> Spread:
    """Return the spread of a counted, not timed, value."""
    return Spread(value, value, value)


def milliseconds(seconds: Iterable[float]) -> Spread:
    """Return the spread of seconds in milliseconds."""
    return spread([1e3 * value for value in seconds])


def milliseconds_of(seconds: Spread) -> Spread:
    """Return a spread of seconds in milliseconds."""
    return Spread(*(1e3 * value for value in seconds))


def table_of(rows: Iterable[Row], title: str) -> Table:
    """Return a rich table of the rows; those that miss their target are marked."""
    table = Table(title=title, title_justify="left")
    for column in ("", "median", "quartiles", "target", ""):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for row in rows:
        median, low, high = (
            f"{value:.3g}" if value < 1 else f"{value:.2f}" for value in row.spread
        )
        between = "" if low == high else f"{low} – {high}"
        marks = {True: "✓", False: MISSED, None: ""}
        table.add_row(row.what, f"{median} {row.unit}", between, row.target, marks[row.met])
    return table
