"""The page that ``tokd show`` writes: pictures in rows and columns with labels."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tokd_lightning.errors import TokdError
from tokd_lightning.show.tiles import Picture, read_picture

_GAP, _HEADING, _LABEL, _LINE, _SMALL = 4, 34, 24, 17, 15
_SIDE, _NARROWEST = 64, 560
_INK, _FAINT, _PAPER, _ALARM = (20, 20, 20), (95, 95, 95), (255, 255, 255), (200, 60, 40)
_PALE = (238, 238, 238)


class Tile(NamedTuple):
    """A frame to draw; a ``path`` of None marks a missing frame."""

    path: str | None
    caption: tuple[str, ...] = ()


class Row(NamedTuple):
    """A row: its label of one or two lines, and its tiles; nothing is drawn for None."""

    label: tuple[str, ...]
    tiles: tuple[Tile | None, ...]


class Band(NamedTuple):
    """Rows under a heading and column names; both may be empty."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def lines(self) -> int:
        """Largest number of caption lines of a tile."""
        return max((len(t.caption) for row in self.rows for t in row.tiles if t), default=0)


class Sheet(NamedTuple):
    """Contents of a page, and where the frames are read from.

    Attributes:
        title: The first line.
        notes: Lines below it; one on x^F follows them.
        bands: The pictures, from top to bottom.
        root: Folder that the paths of the tiles are relative to.
        prepare: Applied to an image ``(3, H, W)``, uint8, before it is drawn.
        hint: Advice for the error message if no frame can be read.
    """

    title: str
    notes: list[str]
    bands: list[Band]
    root: Path
    prepare: Callable[[Tensor], Tensor] | None = None
    hint: str = ""


class Drawn(NamedTuple):
    """A finished sheet: the bytes of its PNG, and the reason for each unreadable frame, by path."""

    png: bytes
    unreadable: dict[str, str]


def draw(sheet: Sheet, tile: int, cutoff: float) -> Drawn:
    """Draw every frame as x next to x^F (Eq. 1), an unreadable one as a crossed-out tile.

    x^F is amplified by one factor for the whole sheet, so that tiles are comparable.

    Args:
        sheet: What to draw.
        tile: Longer side of a picture in pixels.
        cutoff: See :func:`~tokd_lightning.frequency.high_pass`.

    Raises:
        TokdError: The sheet has no frame, or none can be read.
    """
    pictures: dict[str, Picture] = {}
    unreadable: dict[str, str] = {}
    for path in paths_of(sheet.bands):
        try:
            pictures[path] = read_picture(sheet.root / path, tile, cutoff, sheet.prepare)
        except ValueError as error:
            unreadable[path] = str(error)
    if not pictures:
        raise TokdError(_nothing(sheet, unreadable))
    strength = np.concatenate([np.abs(p.frequency).ravel() for p in pictures.values()])
    gain = float(127 / max(np.quantile(strength, 0.99), 1))
    notes = [
        *sheet.notes,
        f"Each frame x next to its high frequencies x^F (Eq. 1), without the DCT coefficients "
        f"u/H + v/W < {cutoff:g}; grey is 0, amplified {gain:.1f} times.",
    ]
    page = _Page(sheet.bands, sheet.title, notes, tile)
    for place, entry in page.places():
        if entry.path in pictures:
            page.paste(place, pictures[entry.path], gain)
        else:
            page.cross_out(place, "no frames" if entry.path is None else unreadable[entry.path])
    content = io.BytesIO()
    page.image.save(content, format="PNG")
    return Drawn(content.getvalue(), unreadable)


def paths_of(bands: Sequence[Band]) -> list[str]:
    """Return the paths of the frames on a sheet."""
    tiles = (tile for band in bands for row in band.rows for tile in row.tiles)
    return [tile.path for tile in tiles if tile is not None and tile.path is not None]


def _nothing(sheet: Sheet, unreadable: dict[str, str]) -> str:
    if not unreadable:
        return f"{sheet.root} has no frames to show"
    path, reason = next(iter(unreadable.items()))
    others = len(unreadable) - 1
    also = f", nor can the {others} other frames chosen" if others else ""
    hint = f"; {sheet.hint}" if sheet.hint else ""
    return f"{sheet.root / path} cannot be read: {reason}{also}{hint}"


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Shorten a text in its middle until it is at most ``width`` pixels wide."""
    kept = len(text)
    short = text
    while font.getlength(short) > width and kept > 1:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten(line, font, width) for line in lines]


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of a sheet at a size in pixels."""
    # Pillow's own font is ASCII only; names of videos are not.
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size)


