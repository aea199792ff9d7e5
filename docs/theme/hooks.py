"""MkDocs hooks: README as the first page, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

README = Path(__file__).parents[2] / "README.md"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace the first page by README, whose links are relative to the repository's root."""
    if page.file.src_uri != "index.md":
        return markdown
    return README.read_text(encoding="utf-8").replace("](docs/", "](")


def on_page_content(content: str, **_: Any) -> str:
    """Render formulas as MathML, which needs no script or font download."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    _, bracket, latex = found.groups()
    display = "inline" if bracket == "(" else "block"
    return convert(html.unescape(latex).strip(), display=display)
