"""Grid of a table's cells by state: which are done, running, queued or to do."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tokd_lightning.tables.entries import PaperTable
from tokd_lightning.tables.grid import GridCell

# In display order, from done to nothing done.
STATES = ("done", "stale", "broken", "running", "queued", "to test", "resume", "to do")
_GAP = "  "


class Standing(NamedTuple):
    """State of a run.

    Attributes:
        state: One of :data:`STATES`.
        hours: Expected hours; None if it was not timed or nothing is left to do.
    """

    state: str
    hours: float | None = None


def overview(
    table: PaperTable,
    cells: Sequence[GridCell],
    standing: Mapping[str, Standing],
    width: int,
) -> list[str]:
    """Draw a table's entries as a grid of states, with its teachers below.

    Args:
        table: The table.
        cells: The runs of the plan, over all seeds.
        standing: Name of a run -> its state.
        width: Columns of the terminal; the grid is transposed or cut between columns to fit.

    Returns:
        Lines of text.
    """
    seeds: dict[str, list[GridCell]] = {}
    for cell in cells:
        seeds.setdefault(_kind(cell), []).append(cell)
    places: dict[tuple[str, str], str] = {}
    for entry in table.entries:
        if entry.cell is not None and (runs := seeds.get(_kind(entry.cell))):
            places[entry.row, entry.column] = _shown([standing[run.name] for run in runs])
    rows = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    upright = _bands(rows, columns, places, width)
    turned = {(column, row): text for (row, column), text in places.items()}
    crosswise = _bands(columns, rows, turned, width)
    bands = upright if len(upright) <= len(crosswise) else crosswise
    lines = [line for band in bands for line in [*band, ""]]
    teachers = {cell.dataset.title: cell for cell in cells if cell.role == "teacher"}
    lines += [
        f"teacher on {title}: {_shown([standing[it.name]])}" for title, it in teachers.items()
    ]
    return lines if teachers else lines[:-1]


def count(standing: Mapping[str, Standing]) -> str:
    """Return the number of runs in each state, as text."""
    counted = Counter(it.state for it in standing.values())
    return ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])


def _kind(cell: GridCell) -> str:
    return replace(cell, seed=0, common=()).name


def _shown(runs: Sequence[Standing]) -> str:
    states = Counter(it.state for it in runs)
    if len(states) == 1:
        text = runs[0].state
    else:
        text = f"{states['done']}/{len(runs)} done"
        text += "".join(f", {states[it]} {it}" for it in ("stale", "broken") if states[it])
    hours = [it.hours for it in runs if it.hours is not None]
    return f"{text} {sum(hours):.1f} h" if hours else text


def _bands(
    rows: Sequence[str],
    columns: Sequence[str],
    places: Mapping[tuple[str, str], str],
    width: int,
) -> list[list[str]]:
    """Format a grid in blocks of as many columns as fit, without breaking words."""
    first = max(map(len, rows), default=0)
    widths = {}
    for column in columns:
        texts = [places.get((row, column), "") for row in rows]
        widths[column] = max(len(it) for it in [*column.split(), *texts])
    bands: list[list[str]] = []
    left = list(columns)
    while left:
        taken: list[str] = []
        used = first
        while left and (not taken or used + len(_GAP) + widths[left[0]] <= width):
            used += len(_GAP) + widths[left[0]]
            taken.append(left.pop(0))
        heads = [textwrap.wrap(it, widths[it], break_long_words=False) for it in taken]
        height = max(map(len, heads))
        lines = []
        for number in range(height):
            words = [head[number] if number < len(head) else "" for head in heads]
            lines.append(_line("", first, words, taken, widths))
        for row in rows:
            texts = [places.get((row, column), "") for column in taken]
            if any(texts):
                lines.append(_line(row, first, texts, taken, widths))
        bands.append(lines)
    return bands


def _line(
    head: str,
    first: int,
    texts: Sequence[str],
    columns: Sequence[str],
    widths: Mapping[str, int],
) -> str:
    parts = [f"{head:{first}}"]
    parts += [f"{text:{widths[it]}}" for text, it in zip(texts, columns, strict=True)]
    return _GAP.join(parts).rstrip()
