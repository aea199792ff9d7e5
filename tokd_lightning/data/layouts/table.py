"""Table of frames (CSV), written by a user or by ``tokd prepare``, as a manifest."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.data.layouts.cells import Cells
from tokd_lightning.data.layouts.listed import (
    LABELS,
    SPLIT_NAMES,
    UNKNOWN,
    below,
    is_there,
    shown,
    spellings,
)
from tokd_lightning.data.layouts.numbering import frame_numbers, numeric_order
from tokd_lightning.data.layouts.stills import Image, name_videos
from tokd_lightning.data.layouts.video_folder import beyond
from tokd_lightning.data.manifest import COLUMNS, VIDEO, Scan
from tokd_lightning.data.packed import split_path
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError

# Columns that a run adds to a manifest; they are dropped, so its table of frames can be read too.
_ADDED = ("p_fake", "loss", "teacher_path")
_FRAME = re.compile(r"([0-9]{1,18})(?:\.0)?")  # 3.0: saved by pandas beside an empty cell
# Method names that usually mean real; without a label they would count as manipulations.
_MEANS_REAL = frozenset({"original", "pristine", "genuine", "authentic", "youtube", "actors"})
_LOOKED_FOR = 64


def scan_table(
    file: Path,
    root: Path | None = None,
    quality: str | None = None,
    frames_per_video: int = 32,
    dataset: str = "manifest",
) -> Scan:
    """Read a table with a row per frame.

    Columns may be in any order, separated by commas, semicolons or tabs. ``path``, ``split`` and
    one of ``label`` and ``method`` are required. The defaults of empty cells and missing columns:

    ======== ====================================================================
    column   default
    ======== ====================================================================
    method   ``real`` or ``fake``, by the label
    label    0 for the method ``real``, 1 for any other
    dataset  the argument ``dataset``
    video    name of the parent folder, or of the picture itself, see
             :func:`~tokd_lightning.data.layouts.stills.name_videos`
    target   unknown, as is ``source``: identity checks ignore the row
    quality  ``unknown``; without the column, the argument ``quality``; if that is ``unknown``,
             a list with a single quality is read completely
    frame    the number that varies in the names, or the position among the video's files
    ======== ====================================================================

    ``split`` is train, val (valid, validation) or test; ``label`` 0 or real, 1 or fake. All other
    columns are kept as text, except those that a run adds. ``000`` stays ``000``, and ``NA`` is
    ordinary text.

    Args:
        file: UTF-8, a header and a row per frame.
        root: Folder that paths are relative to; by default the file's folder. Absolute paths below
            it are allowed, backslashes are read as slashes.
        quality: Quality of the rows to take; None takes all.
        frames_per_video: Evenly spaced frames per video; all frames of a shorter one.
        dataset: Data set name of rows without one.

    Returns:
        The manifest, its videos in order of appearance,
        :data:`~tokd_lightning.data.manifest.COLUMNS` first.

    Raises:
        TokdError: The table is not as described, a frame is listed twice, or a video is in two
            splits (all with the line number), no row has the quality, or no file of the table
            exists.
    """
    cells = Cells(file, COLUMNS)
    if missing := [c for c in ("path", "split") if c not in cells.columns]:
        raise TokdError(f"{file} lacks the columns {', '.join(missing)}; {_has(cells)}")
    if not {"label", "method"} & set(cells.columns):
        raise TokdError(f"{file} has neither a column label nor a column method; {_has(cells)}")
    if not cells.lines:
        raise TokdError(f"{file} has a header but no rows")
    place = file.absolute().parent if root is None else root
    manifest, notes = _manifest(cells, place, quality or UNKNOWN, dataset)
    _refuse_contradictions(cells, manifest)
    if quality is not None:
        manifest, others = _of_quality(manifest, quality, file)
        notes += others
    whole = len(manifest)
    manifest = _thin(manifest, frames_per_video)
    notes += beyond(whole - len(manifest), len(manifest), frames_per_video)
    _look(place, manifest["path"].tolist(), file)
    return Scan(manifest, [], notes=notes)


def _has(cells: Cells) -> str:
    return f"it has {shown(', '.join(cells.columns))}"


def _manifest(
    cells: Cells, root: Path, quality: str, dataset: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Convert the columns and fill in defaults; return the rows and notes on what was inferred."""
    roots = spellings(root)
    columns = cells.columns
    nothing = [""] * len(cells.lines)
    data: dict[str, Any] = {column: columns.get(column, nothing) for column in COLUMNS}
    data["path"] = cells.each("path", lambda path: below(path, roots))
    split = (split_path(path) for path in data["path"])  # records of an LMDB have no number
    files = [(file, record if isinstance(record, int) else None) for file, record in split]
    data["split"] = cells.each("split", _split)
    data["method"], data["label"] = _methods(cells)
    data["dataset"] = [name or dataset for name in data["dataset"]]
    other = UNKNOWN if "quality" in columns else quality
    data["quality"] = [text or other for text in data["quality"]]
    frames = [None] * len(files) if "frame" not in columns else cells.each("frame", _frame)
    data["video"], stills = _videos(data, files, frames)
    keys = list(zip(*(data[column] for column in VIDEO), strict=True))
    data["frame"] = _numbered(frames, files, keys)
    data |= {n: c for n, c in columns.items() if n not in (*COLUMNS, *_ADDED)}
    notes = (
        f"{stills} pictures whose list has no column video are taken for single pictures, each a "
        "video of its own",
    )
    manifest = pd.DataFrame(data).astype({"frame": "int64", "label": "int64"})
    return manifest, notes if stills else ()


