"""Manifest, the index of a data set with a row per frame: its checks, counts and hash."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from tokd_lightning.data.cache import cache_file, read_cache, write_cache
from tokd_lightning.data.packed import split_path
from tokd_lightning.errors import TokdError, reason

COLUMNS = (
    "path",  # relative to the root, with forward slashes
    "dataset",
    "method",  # "real", or the name of the manipulation
    "video",
    "target",  # the identity on screen
    "source",  # the donor's identity; empty for a real video
    "quality",
    "frame",  # index in the video
    "label",  # 1 = fake
    "split",
)
_PART = 64  # files that a thread hashes between two updates of the progress bar
SPLITS = ("train", "val", "test")
VIDEO = ["dataset", "method", "video", "quality"]
# Recognises Celeb-DF by its name, at the start of the text, or by its folders.
_CELEBDF = re.compile(r"^celeb[-_ ]?df|/celeb-(?:real|synthesis)/")


class Scan(NamedTuple):
    """Output of a layout: the frames, and the videos that should have frames but have none.

    Attributes:
        manifest: One row per frame, :data:`COLUMNS`.
        empty: Videos without a single frame, relative to the root.
        dropped: Videos left out on purpose, such as fakes whose donor is in another split.
        apart: Splits that must not share an identity; None applies the rule of each data set, see
            :func:`shares_test`.
        notes: Sentences on what is listed but not used, or was inferred by a rule.
        listed: Number of videos that belong to each split, including those without frames and those
            that a subset lacks; a split without an entry is complete.
    """

    manifest: pd.DataFrame
    empty: list[str]
    dropped: tuple[str, ...] = ()
    apart: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    listed: Mapping[str, int] = MappingProxyType({})


def build(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Build a manifest from rows in the order of :data:`COLUMNS`."""
    manifest = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return manifest.astype({"frame": "int64", "label": "int64"})


def _first(values: Iterable[object]) -> str:
    """Format the first three values, and how many more there are."""
    every = [str(v) for v in values]
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def shares_test(dataset: str, path: str) -> bool:
    """Return whether a frame's data set has a published test split that shares people with others.

    That is Celeb-DF, recognised by its name or its folders; there only training and validation must
    have disjoint identities.

    Args:
        dataset: Data set name of the row.
        path: Path of a frame or a video, relative to the root, with forward slashes.
    """
    text = f"{dataset}/{path}".lower()
    return "celeb" in text and _CELEBDF.search(text) is not None


