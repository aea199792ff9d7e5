"""MkDocs hooks: README and CONTRIBUTING as pages, formulas as MathML."""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[2]
# Page of the site -> file of the source tree that it shows, whose links start at the root.
SHOWN = {"index.md": ROOT / "README.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Show README and CONTRIBUTING, whose links start at the repository's root, as pages."""
    file = SHOWN.get(page.file.src_uri)
    if file is None:
        return markdown
    text = file.read_text(encoding="utf-8").replace("](docs/", "](")
    return text.replace("](CONTRIBUTING.md)", "](contributing.md)")


def on_page_content(content: str, **_: Any) -> str:
    """Render formulas as MathML, which needs no script or font download."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    _, bracket, latex = found.groups()
    display = "inline" if bracket == "(" else "block"
    return convert(html.unescape(latex).strip(), display=display)
