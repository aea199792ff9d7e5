"""Name, colour and marker of each network, the same in all figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

# Okabe and Ito's colour-blind-safe palette without its yellow.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_NAMES = {"teacher": "Teacher", "vanilla": "Vanilla", "tokd": "TOKD"}
_USUAL = ("none", "paper", "demo")  # branches, or recipes of a detector, that go without saying
_METHODS = ("at", "pkt", "vid", "sp", "fitnet", "add", "tokdwithadd")
# The position here determines the look, independent of the other networks in a figure.
_ORDER = (
    *("teacher", "vanilla", "tokd rgb", "tokd both", "tokd frequency", "hinton"),
    *(f"{method} {branches}" for branches in ("both", "rgb", "frequency") for method in _METHODS),
)


class Look(NamedTuple):
    """Colour and marker of a network.

    Attributes:
        number: Index of its colour in the palette.
        colour: As ``#rrggbb``.
        marker: Matplotlib's name for it.
    """

    number: int
    colour: str
    marker: str


def network(cell: Mapping[str, Any]) -> str:
    """Return the name of a cell's network: ``Teacher``, ``Vanilla``, ``TOKD both``, ``spsl``."""
    method, branches = str(cell["method"]), str(cell["branches"])
    shown = "" if branches in _USUAL or cell["role"] == "teacher" else branches
    return f"{_NAMES.get(method, method)} {shown}".strip()


def look(label: str) -> Look:
    """Return the look of the network named in a label before its first comma."""
    kind = _kind(label)
    place = _ORDER.index(kind) if kind in _ORDER else len(_ORDER) + crc32(kind.encode()) % 21
    return _at(place)


def looks(labels: Sequence[str], marked: bool = False) -> dict[str, Look]:
    """Return distinguishable looks, as long as there are enough colours.

    Each network has its own look; where two lines of one figure would have the same colour, the
    later one takes the next free colour.

    Args:
        labels: Labels of the lines, in order.
        marked: Whether markers distinguish networks of one colour.
    """
    found = {label: look(label) for label in labels}
    taken: set[int] = set()
    for label, its in found.items():
        free = [n for n in range(len(COLOURS)) if n not in taken]
        if its.number in taken and free and not (marked and _kind(label) in _ORDER):
            found[label] = _at(next((n for n in free if n > its.number), free[0]))
        taken.add(found[label].number)
    return found


def short_labels(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Label evaluations by their networks and by what else distinguishes them.

    Args:
        records: Each has its ``run``'s name and, except for earlier versions, its ``cell``.

    Returns:
        One label per record; the run's name where two labels would be equal.
    """
    cells = [record.get("cell") or {} for record in records]
    keys = ("data", "backbone", "seed")
    told = [key for key in keys if len({str(cell.get(key)) for cell in cells if cell}) > 1]

    def label(cell: Mapping[str, Any]) -> str:
        rest = (f"seed {cell[key]}" if key == "seed" else str(cell[key]) for key in told)
        return ", ".join([network(cell), *rest]) if cell else ""

    labels = [label(cell) for cell in cells]
    return [
        str(record["run"]) if not text or labels.count(text) > 1 else text
        for text, record in zip(labels, records, strict=True)
    ]


def _kind(label: str) -> str:
    return label.partition(", ")[0].lower()


def _at(place: int) -> Look:
    """Return the look at a position; from the eighth on, colour and marker repeat out of step."""
    number = place % len(COLOURS)
    return Look(number, COLOURS[number], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)])
