"""Converts Sphinx roles, formulas and tables in docstrings to the Markdown of the pages."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`(~?)\.?([^`]+)`")
_INLINE = re.compile(r":math:`([^`]+)`")
_BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_TABLE = re.compile(r"^=+ =+\n((?:.+\n)+?)=+ =+\n((?:.+\n)+?)=+ =+$", re.MULTILINE)
_LITERAL = re.compile(r"::(?=\n\n {4})")
PACKAGE = "tokd_lightning"


class Docstrings(griffe.Extension):
    """Rewrites docstrings once the whole package is loaded, so that names can be resolved."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite a package's docstrings, and show each object where it is defined."""
        if pkg.path != PACKAGE:
            return
        for item in _items(pkg):
            if item.docstring:
                item.docstring.value = _markdown(item.docstring.value, item)
            if item.is_init_module:
                item.exports = None  # else every object would appear there and on its own page


def _items(of: Any) -> Iterator[Any]:
    yield of
    for member in of.members.values():
        if not member.is_alias:
            yield from _items(member)


def _markdown(text: str, item: Any) -> str:
    text = _BLOCK.sub(_formula, text)
    text = _INLINE.sub(r"$\1$", text)
    text = _TABLE.sub(_table, text)
    text = _LITERAL.sub(":", text)
    return _ROLE.sub(lambda role: _link(role[1], role[2], item), text)


def _formula(block: re.Match[str]) -> str:
    latex = " ".join(block[2].split()).rstrip(",")
    return f"{block[1]}$${latex}$$"


def _table(found: re.Match[str]) -> str:
    head, rows = ([line.split(maxsplit=1) for line in part.splitlines()] for part in found.groups())
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, ["---", "---"], *rows])


def _link(short: str, name: str, item: Any) -> str:
    """Link to an object's definition; an object without a page or unresolved is plain code."""
    shown = name.rpartition(".")[2] if short else name
    try:
        path = name if name.startswith(PACKAGE) else item.resolve(name)
        place = item.package[path.removeprefix(f"{PACKAGE}.")].canonical_path
    except (KeyError, griffe.GriffeError):
        return f"`{shown}`"
    return f'<autoref identifier="{place}" optional><code>{shown}</code></autoref>'
