"""Pairs of a fake and the real frame that it was made from, for batches of pairs."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokd_lightning.data.manifest import VIDEO


class Partners(NamedTuple):
    """Source frames of the fakes of a table.

    Attributes:
        rows: Row of each row's source frame, ``(N,)``; -1 for a real frame and for a fake without
            one.
        nearest: Number of fakes whose source video has no frame of their number: the nearest one is
            taken.
        lonely: Method -> number of fakes without a source frame.
    """

    rows: NDArray[np.int64]
    nearest: int
    lonely: dict[str, int]

    def describe(self) -> str:
        """Return a sentence on how many fakes have their source frame."""
        paired = int((self.rows >= 0).sum())
        text = f"{paired} training fakes are paired with the real frame that they were made from"
        if self.nearest:
            text += f" ({self.nearest} with the nearest one: their own is not among the frames)"
        if not self.lonely:
            return f"{text}, none is left out"
        each = ", ".join(f"{method} {number}" for method, number in sorted(self.lonely.items()))
        return f"{text}; {sum(self.lonely.values())} have no such video and are not drawn: {each}"


def find_partners(table: pd.DataFrame) -> Partners:
    """Find the real frame that each fake was made from.

    It belongs to a real video of the fake's target in the same data set and quality, see
    :func:`source_video`, and has the fake's frame number or the nearest one.

    Args:
        table: Rows of a manifest, numbered from 0.
    """
    found = np.full(len(table), -1, np.int64)
    nearest, lonely = 0, Counter[str]()
    videos: dict[tuple[Hashable, ...], NDArray[np.int64]] = {}
    reals: dict[tuple[Hashable, ...], dict[str, tuple[Hashable, ...]]] = {}
    key = [*VIDEO, "target", "source", "label"]
    groups: Any = table.groupby(key, sort=False, dropna=False).indices
    rows_of: Mapping[tuple[Hashable, ...], NDArray[np.int64]] = groups
    for its, rows in rows_of.items():
        dataset, _, video, quality, target, _, label = its
        if not label:
            videos[its] = rows
            reals.setdefault((dataset, quality, target), {})[str(video)] = its
    frames = table["frame"].to_numpy()
    for its, rows in rows_of.items():
        dataset, method, video, quality, target, source, label = its
        if not label:
            continue
        candidates = reals.get((dataset, quality, target), {}) if target != "" else {}
        name = source_video(str(video), str(target), str(source), [*candidates])
        if name is None:
            lonely[str(method)] += len(rows)
            continue
        theirs = videos[candidates[name]]
        theirs = theirs[np.argsort(frames[theirs], kind="stable")]
        after = np.searchsorted(frames[theirs], frames[rows]).clip(1, max(1, len(theirs) - 1))
        before, after = theirs[after - 1], theirs[after.clip(max=len(theirs) - 1)]
        closer = np.abs(frames[before] - frames[rows]) <= np.abs(frames[after] - frames[rows])
        found[rows] = np.where(closer, before, after)
        nearest += int((frames[found[rows]] != frames[rows]).sum())
    return Partners(found, nearest, dict(lonely))


def source_video(video: str, target: str, source: str, reals: Sequence[str]) -> str | None:
    """Return the real video that a fake was made from; None where it is not known.

    That is the target's real video whose name is the fake's without the donor, or the beginning of
    it: ``071`` of ``071_054``, ``id0_0003`` of ``id0_id1_0003``, ``01__talking`` of
    ``01_02__talking__AB``. Else it is the one named like the target (DFDC's ``original``) or, where
    the fake's name does not contain the target, the target's only one.

    Args:
        video: Name of the fake.
        target: The identity on screen.
        source: The donor; empty where it is unknown.
        reals: Names of the target's real videos.
    """
    own = video.replace(f"{target}_{source}", target, 1) if source else video
    matching = [name for name in reals if own == name or own.startswith(f"{name}_")]
    if matching:
        return max(matching, key=len)
    if target in reals:
        return target
    return reals[0] if len(reals) == 1 and target not in video else None
