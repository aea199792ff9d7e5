"""Writer of ``metrics.csv``, a run's curves; a kill never leaves a partial file."""

import csv
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokd_lightning.files import replacing


class Curves:
    """Rows of numbers under one header, which grows as new names appear.

    Each save replaces the whole file, so a kill neither loses saved rows nor leaves a partial row.
    Unsaved rows are in ``metrics``.

    Args:
        path: The file; its existing rows are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: list[dict[str, Any]] = []
        self.columns, rows = read(path)
        self._saved = len(rows)

    @property
    def rows(self) -> int:
        """Number of rows, including unsaved ones."""
        return self._saved + len(self.metrics)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        numbers = {key: v.item() if hasattr(v, "item") else v for key, v in metrics.items()}
        self.metrics.append({**numbers, "step": self.rows if step is None else step})

    def save(self) -> None:
        """Write all rows to the file."""
        if not self.metrics:
            return
        columns = sorted({*self.columns, *(key for row in self.metrics for key in row)})
        if columns == self.columns:
            _replace(self.path, columns, self.metrics, behind=True)
        else:
            _replace(self.path, columns, [*read(self.path)[1], *self.metrics])
        self.columns, self._saved, self.metrics = columns, self.rows, []


def read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of a curves file; both are empty if the file does not exist."""
    if not path.is_file():
        return [], []
    with path.open(newline="") as file:
        lines = csv.DictReader(file)
        return list(lines.fieldnames or []), list(lines)


def cut(path: Path, rows: int) -> None:
    """Keep the first ``rows`` rows of a curves file, those a checkpoint knows."""
    columns, found = read(path)
    if not rows:
        path.unlink(missing_ok=True)
    elif len(found) > rows:
        _replace(path, columns, found[:rows])


def _replace(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], behind: bool = False
) -> None:
    """Write a new file with ``rows`` in place of the old ones, or after them if ``behind``."""
    part = path.with_name(f".{path.name}.part")
    with replacing(path, part), part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if behind:
            with path.open(newline="") as earlier:
                shutil.copyfileobj(earlier, file)
        else:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
