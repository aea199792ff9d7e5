"""Choice and order of the frames shown of a data set."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import pandas as pd

from tokd_lightning.data.layouts.ffpp import ALL_METHODS
from tokd_lightning.data.layouts.numbering import numeric_order
from tokd_lightning.data.manifest import SPLITS, VIDEO
from tokd_lightning.data.qualities import best_first
from tokd_lightning.errors import TokdError
from tokd_lightning.show.sheet import Band, Row, Tile

_DONORS = 3  # fakes next to their real video if there is only one method


class Still(NamedTuple):
    """The frame that represents a video: a row of a manifest."""

    path: str
    dataset: str
    method: str
    video: str
    target: str
    source: str
    quality: str
    frame: int
    split: str


def keep(
    manifest: pd.DataFrame, quality: str | None, method: Sequence[str] | None, split: str | None
) -> pd.DataFrame:
    """Select rows; real frames are kept for every choice of methods.

    Args:
        manifest: Rows of a manifest.
        quality: One compression; None takes all.
        method: Manipulations, or ``real``; None takes all.
        split: ``train``, ``val`` or ``test``; None takes all.

    Raises:
        TokdError: The manifest has no such quality, split or method.
    """
    for column, wanted in (("quality", quality), ("split", split)):
        there = sorted(manifest[column].unique())
        if wanted is not None and wanted not in there:
            listed = ", ".join(map(str, there)) or "nothing"
            raise TokdError(f"no frames of {column} {wanted!r}: choose from {listed}")
        if wanted is not None:
            manifest = manifest[manifest[column] == wanted]
    if method is not None:
        there = in_order(manifest["method"].unique())
        if strangers := [m for m in method if m not in there]:
            raise TokdError(f"no frames of method {strangers[0]!r}: choose from {', '.join(there)}")
        manifest = manifest[manifest["method"].isin({*method, "real"})]
    return manifest


def in_order(methods: Iterable[str]) -> list[str]:
    """Sort methods: real first, FF++'s in the order of their papers, then others by name."""
    known = {name: number for number, name in enumerate(("real", *ALL_METHODS))}
    return sorted(methods, key=lambda name: (known.get(name, len(known)), name))


def bands_of(manifest: pd.DataFrame, count: int, seed: int | None = None) -> list[Band]:
    """Lay out the videos of a data set, each by its middle frame.

    Real videos are next to the fakes made from them, a row per video and quality. Videos without
    a known counterpart follow by split, a row per method and quality.

    Args:
        manifest: Rows of a manifest, of one or more data sets.
        count: Largest number of real videos, and of samples per method.
        seed: Seed for drawing them at random; None spreads them evenly over all names.
    """
    datasets: dict[str, list[Still]] = {}
    for still in middle_frames(manifest):
        datasets.setdefault(still.dataset, []).append(still)
    bands = []
    for dataset, stills in datasets.items():
        name = dataset if len(datasets) > 1 else ""
        families, alone = _families(stills)
        if families:
            bands.append(_side_by_side(families, name, count, seed))
        for split in (*SPLITS, ""):
            if rows := [still for still in alone if still.split == split]:
                heading = ", ".join(part for part in (name, split) if part)
                heading += ": of these no counterpart is known" if families else ""
                bands.append(_by_method(rows, heading, count, seed))
    return bands