def _videos(
    data: dict[str, Any], files: list[tuple[str, int | None]], frames: Sequence[int | None]
) -> tuple[list[str], int]:
    """Return the video of every row, and the number of pictures that are videos of their own."""
    if all(data["video"]):
        return data["video"], 0
    about = (data[name] for name in ("dataset", "method", "quality", "split", "video"))
    return name_videos(
        [
            Image(
                file, record is not None, dataset, method, quality, split, video, frame is not None
            )
            for (file, record), frame, dataset, method, quality, split, video in zip(
                files, frames, *about, strict=True
            )
        ]
    )


def _split(text: str) -> str:
    try:
        return SPLIT_NAMES[text.strip().casefold()]
    except KeyError as error:
        raise ValueError("is not train, val or test") from error


def _label(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return LABELS[text.strip().casefold()]
    except KeyError as error:
        raise ValueError("is neither 0 (real) nor 1 (fake)") from error


def _frame(text: str) -> int | None:
    if not text.strip():
        return None
    if not (number := _FRAME.fullmatch(text.strip())):
        raise ValueError("is not a number of a frame: 0, 1, 2, …")
    return int(number[1])


def _methods(cells: Cells) -> tuple[list[str], list[int]]:
    """Derive methods and labels from each other, and check that they agree."""
    nothing = [""] * len(cells.lines)
    labels = cells.each("label", _label) if "label" in cells.columns else [None] * len(nothing)
    methods = [method.strip() for method in cells.columns.get("method", nothing)]
    found: dict[tuple[str, int | None], tuple[str, int]] = {}
    for row, key in enumerate(zip(methods, labels, strict=True)):
        if key not in found:
            try:
                found[key] = _agreed(*key)
            except ValueError as error:
                raise cells.wrong(str(error), cells.lines[row]) from error
    both = [found[key] for key in zip(methods, labels, strict=True)]
    return [method for method, _ in both], [label for _, label in both]


def _agreed(method: str, label: int | None) -> tuple[str, int]:
    if label is None and not method:
        raise ValueError("neither a label nor a method says whether the frame is real")
    real = method.casefold() == "real"
    if label is None and method.casefold() in _MEANS_REAL:
        raise ValueError(f"the method {method!r} has no label: write real, or a label of 0 or 1")
    if label is None:
        label = 0 if real else 1
    if method and real != (label == 0):
        raise ValueError(
            f"label {label} does not go with the method {shown(method)}: real is 0, any other is 1"
        )
    return ("real" if label == 0 else method or "fake"), label


def _numbered(
    frames: Sequence[int | None],
    files: list[tuple[str, int | None]],
    videos: list[tuple[str, ...]],
) -> list[int]:
    """Number the frames that have no number, from the names of their video's files."""
    without: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, (frame, video) in enumerate(zip(frames, videos, strict=True)):
        if frame is None:
            without[video].append(row)
    numbers = [frame or 0 for frame in frames]
    for rows in without.values():
        names = {row: files[row][0].rpartition("/")[2] for row in rows}
        rows.sort(key=lambda row: (numeric_order(names[row]), files[row]))
        for row, number in zip(rows, frame_numbers([names[r] for r in rows]), strict=True):
            record = files[row][1]
            numbers[row] = number if record is None else record
    return numbers


def _refuse_contradictions(cells: Cells, manifest: pd.DataFrame) -> None:
    """Raise if a frame is listed twice or a video is in two splits."""
    for key, said in ((["path"], "the same file"), ([*VIDEO, "frame"], "the same frame")):
        twice = manifest.duplicated(key)
        if twice.any():
            row = int(twice.to_numpy().argmax())
            same = (manifest[key] == manifest.loc[row, key]).all(axis=1)
            first = int(same.to_numpy().argmax())
            hint = "" if key == ["path"] else _hint(cells, ("video", "frame"))
            raise cells.wrong(f"{said} as in line {cells.lines[first]}{hint}", cells.lines[row])
    # A video at two qualities is one video.
    first_split = manifest.groupby(VIDEO[:-1], sort=False)["split"].transform("first")
    spread = manifest["split"] != first_split
    if spread.any():
        row = int(spread.to_numpy().argmax())
        video, split = manifest["video"].iloc[row], manifest["split"].iloc[row]
        raise cells.wrong(
            f"video {shown(video)} is in {split} here and in {first_split.iloc[row]} before"
            + _hint(cells, ("video",)),
            cells.lines[row],
        )


def _hint(cells: Cells, names: tuple[str, ...]) -> str:
    absent = [name for name in names if name not in cells.columns]
    return f"; a column {' or '.join(absent)} would tell them apart" if absent else ""


def _of_quality(
    manifest: pd.DataFrame, quality: str, file: Path
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Take the rows of a quality; ``unknown`` also matches a table's only quality."""
    there = Counter(manifest["quality"].tolist())
    if quality == UNKNOWN and len(there) == 1:
        return manifest, ()
    if quality not in there:
        names = ", ".join(sorted(there)[:5])
        raise TokdError(
            f"{file} has no rows of quality {quality!r}: choose from {names} (--data.quality)"
        )
    others = [
        f"{number} frames {'without a quality' if name == UNKNOWN else f'of quality {name}'} are "
        "not used"
        for name, number in sorted(there.items())
        if name != quality
    ]
    return manifest[manifest["quality"] == quality].reset_index(drop=True), tuple(others)


def _thin(manifest: pd.DataFrame, count: int) -> pd.DataFrame:
    """Group each video's frames in order and keep evenly spaced ones."""
    videos = manifest.groupby(VIDEO, sort=False)
    order = pd.DataFrame({"video": videos.ngroup(), "frame": manifest["frame"]})
    order = order.sort_values(["video", "frame"], kind="stable")
    place = order.groupby("video").cumcount()
    length = videos["frame"].transform("size").loc[order.index]
    chosen = {n: frozenset(evenly_spaced(n, count)) for n in length.unique().tolist()}
    pairs = zip(place.tolist(), length.tolist(), strict=True)
    kept = order.index[[p in chosen[n] for p, n in pairs]]
    return manifest.loc[kept].reset_index(drop=True)


def _look(root: Path, paths: list[str], file: Path) -> None:
    """Raise if no file of the table (in a sample) exists: the root must be wrong."""
    some = [paths[i] for i in evenly_spaced(len(paths), _LOOKED_FOR)]
    if not any(is_there(root / split_path(path)[0]) for path in some):
        raise TokdError(
            f"{file} names files that are not in {root}, e.g. {shown(some[0])}: its paths are "
            "relative to the root (--data.root)"
        )
