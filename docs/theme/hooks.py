"""What MkDocs does on the way: README as the first page, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

README = Path(__file__).parents[2] / "README.md"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put README, whose links start at the repository's root, in the place of the first page."""
    if page.file.src_uri != "index.md":
        return markdown
    return README.read_text(encoding="utf-8").replace("](docs/", "](")


def on_page_content(content: str, **_: Any) -> str:
    """Draw formulas without a script or a font that would have to be fetched."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    _, bracket, latex = found.groups()
    display = "inline" if bracket == "(" else "block"
    return convert(html.unescape(latex).strip(), display=display)
