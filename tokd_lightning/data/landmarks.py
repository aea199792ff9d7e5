"""Landmarks of stored frames: the file that holds them, and the points of a manifest's rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text

if TYPE_CHECKING:
    import pandas as pd

LANDMARKS = "landmarks.csv"
"""Name of the file, next to ``manifest.csv``."""
COUNT = 68
MIRROR = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65),
    ]
)
"""Order that gives each point of a mirrored face its own meaning again."""
_KEYS = ("path", "dataset", "method", "video", "quality", "frame")
_POINTS = [f"{axis}{number}" for number in range(COUNT) for axis in "xy"]
MAX_MISSING = 0.01

Points = NDArray[np.float32]


def write_landmarks(
    file: Path, keys: Sequence[str], rows: Iterable[tuple[Sequence[object], Points]]
) -> None:
    """Write a file of landmarks atomically.

    Args:
        file: A ``.csv``.
        keys: Columns that identify a frame, of path, dataset, method, video, quality and frame.
        rows: The values of these columns, and the frame's points ``(68, 2)`` in its pixels.

    Raises:
        TokdError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *_POINTS])
    for values, points in rows:
        writer.writerow([*values, *(f"{value:.2f}" for value in points.ravel())])
    write_text(file, text.getvalue())


def read_landmarks(file: Path, table: pd.DataFrame) -> Points:
    """Read the points of a manifest's rows.

    The file is a CSV with a header: columns that identify a frame, then ``x0, y0, …, x67, y67`` in
    pixels of the stored frame, in iBUG's order. The identifying columns are ``path``, or ``video``
    and ``frame`` with, where these are not enough, ``method``, ``quality`` and ``dataset``: without
    a column ``quality``, points belong to every quality of a frame.

    Args:
        file: The file.
        table: Rows of a manifest.

    Returns:
        ``(N, 68, 2)``, x and y; NaN for a row without points.

    Raises:
        TokdError: The file is missing or malformed.
    """
    import pandas as pd  # here, as `tokd demo` needs only the order of the points

    try:
        found = pd.read_csv(
            file, dtype=dict.fromkeys(_KEYS[:-1], str), keep_default_na=False,
            na_values={name: ["", "nan"] for name in _POINTS},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise TokdError(
            f"there is no {file}: find the landmarks with `tokd landmarks {file.parent}`, or name "
            "their file with --data.landmarks"
        ) from error
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise TokdError(
            f"{file} cannot be read as a CSV: {' '.join(str(error).split())}"
        ) from error
    keys = [name for name in _KEYS if name in found.columns]
    if missing := [name for name in _POINTS if name not in found.columns]:
        raise TokdError(
            f"{file} has no column {missing[0]}: it needs x0, y0, … x67, y67, the 68 points of iBUG"
        )
    if "path" in keys:
        keys = ["path"]
    elif not {"video", "frame"} <= {*keys}:
        raise TokdError(f"{file} does not say which frames: it needs path, or video and frame")
    try:
        values = found[_POINTS].to_numpy(np.float32).reshape(-1, COUNT, 2)
        places = found[keys].astype({"frame": np.int64} if "frame" in keys else {})
    except ValueError as error:
        raise TokdError(f"{file} holds something that is not a number: {error}") from error
    if places.duplicated().any():
        example = "/".join(map(str, places[places.duplicated()].iloc[0]))
        raise TokdError(f"{file} has two lines for the frame {example}: remove one")
    places["_line"] = np.arange(len(places))
    lines = table[keys].merge(places, on=keys, how="left")["_line"].to_numpy(np.float64)
    points = np.full((len(table), COUNT, 2), np.nan, np.float32)
    known = ~np.isnan(lines)
    points[known] = values[lines[known].astype(np.int64)]
    points[~np.isfinite(points).all((1, 2))] = np.nan
    return points


def limit_missing(lacking: NDArray[np.bool_], table: pd.DataFrame, what: str, remedy: str) -> str:
    """Check that few frames lack an annotation.

    Args:
        lacking: A mark per row.
        table: Rows of a manifest.
        what: Name of the annotation, plural.
        remedy: What to do, for the error.

    Returns:
        A sentence on how many frames lack it; empty if none does.

    Raises:
        TokdError: More than 1 % do.
    """
    count = int(lacking.sum())
    if not count:
        return ""
    share = count / len(table)
    text = f"{count} of {len(table)} frames ({share:.2%}) have no {what}"
    if share > MAX_MISSING:
        example = table.loc[lacking, "path"].iloc[0]
        raise TokdError(f"{text}, e.g. {example}; at most 1 % may lack them: {remedy}")
    return text