def begins(manifest: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the rows that differ from the row before in any of the columns."""
    marks = np.zeros(len(manifest), dtype=bool)
    marks[:1] = True
    for name in columns:
        values = manifest[name].to_numpy()
        marks[1:] |= values[1:] != values[:-1]
    return marks


def runs_of(manifest: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the first row of every run of rows that are equal in the columns.

    A video's frames follow each other, so that of 160,000 rows 5000 are left, and pandas groups
    these in a tenth of the time.
    """
    return manifest[begins(manifest, columns)]


def first_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the first row of every video."""
    return runs_of(manifest, VIDEO).drop_duplicates(VIDEO)


def check(manifest: pd.DataFrame, apart: tuple[str, ...] | None = None) -> None:
    """Check that results on a manifest can be trusted.

    Args:
        manifest: Rows of :data:`COLUMNS`.
        apart: Splits that must not share an identity, see :class:`Scan`.

    Raises:
        TokdError: A column is missing; a split or label is unknown; a label contradicts its method;
            a frame is listed twice; a video, or an identity as target or source, is in two splits.
    """
    if missing := [c for c in COLUMNS if c not in manifest.columns]:
        raise TokdError(f"the manifest lacks the columns {', '.join(missing)}")
    wrong = manifest[~manifest["split"].isin(SPLITS)]
    if len(wrong):
        raise TokdError(f"splits are {', '.join(SPLITS)}, not {_first(wrong['split'].unique())}")
    wrong = manifest[manifest["label"] != (manifest["method"] != "real").astype("int64")]
    if len(wrong):
        raise TokdError(
            f"{len(wrong)} frames have the wrong label (0 for method 'real', 1 for any other): "
            + _first(wrong["path"])
        )
    for key in (["path"], [*VIDEO, "frame"]):
        wrong = manifest[manifest.duplicated(key)]
        if len(wrong):
            raise TokdError(f"{len(wrong)} frames are listed twice, e.g. {_first(wrong['path'])}")
    spread = runs_of(manifest, [*VIDEO, "split"]).groupby(VIDEO, sort=True)["split"].nunique()
    if (spread > 1).any():
        videos = ("/".join(map(str, key)) for key in spread.index[spread > 1])
        raise TokdError(f"videos in more than one split: {_first(videos)}")
    marks = _held_apart(manifest) if apart is None else manifest["split"].isin(apart)
    rows = manifest if marks.all() else manifest[marks]
    rows = runs_of(rows, ["dataset", "target", "source", "split"])
    people = pd.concat(
        rows[["dataset", role, "split"]].set_axis(["dataset", "id", "split"], axis=1)
        for role in ("target", "source")
    )
    people = people[people["id"] != ""]
    spread = people.groupby(["dataset", "id"], sort=True)["split"].nunique()
    if (spread > 1).any():
        ids = (identity for _, identity in spread.index[spread > 1])
        raise TokdError(
            f"identities in more than one split (as target or source of a video): {_first(ids)}"
        )


def _held_apart(manifest: pd.DataFrame) -> "pd.Series[bool]":
    """Mark the rows whose people must not be in another split, by the rules of their data sets."""
    apart = manifest["split"] != "test"
    test = manifest.loc[~apart, ["dataset", "path"]]
    pairs = zip(test["dataset"], test["path"], strict=True)
    marks = apart.to_numpy(copy=True)
    marks[~marks] = np.array([not shares_test(name, path) for name, path in pairs], dtype=bool)
    return pd.Series(marks, index=manifest.index)


def counts(manifest: pd.DataFrame, frames_per_video: int) -> pd.DataFrame:
    """Count videos and frames.

    Args:
        manifest: Rows of :data:`COLUMNS`.
        frames_per_video: Number of frames expected per video.

    Returns:
        A row per data set, split and method (in order of appearance): ``videos``, ``frames`` and
        ``short``, the videos with fewer frames than expected (none in a data set whose videos all
        have one frame).
    """
    group = ["dataset", "split", "method"]
    keys = [*group, "video", "quality"]
    starts = np.flatnonzero(begins(manifest, keys))
    runs = manifest[keys].iloc[starts].assign(frames=np.diff(starts, append=len(manifest)))
    videos = runs.groupby(keys, sort=False)["frames"].sum().reset_index()
    # A collection of pictures has one frame per "video", as it should.
    longest = videos.groupby(["dataset", "quality"], sort=False)["frames"].transform("max")
    videos["short"] = (videos["frames"] < frames_per_video) & (longest > 1)
    by = videos.groupby(group, sort=False)
    return by.agg(
        videos=("frames", "size"), frames=("frames", "sum"), short=("short", "sum")
    ).reset_index()


def counts_table(
    manifest: pd.DataFrame, frames_per_video: int, empty: int = 0, dropped: int = 0
) -> Table:
    """Draw :func:`counts` for a terminal.

    Args:
        manifest: Rows of :data:`COLUMNS`.
        frames_per_video: Number of frames expected per video.
        empty: Number of videos without any frame.
        dropped: Number of videos left out on purpose, see :class:`Scan`.
    """
    rows = counts(manifest, frames_per_video)
    short = int(rows["short"].sum())
    notes = [f"{short} videos have fewer than {frames_per_video} frames: all theirs are used"]
    notes += [f"{empty} videos have no frames at all"]
    notes += [f"{dropped} fakes are left out, as their donor belongs to another split"]
    caption = "; ".join(n for n, many in zip(notes, (short, empty, dropped), strict=True) if many)
    sets = runs_of(manifest, ["dataset", "quality"])
    names = (sets["dataset"] + " " + sets["quality"]).unique()
    title = escape(f"Frames (videos) of {', '.join(names)}")
    table = Table(title=title, caption=caption or None, title_justify="left")
    table.caption_justify = "left"
    table.add_column("split", no_wrap=True)
    methods = list(rows["method"].unique())
    for method in methods:
        table.add_column(escape(method), justify="right", overflow="fold")
    datasets = list(rows["dataset"].unique())
    for split in SPLITS:
        for dataset in datasets:
            its = rows[(rows["split"] == split) & (rows["dataset"] == dataset)]
            mine = its.groupby("method")[["frames", "videos"]].sum()
            if len(mine):
                cells = (mine.loc[m] if m in mine.index else None for m in methods)
                table.add_row(
                    split if len(datasets) == 1 else f"{split} {escape(dataset)}",
                    *("–" if c is None else f"{c['frames']} ({c['videos']})" for c in cells),
                )
    return table


def data_hash(manifest: pd.DataFrame, root: Path) -> str:
    """Hash the files of a manifest: sha256 over sorted relative paths and content hashes.

    It depends on content and on names below the root, not on where the root is. Content hashes
    are cached in ``$XDG_CACHE_HOME/tokd_lightning`` (by default ``~/.cache``), valid while a file's
    size and modification time are unchanged; a cache that cannot be read or written only costs
    time.

    Args:
        manifest: Rows with a ``path`` relative to ``root``, of a file or of a record in a pack, and
            with a ``teacher_path`` if they are pairs.
        root: The data set's folder.

    Returns:
        64 hexadecimal digits.

    Raises:
        TokdError: A file of the manifest cannot be read.
    """
    columns = [name for name in ("path", "teacher_path") if name in manifest.columns]
    frames = sorted(set(manifest[columns].itertuples(index=False, name=None)))
    paths = sorted({split_path(path)[0] for pair in frames for path in pair if path})
    cache = cache_file("hashes", root.resolve())
    known = read_cache(cache)

    def entry(path: str) -> list[Any]:
        file_name = f"{root}/{path}"
        try:
            stat = os.stat(file_name)  # noqa: PTH116  # a Path for each of 160,000 takes as long
            old: list[Any] | None = known.get(path)
            if old and old[:2] == [stat.st_size, stat.st_mtime_ns]:
                return old
            with Path(file_name).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise TokdError(f"cannot read {root / path}: {reason(error)}") from error
        return [stat.st_size, stat.st_mtime_ns, content]

    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    with ThreadPoolExecutor(8) as pool:
        entries = track(
            pool.map(lambda part: [entry(path) for path in part], parts),
            description="Hashing the data",
            total=len(parts),
            transient=True,
            disable=len(paths) < 5000,
        )
        found = dict(zip(paths, chain.from_iterable(entries), strict=True))
    if any(known.get(path) != value for path, value in found.items()):
        write_cache(cache, known | found)
    whole = hashlib.sha256()
    for pair in frames:
        halves = (f"{path}\0{found[split_path(path)[0]][2]}" for path in pair if path)
        whole.update(("\0".join(halves) + "\n").encode())
    return whole.hexdigest()
