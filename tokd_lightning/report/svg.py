"""SVG of matplotlib figures, in the colours of a light and of a dark page."""

import io
import re
from functools import cached_property
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import matplotlib
from matplotlib.figure import Figure

# Role -> colour, also of the page's style sheet. Figures are drawn in the light colours.
LIGHT = {
    **{"ground": "#ffffff", "panel": "#f5f7f9", "ink": "#1c2430", "soft": "#586273"},
    **{"rule": "#d5dae1", "ours": "#0a5cad", "paper": "#a04a00", "tint": "#e8f0f9"},
    **{"warn": "#7a4b00", "warn-ground": "#fff3dc", "bad": "#a1191f", "bad-ground": "#fdeaea"},
    **{"c1": "#0072b2", "c2": "#d55e00", "c3": "#007a5a", "c4": "#b4457f", "c5": "#2f9fd0"},
    **{"c6": "#b07a00", "rest": "#c9d0d9"},
}
DARK = {
    **{"ground": "#12161c", "panel": "#1a2028", "ink": "#e7ebf0", "soft": "#a3adba"},
    **{"rule": "#333c48", "ours": "#79b8ff", "paper": "#f2a65a", "tint": "#1d2b3b"},
    **{"warn": "#ffd596", "warn-ground": "#3a2c12", "bad": "#ffb3b3", "bad-ground": "#421c1e"},
    **{"c1": "#56b4e9", "c2": "#ff8c42", "c3": "#2fc79a", "c4": "#e58cbb", "c5": "#a9dcff"},
    **{"c6": "#f0c24b", "rest": "#46505d"},
}
INK, SOFT, RULE, OURS, PAPER, GROUND = (
    LIGHT[role] for role in ("ink", "soft", "rule", "ours", "paper", "ground")
)
# Colours of lines, in the order of :data:`tokd_lightning.looks.COLOURS`.
SERIES = tuple(LIGHT[role] for role in ("ink", "c6", "c1", "c2", "c3", "c4", "c5"))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tokd",
    "text.parse_math": False,
    "font.size": 12,
    "text.color": SOFT,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.labelcolor": SOFT,
    "axes.labelsize": 12,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 1,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": GROUND,
    "figure.constrained_layout.h_pad": 7 / 72,
    "figure.constrained_layout.w_pad": 7 / 72,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.labelcolor": SOFT,
    **{f"axes.spines.{side}": False for side in ("top", "right", "bottom", "left")},
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
_COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")


def pixels(width: float, height: float) -> tuple[float, float]:
    """Return the size of a figure, in inches, that is as many pixels wide and high on a page."""
    return width / 72, height / 72


class Svg:
    """A figure as SVG, drawn when it is first asked for.

    Args:
        figure: The figure, drawn with :data:`STYLE`.
        name: Prefix of the ids in it.
        title: Description for screen readers.
    """

    def __init__(self, figure: Figure, name: str, title: str) -> None:
        self.width, self.height = (72 * inches for inches in figure.get_size_inches())
        self.name, self.title = name, title
        self._figure = figure

    @cached_property
    def _body(self) -> str:
        written, name = io.StringIO(), self.name
        with matplotlib.rc_context(STYLE):
            self._figure.savefig(written, format="svg", metadata={"Date": None})
        text = written.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</defs>\s*", "", text,
                      flags=re.DOTALL)  # fmt: skip
        text = re.sub(r"font-family: [^;\"]*", f"font-family: {_FONT}", text)
        used = set(re.findall(r"(?:href=\"|url\()#([\w.-]+)", text))
        text = re.sub(r' id="([\w.-]+)"',
                      lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)  # fmt: skip
        text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
        body = text[text.index(">", text.index("<svg")) + 1 :].strip()
        return f"<title>{escape(self.title)}</title>\n{body}"

    def inline(self) -> str:
        """Return the element for a page, whose style sheet defines the colours by role."""
        roles = {colour: role for role, colour in reversed(LIGHT.items())}
        body = _COLOUR.sub(
            lambda m: f"var(--{roles[m[0]]}, {m[0]})" if m[0] in roles else m[0], self._body
        )
        return self._head() + body.replace("xlink:href", "href")

    def file(self, dark: bool = False) -> str:
        """Return the contents of a file, on a white or a dark ground."""
        to = {colour: DARK[role] for role, colour in LIGHT.items()} if dark else {}
        body = _COLOUR.sub(lambda m: to.get(m[0], m[0]), self._body)
        return self._head(' xmlns:xlink="http://www.w3.org/1999/xlink"') + body + "\n"

    def _head(self, more: str = "") -> str:
        size = f'width="{self.width:g}" height="{self.height:g}"'
        box = f'viewBox="0 0 {self.width:g} {self.height:g}" stroke-linejoin="round"'
        name = 'xmlns="http://www.w3.org/2000/svg"'
        return f'<svg {name}{more} {size} {box} role="img" aria-label={quoteattr(self.title)}>\n'
