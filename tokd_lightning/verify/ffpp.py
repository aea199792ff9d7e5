"""Fault-tolerant listing of the FaceForensics++ tree, which reports what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tokd_lightning.data.layouts.ffpp import ALL_METHODS, read_pairs
from tokd_lightning.data.layouts.video_folder import NOT_VIDEOS, Video
from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import (
    FILES,
    KINDS_OF_FILES,
    Clip,
    clip_at,
    places_in,
)
from tokd_lightning.verify.tree import Tree

REAL, FAKE = "original_sequences", "manipulated_sequences"
_YOUTUBE, _ACTORS = f"{REAL}/youtube", f"{REAL}/actors"
_DFD = f"{FAKE}/DeepFakeDetection"
_SAME = {"raw": "c0", "c0": "raw"}
# Folders of a part, by quality and kind.
_Cells = dict[tuple[str, str], str]


class _Splits:
    """Readable part of the split files.

    Attributes:
        homes: The splits of each identity; there should be only one.
        owner: The split of each video that a pair owns.
        complete: Whether all three files were read.
    """

    def __init__(self, root: Path, folder: Path | None, report: Report) -> None:
        places = [folder] if folder is not None else [root / "splits", root]
        names = [f"{split}.json" for split in SPLITS]
        place = next((p for p in places if any((p / n).is_file() for n in names)), places[0])
        self.homes: dict[str, set[str]] = defaultdict(set)
        self.owner: dict[str, str] = {}
        self.complete = True
        for split in SPLITS:
            try:
                pairs = read_pairs(place / f"{split}.json")
            except TokdError as error:
                report.add("split-file", f"{split}.json", str(error))
                self.complete = False
                continue
            for a, b in pairs:
                self.homes[a].add(split)
                self.homes[b].add(split)
                for name in (a, b, f"{a}_{b}", f"{b}_{a}"):
                    self.owner.setdefault(name, split)
        for identity, mine in self.homes.items():
            if len(mine) > 1:
                detail = ", ".join(sorted(mine))
                report.add("identity-in-two-splits", f"ffpp/{identity}", detail)

    def of(self, name: str) -> str:
        """Return a video's split: the target's if the donor is in another one, "" if unknown."""
        if name in self.owner:
            return self.owner[name]
        target, _, source = name.partition("_")
        mine, theirs = self.homes.get(target, set()), self.homes.get(source, set())
        return min(mine) if len(mine) == 1 and theirs - mine else ""


def read_ffpp(tree: Tree, quality: str | None, splits: Path | None, report: Report) -> list[Clip]:
    """List the videos of an FF++ tree, and report those of the split files that are missing.

    DeepFakeDetection and its actors have no split; they are listed as ``test``, as in training.

    Args:
        tree: The tree.
        quality: The quality to take; None takes all.
        splits: Folder of the split files, if it is neither ``<root>/splits`` nor the root.
        report: Takes ``split-file``, ``missing-method``, ``missing-video``, ``unlisted-video``,
            ``same-name`` and ``identity-in-two-splits``.
    """
    parts = [f"{top}/{name}" for top in (REAL, FAKE) for name in tree.folders(top)]
    cells = {part: _cells(tree, part, quality) for part in parts}
    actors = {part: found for part, found in cells.items() if part in (_ACTORS, _DFD)}
    official = {part: found for part, found in cells.items() if part not in actors}
    clips: list[Clip] = []
    if any(official.values()):
        official.setdefault(_YOUTUBE, {})
        _report_gaps(official, report)
        known = _Splits(tree.root, splits, report)
        for part, found in official.items():
            clips += _official(tree, part, found, known, report)
    if any(actors.values()):
        _report_gaps(actors, report)
        for part, found in actors.items():
            clips += _dfd(tree, part, found, report)
    return clips


def _cells(tree: Tree, part: str, quality: str | None) -> _Cells:
    return {
        (name, kind): f"{part}/{name}/{kind}"
        for name in tree.folders(part)
        if (quality is None or name in (quality, _SAME.get(quality))) and name not in NOT_VIDEOS
        for kind in KINDS_OF_FILES
        if f"{part}/{name}/{kind}" in tree
    }


def _report_gaps(parts: dict[str, _Cells], report: Report) -> None:
    """Report the qualities and kinds of files that a part lacks but others have."""

    def plain(cells: _Cells) -> set[str]:
        return {f"{quality.replace('raw', 'c0')}/{kind}" for quality, kind in cells}

    needed = set().union(*map(plain, parts.values()))
    for part, found in parts.items():
        report.extend("missing-method", (f"{part}/{rest}" for rest in needed - plain(found)))


def _official(
    tree: Tree, part: str, cells: _Cells, splits: _Splits, report: Report
) -> Iterable[Clip]:
    """List a part whose videos are in the split files."""
    method = part.partition("/")[2]
    real = part == _YOUTUBE
    wanted = [n for n in splits.owner if ("_" not in n) == real]
    for (quality, kind), folder in cells.items():
        there = dict(places_in(tree, folder, kind, report))
        if real or method in ALL_METHODS:
            ending = ".mp4" if kind == FILES else ""
            absent = (f"{folder}/{n}{ending}" for n in wanted if n not in there)
            report.extend("missing-video", absent)
        for name, place in there.items():
            target, _, source = name.partition("_")
            split = splits.of(name)
            if not split and splits.complete:
                report.add("unlisted-video", place)
            about = (name, target, source, quality, split, place, target if source else "")
            yield clip_at(tree, Video("ffpp", "real" if real else method, *about), kind)


def _dfd(tree: Tree, part: str, cells: _Cells, report: Report) -> Iterable[Clip]:
    """List DeepFakeDetection: ``01__scene`` is real, ``01_02__scene__code`` shows 01 with 02."""
    method = "real" if part == _ACTORS else part.partition("/")[2]
    for (quality, kind), folder in cells.items():
        for name, place in places_in(tree, folder, kind, report):
            people, _, rest = name.partition("__")
            target, _, source = people.partition("_")
            background = "" if method == "real" else f"{target}__{rest.partition('__')[0]}"
            about = (name, target, source, quality, "test", place, background)
            yield clip_at(tree, Video("dfd", method, *about), kind)