def middle_frames(manifest: pd.DataFrame) -> list[Still]:
    """Return the middle frame of every video, sorted by the videos' names."""
    ordered = manifest.sort_values([*VIDEO, "frame"], kind="stable")
    by = ordered.groupby(VIDEO, sort=False)["frame"]
    middle = ordered[by.cumcount() == by.transform("size") // 2]
    rows = middle[list(Still._fields)].itertuples(index=False, name=None)
    stills = [Still(*row) for row in rows]
    first = {name: number for number, name in enumerate(manifest["dataset"].unique())}
    return sorted(stills, key=lambda still: first[still.dataset])


def _families(stills: Sequence[Still]) -> tuple[dict[str, list[Still]], list[Still]]:
    """Assign the fakes of one data set to the real videos they were made from.

    A fake's name is that of its target's video with the donor inserted: ``000_003`` is made from
    ``000``, ``id0_id1_0004`` from ``id0_0004``. Of the target's real videos, the one with the
    longest common prefix with that name is taken.

    Returns:
        Name of a real video -> its fakes and itself, and the videos without a counterpart.
    """
    owned: dict[str, dict[str, None]] = {}
    for still in stills:
        if still.method == "real":
            owned.setdefault(still.target, {})[still.video] = None

    def original(fake: Still) -> str:
        if not fake.source or fake.target not in owned:
            return ""
        wanted = fake.video.replace(f"_{fake.source}", "", 1)
        return max(owned[fake.target], key=lambda name: _alike(name, wanted))

    families: dict[str, list[Still]] = {}
    alone = []
    for still in sorted(stills, key=lambda still: still.method == "real"):  # fakes come first
        name = still.video if still.method == "real" else original(still)
        if still.method == "real" and name in families:
            families[name].append(still)
        elif still.method != "real" and name:
            families.setdefault(name, []).append(still)
        else:
            alone.append(still)
    return families, alone


def _alike(one: str, other: str) -> int:
    """Return the length of the common prefix of two names."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _side_by_side(
    families: dict[str, list[Still]], heading: str, count: int, seed: int | None
) -> Band:
    """Lay out real videos with their fakes, only complete families if there are any."""
    stills = [still for family in families.values() for still in family]
    qualities = sorted({still.quality for still in stills}, key=best_first)
    methods = in_order({"real", *(still.method for still in stills)})
    cells: dict[tuple[str, str, str], list[Still]] = {}
    for name, family in families.items():
        for still in family:
            cells.setdefault((name, still.quality, still.method), []).append(still)
    full = [n for n in families if all((n, q, m) in cells for q in qualities for m in methods)]
    chosen = spread(full or list(families), count, seed)
    most = max(len(cells.get((n, q, methods[-1]), [])) for n in chosen for q in qualities)
    widths = [1, max(1, min(most, _DONORS))] if len(methods) == 2 else [1] * len(methods)
    rows = []
    for name in chosen:
        for quality in qualities:
            tiles: list[Tile | None] = []
            for method, width in zip(methods, widths, strict=True):
                there = cells.get((name, quality, method), [])[:width]
                tiles += [_tile(still, widths[-1] > 1) for still in there] or [Tile(None)]
                tiles += [None] * (width - max(1, len(there)))
            if any(tile is not None and tile.path for tile in tiles):
                rows.append(Row((name, quality), tuple(tiles)))
    columns = [m for m, width in zip(methods, widths, strict=True) for m in [m] * width]
    return Band(heading, tuple(columns), tuple(rows))


def _by_method(stills: Sequence[Still], heading: str, count: int, seed: int | None) -> Band:
    """Lay out samples of each method, for videos of which only the method is known."""
    rows = []
    qualities = sorted({still.quality for still in stills}, key=best_first)
    for method in in_order({still.method for still in stills}):
        there = {(s.video, s.quality): s for s in stills if s.method == method}
        names = spread({video for video, _ in there}, count, seed)
        for quality in [q for q in qualities if any(quality == q for _, quality in there)]:
            found = (there.get((name, quality)) for name in names)
            tiles = (Tile(None) if still is None else _tile(still, True) for still in found)
            label = (method, quality) if len(qualities) > 1 else (method,)
            rows.append(Row(label, tuple(tiles)))
    return Band(heading, (), tuple(rows))


def _tile(still: Still, caption: bool) -> Tile:
    return Tile(still.path, (f"{still.video}, frame {still.frame}",) if caption else ())


def spread(names: Iterable[str], count: int, seed: int | None = None) -> list[str]:
    """Choose up to ``count`` names, evenly spaced or drawn at random with a seed.

    They are sorted by the numbers in them: ``id2`` comes before ``id10``.
    """
    every = sorted(names, key=numeric_order)
    count = min(count, len(every))
    if seed is None:
        picked = np.linspace(0, len(every) - 1, count).round().astype(int)
    else:
        picked = np.sort(np.random.default_rng(seed).permutation(len(every))[:count])
    return [every[i] for i in picked]
