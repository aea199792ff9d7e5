"""Validation split held out of training by identity, for data sets that come without one."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from tokd_lightning.data.layouts.celebdf import hold_out
from tokd_lightning.data.layouts.video_folder import Video
from tokd_lightning.data.manifest import Scan
from tokd_lightning.errors import TokdError


def hold_out_validation(scan: Scan, fraction: float, seed: int = 0) -> Scan:
    """Draw a new validation split from all rows that are not ``test``.

    Target and donor of a fake belong to the same group, and whole groups are drawn, so that no
    video is lost (FF++: pairs). Where one group holds more than half of all people, as in Celeb-DF,
    single people are drawn instead (:func:`~tokd_lightning.data.layouts.celebdf.hold_out`), and
    fakes whose target and donor are in different splits are dropped. A video of an unknown person
    counts as a person with the video's name.

    Args:
        scan: Output of a layout; its training and validation rows are merged first.
        fraction: Share of the groups or people of every data set, in (0, 1).
        seed: Seed of the draw.

    Returns:
        The same rows in the same order, except those dropped.

    Raises:
        TokdError: ``fraction`` is out of range, or training or validation would have no real or no
            fake videos.
    """
    if not 0 < fraction < 1:
        raise TokdError(f"val_fraction must be between 0 and 1, not {fraction}")
    manifest = scan.manifest.copy()
    pool = manifest[manifest["split"] != "test"]
    split: dict[tuple[str, str, str], str | None] = {}
    for _, rows in pool.groupby("dataset", sort=False):
        videos = _videos(rows)
        held_out = _draw(videos, fraction, seed)
        for v in videos:
            across = v.source and (v.source in held_out) != (v.target in held_out)
            side = "val" if v.target in held_out else "train"
            split[v.dataset, v.method, v.name] = None if across else side
    keys = zip(*(manifest[c] for c in ("dataset", "method", "video", "split")), strict=True)
    manifest["split"] = [s if s == "test" else split[d, m, v] for d, m, v, s in keys]
    gone = manifest["split"].isna()
    folders = {path.rpartition("/")[0]: None for path in manifest.loc[gone, "path"]}
    manifest = manifest[~gone].reset_index(drop=True)
    _insist_on_both(manifest, set(pool["label"]))
    return scan._replace(manifest=manifest, dropped=(*scan.dropped, *folders))


def _videos(rows: pd.DataFrame) -> list[Video]:
    """List each video once, regardless of its qualities."""
    once = rows.drop_duplicates(["dataset", "method", "video"])
    columns = (once[c] for c in ("dataset", "method", "video", "target", "source"))
    return [
        Video(dataset, method, name, target or name, source, "", "train", "")
        for dataset, method, name, target, source in zip(*columns, strict=True)
    ]


def _draw(videos: Sequence[Video], fraction: float, seed: int) -> set[str]:
    """Draw the people to hold out."""
    group = _groups(videos)
    size = Counter(group.values())
    if 2 * max(size.values()) > len(group):
        return hold_out(list(videos), fraction, seed)
    names = sorted(size, key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).digest())
    chosen = set(names[: max(1, round(fraction * len(names)))])
    return {person for person, name in group.items() if name in chosen}


def _groups(videos: Sequence[Video]) -> dict[str, str]:
    """Return person -> group, named after the first by name of all people linked by fakes."""
    leader = {person: person for v in videos for person in (v.target, v.source) if person}

    def first(person: str) -> str:
        while leader[person] != person:
            leader[person] = person = leader[leader[person]]
        return person

    for v in videos:
        if v.source:
            low, high = sorted((first(v.target), first(v.source)))
            leader[high] = low
    return {person: first(person) for person in leader}


def _insist_on_both(manifest: pd.DataFrame, labels: set[int]) -> None:
    """Raise if training or validation lacks a label that occurs in the data."""
    for split in ("train", "val"):
        there = set(manifest.loc[manifest["split"] == split, "label"])
        if lost := labels - there:
            raise TokdError(
                f"no {'fake' if 1 in lost else 'real'} video is left for {split} when validation "
                "is held out by identity: choose another --data.val_fraction or --data.val_seed"
            )
