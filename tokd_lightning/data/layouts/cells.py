"""Cells of a CSV file as text, with the line number of each row."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tokd_lightning.data.layouts.listed import shown, stray_character
from tokd_lightning.errors import TokdError, reason

T = TypeVar("T")
_DELIMITERS = ",;\t"


class Cells:
    """CSV file in UTF-8 with a header and one row per line; cells stay text.

    Args:
        file: The file. The delimiter is the most frequent of comma, semicolon and tab in the
            header.
        names: Column names that match regardless of case and surrounding spaces.

    Attributes:
        columns: Column name -> texts, in the file's order; columns without a name are left out.
        lines: Line number of each row.

    Raises:
        TokdError: The file cannot be read, is empty, is not UTF-8, or has two columns with the same
            name, a row whose length differs from the header's, a quoted line break or a control
            character; the message gives the line number if there is one.
    """

    def __init__(self, file: Path, names: tuple[str, ...]) -> None:
        self.file = file
        self.lines: list[int] = []
        rows = self._rows()
        header = next(rows, None)
        if header is None:
            raise TokdError(f"{file} is empty: it needs a header and a row per frame")
        header = [_known(name, names) for name in header]
        if twice := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
            raise self.wrong(f"two columns are named {shown(twice[0])}", 1)
        body = list(rows)
        cells = list(zip(*body, strict=True)) if body else [()] * len(header)
        self.columns = {n: list(c) for n, c in zip(header, cells, strict=True) if n}
        del self.lines[0]

    def wrong(self, message: str, line: int) -> TokdError:
        """Return an error about one line."""
        return TokdError(f"{self.file}, line {line}: {message}")

    def each(self, name: str, convert: Callable[[str], T]) -> list[T]:
        """Convert a column, each distinct text once.

        Args:
            name: The column.
            convert: Raises ValueError for a bad text, with a message that continues
                "<column> <text> …".

        Raises:
            TokdError: A text cannot be converted.
        """
        known: dict[str, T] = {}
        for row, text in enumerate(self.columns[name]):
            if text not in known:
                try:
                    known[text] = convert(text)
                except ValueError as error:
                    raise self.wrong(f"{name} {shown(text)} {error}", self.lines[row]) from error
        return [known[text] for text in self.columns[name]]

    def _rows(self) -> Iterator[list[str]]:
        """Yield the header and the rows that are not blank; record their line numbers."""
        text = self._text()
        first = text.lstrip("\r\n").partition("\n")[0]
        delimiter = max(_DELIMITERS, key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        width = None
        line = 0
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise self.wrong(f"{error}; quotes enclose whole cells", line + 1) from error
            if row is None:
                return
            line += 1
            if line != reader.line_num:
                raise self.wrong("a quoted cell goes on over the end of the line", line)
            if not any(row):
                continue
            width = len(row) if width is None else width
            if len(row) != width:
                raise self.wrong(f"{len(row)} cells where the header has {width}", line)
            self.lines.append(line)
            yield row

    def _text(self) -> str:
        try:
            content = self.file.read_bytes()
        except OSError as error:
            raise TokdError(f"cannot read {self.file}: {reason(error)}") from error
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode("utf-8-sig")
            message = "not UTF-8 text: save the table as UTF-8"
            raise self.wrong(message, _line_of(before)) from error
        bare = text.translate({ord(c): None for c in "\r\n\t"})
        if stray := stray_character(bare):
            message = f"the character {stray!a} has no place in a table"
            raise self.wrong(message, _line_of(text.partition(stray)[0]))
        return text


def _line_of(before: str) -> int:
    """Return the number of the line on which a text ends."""
    return before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def _known(name: str, names: tuple[str, ...]) -> str:
    plain = name.strip().casefold()
    return plain if plain in names else name.strip()
