"""README and the chapters of docs/, and what stands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CHAPTERS = sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "index.md")
MEASUREMENTS = sorted((ROOT / "docs/measurements").glob("*.md"))
PAGES = [README, *CHAPTERS, *MEASUREMENTS]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w/.]+\.\w+)`[^`]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a language, by default those without one: commands and trees."""
    return [body for kind, body in _BLOCK.findall(text) if kind == language]


def files(text: str) -> dict[str, str]:
    """Return the files that a page shows whole, name -> content: NAME and a colon stand before."""
    return dict(_FILE.findall(text))


def commands(text: str, program: str = "tokd") -> Iterator[list[str]]:
    """Yield the words of every line of a block that starts with a program, the program's first."""
    for block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(f"{program} "):
                yield shlex.split(line, comments=True)