class _Page:
    """The image with its title and notes, and space for rows of tiles."""

    def __init__(self, bands: list[Band], title: str, notes: list[str], tile: int) -> None:
        self.bands, self.tile = bands, tile
        self.large, self.medium, self.font, self.small = (font_of(n) for n in (18, 15, 13, 11))
        labels = [line for band in bands for row in band.rows for line in row.label]
        widest = max((self.font.getlength(line) for line in labels), default=0)
        self.side = max(_SIDE, min(int(widest) + 4 * _GAP, 2 * _SIDE)) if labels else 2 * _GAP
        self.across = 2 * tile + 3 * _GAP
        columns = max(len(row.tiles) for band in bands for row in band.rows)
        width = max(self.side + columns * self.across, _NARROWEST)
        room = width - 4 * _GAP
        head = [(line, self.large, _INK) for line in _wrap(title, self.large, room)]
        for note in notes:
            head += [(line, self.font, _FAINT) for line in _wrap(note, self.font, room)]
        self.top = 2 * _GAP + sum(round(1.4 * font.size) for _, font, _ in head) + _GAP
        height = self.top + sum(self._height(band) for band in bands)
        self.image = Image.new("RGB", (width, height), _PAPER)
        self.pen = ImageDraw.Draw(self.image)
        y = 2 * _GAP
        for line, font, colour in head:
            self.pen.text((2 * _GAP, y), line, colour, font)
            y += round(1.4 * font.size)

    def _heads(self, band: Band) -> int:
        return _HEADING * bool(band.heading) + _LABEL * any(band.columns)

    def _row(self, band: Band) -> int:
        captions = band.lines * _LINE + _GAP if band.lines else 0
        return self.tile + _GAP + captions

    def _height(self, band: Band) -> int:
        return self._heads(band) + len(band.rows) * self._row(band)

    def places(self) -> Iterator[tuple[tuple[int, int], Tile]]:
        """Write the labels, and yield the top left corner of every tile."""
        top = self.top
        for band in self.bands:
            y = top
            if band.heading:
                heading = shorten(band.heading, self.medium, self.image.width - 4 * _GAP)
                self.pen.text((2 * _GAP, y + 9), heading, _INK, self.medium)
                y += _HEADING
            for column, name in enumerate(band.columns):
                left = self.side + column * self.across
                short = shorten(name, self.font, self.across - 3 * _GAP)
                self.pen.text((left, y + 4), short, _INK, self.font)
            for number, row in enumerate(band.rows):
                y = top + self._heads(band) + number * self._row(band)
                label = [shorten(line, self.font, self.side - 3 * _GAP) for line in row.label]
                middle = y + self.tile // 2 - len(label) * _LINE // 2
                for index, line in enumerate(label):
                    self.pen.text((2 * _GAP, middle + index * _LINE), line, _INK, self.font)
                for column, entry in enumerate(row.tiles):
                    if entry is not None:
                        left = self.side + column * self.across
                        self._caption(entry, left, y + self.tile + 2)
                        yield (left, y), entry
            top += self._height(band)

    def _caption(self, entry: Tile, left: int, y: int) -> None:
        for index, line in enumerate(entry.caption):
            short = shorten(line, self.font, 2 * self.tile + _GAP)
            self.pen.text((left, y + index * _LINE), short, _INK, self.font)

    def paste(self, place: tuple[int, int], picture: Picture, gain: float) -> None:
        """Paste x and x^F side by side."""
        left, top = place
        self.image.paste(Image.fromarray(picture.rgb), place)
        grey = np.clip(np.rint(128 + gain * picture.frequency), 0, 255).astype(np.uint8)
        self.image.paste(Image.fromarray(grey), (left + self.tile + _GAP, top))

    def cross_out(self, place: tuple[int, int], reason: str) -> None:
        """Write in a tile why its frame is missing."""
        left, top = place
        right, bottom = left + 2 * self.tile + _GAP - 1, top + self.tile - 1
        missing = reason == "no frames"
        colour = _FAINT if missing else _ALARM
        self.pen.rectangle((left, top, right, bottom), _PALE, colour)
        if not missing:
            self.pen.line((left, top, right, bottom), colour)
            self.pen.line((left, bottom, right, top), colour)
        room = max(1, (self.tile - 3 * _GAP) // _SMALL)
        lines = _wrap(reason, self.small, right - left - 4 * _GAP)[:room]
        wide = max(self.small.getlength(line) for line in lines) / 2 + _GAP
        x, y = (left + right) / 2, (top + bottom) / 2 - len(lines) * _SMALL / 2
        self.pen.rectangle((x - wide, y - 2, x + wide, y + len(lines) * _SMALL + 1), _PALE)
        for index, line in enumerate(lines):
            self.pen.text((x, y + index * _SMALL), line, colour, self.small, anchor="ma")
