"""Minimal SVG writer for the report's figures."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

# Colours by role: the page's variables (dark or light theme), else the values given here.
INK, SOFT, RULE = "var(--ink, #1c2430)", "var(--soft, #586273)", "var(--rule, #d5dae1)"
OURS, PAPER = "var(--ours, #0a5cad)", "var(--paper, #a04a00)"
GROUND = "var(--ground, #ffffff)"

Point = tuple[float, float]


class Scale(NamedTuple):
    """A linear or logarithmic axis.

    Attributes:
        low: Smallest value.
        high: Largest value.
        start: Position of ``low``, in pixels.
        end: Position of ``high``, in pixels.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, in pixels."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, number: int = 5) -> list[float]:
        """Return about ``number`` round values between ``low`` and ``high``."""
        raw = (self.high - self.low) / number
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [step * k for k in range(first, last + 1)]


class Svg:
    """A drawing.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        title: Description for screen readers.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def line(
        self, a: Point, b: Point, colour: str = RULE, width: float = 1, dashes: str = ""
    ) -> None:
        """Draw a straight line."""
        style = f"stroke:{colour};stroke-width:{width:g}"
        style += f";stroke-dasharray:{dashes}" if dashes else ""
        places = f'x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
        self._parts.append(f'<line {places} style="{style}"/>')

    def path(
        self, points: Sequence[Point], colour: str, width: float = 1.8, dashes: str = ""
    ) -> None:
        """Draw a polyline."""
        places = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f"fill:none;stroke:{colour};stroke-width:{width:g};stroke-linejoin:round"
        style += f";stroke-dasharray:{dashes}" if dashes else ""
        self._parts.append(f'<path d="{places}" style="{style}"/>')

    def dot(self, at: Point, colour: str = OURS, radius: float = 4) -> None:
        """Draw a filled circle."""
        place = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}"'
        self._parts.append(f'<circle {place} style="fill:{colour}"/>')

    def shape(self, points: Sequence[Point], colour: str, hollow: bool = False) -> None:
        """Draw a polygon."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        fill = GROUND if hollow else colour
        style = f"fill:{fill};stroke:{colour};stroke-width:1.6"
        self._parts.append(f'<polygon points="{places}" style="{style}"/>')

    def diamond(self, at: Point, colour: str = PAPER, radius: float = 4.5) -> None:
        """Draw a hollow diamond."""
        x, y, r = *at, radius
        self.shape([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], colour, hollow=True)

    def text(
        self,
        at: Point,
        text: str,
        colour: str = SOFT,
        anchor: str = "middle",
        size: float = 12,
        bold: bool = False,
    ) -> None:
        """Draw text at a point; ``anchor`` is ``start``, ``middle`` or ``end``."""
        style = f"fill:{colour};font-size:{size:g}px" + (";font-weight:600" if bold else "")
        place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"'
        self._parts.append(f'<text {place} style="{style}">{escape(text)}</text>')

    def inline(self) -> str:
        """Return the SVG element to embed in a page."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        box = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        font = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img"'
        head += f' aria-label={quoteattr(self.title)} style="{font}">'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", *self._parts, "</svg>"])

    def file(self) -> str:
        """Return the contents of a standalone SVG file, with fixed colours on white."""
        text = re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", self.inline())
        ground = '<rect width="100%" height="100%" style="fill:#ffffff"/>'
        return text.replace("</title>", f"</title>\n{ground}", 1) + "\n"
