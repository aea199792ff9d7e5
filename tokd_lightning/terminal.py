"""Tables on terminals narrower than the tables."""

import re
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PATH = 22  # characters of a path that stay on one line


def keep_words(table: Table, console: Console) -> Table:
    """Lay out a table that is too wide so that lines break between words.

    Rich takes the excess from the widest columns, and breaks words in the others.

    Args:
        table: Table whose columns get widths; its frame is removed if that is not enough.
        console: Console to print it on.

    Returns:
        The table.
    """
    contents = [_texts(table, number) for number in range(len(table.columns))]
    whole = [max(map(cell_len, _lines(texts)), default=0) for texts in contents]
    words = [
        all_of_it if column.no_wrap else max(map(_least, " ".join(texts).split()), default=0)
        for column, texts, all_of_it in zip(table.columns, contents, whole, strict=True)
    ]
    if sum(whole) + _frame(table) <= console.width:
        return table
    for between in (1, 0):
        if sum(words) + _frame(table) > console.width:
            table.box, table.padding, table.show_edge = SIMPLE_HEAD, (0, between, 0, 0), False
    spare = console.width - _frame(table) - sum(words)
    if spare < 0:
        return table
    missing = sum(whole) - sum(words)
    for column, least, wanted in zip(table.columns, words, whole, strict=True):
        column.ratio = None
        column.width = least + int(spare * (wanted - least) / max(missing, spare, 1))
        column._cells = [_folded(cell, column.width) for cell in column.cells]
    return table


def fold_paths(text: str, width: int) -> str:
    """Break words that are paths after a slash, where they are wider than a column.

    Args:
        text: Of one cell.
        width: Of the column. A name that is wider is left to whoever prints it.
    """
    return re.sub(r"\S*/\S*", lambda word: _fold(word[0], width), text)


def _fold(path: str, width: int) -> str:
    lines = [""]
    for part in re.findall(r"[^/]*/|[^/]+$", path):
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _folded(cell: Any, width: int) -> Any:
    if isinstance(cell, Text):
        return cell if cell.spans else Text(fold_paths(cell.plain, width), cell.style)
    return fold_paths(cell, width) if isinstance(cell, str) and "[/" not in cell else cell


def _texts(table: Table, number: int) -> list[str]:
    column = table.columns[number]
    cells = [column.header, *column.cells]
    return [Text.from_markup(cell).plain if isinstance(cell, str) else str(cell) for cell in cells]


def _least(word: str) -> int:
    return min(cell_len(word), _PATH) if "/" in word else cell_len(word)


def _lines(texts: list[str]) -> list[str]:
    return [line for text in texts for line in text.splitlines()]


def _frame(table: Table) -> int:
    """Return the number of characters of a line that are not content."""
    columns, (_, right, _, left) = len(table.columns), table.padding
    edges = 2 if table.box and table.show_edge else 0
    return columns * (left + right) + (columns - 1 if table.box else 0) + edges
