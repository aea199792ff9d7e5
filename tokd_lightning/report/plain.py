"""Plain tables of the page."""

from collections.abc import Sequence
from html import escape


def plain(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return an HTML table.

    Args:
        heads: Column headers.
        rows: HTML of the cells. With ``left`` > 1, rows whose first cell is not empty have a rule
            above them.
        left: Number of leading cells of each row that are row headers.
    """
    head = "".join(
        f'<th scope="col"{" class=left" if n < left else ""}>{escape(name)}</th>'
        for n, name in enumerate(heads)
    )
    body = "".join(
        f"<tr{' class=next' if row[0] and left > 1 else ''}>"
        + "".join(f'<th scope="row">{part}</th>' for part in row[:left])
        + "".join(f'<td class="is{n}">{part}</td>' for n, part in enumerate(row[left:]))
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll fit" tabindex="0">{table}</div>'
