"""Fault-tolerant listing of the FaceForensics++ tree, which reports what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from tokd_lightning.data.layouts.ffpp import (
    ACTORS,
    ALL_METHODS,
    DFD,
    FAKE,
    REAL,
    YOUTUBE,
    Cell,
    describe,
    list_cells,
    read_pairs,
)
from tokd_lightning.data.layouts.video_folder import VIDEOS
from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.data.qualities import names_of
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip, clip_at, places_in
from tokd_lightning.verify.tree import Tree


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
    cells: dict[str, list[Cell]] = {
        f"{top}/{name}": [] for top in (REAL, FAKE) for name in tree.folders(top)
    }
    for cell in list_cells(tree.folders, quality):
        cells[cell.part].append(cell)
    actors = {part: found for part, found in cells.items() if part in (ACTORS, f"{FAKE}/{DFD}")}
    official = {part: found for part, found in cells.items() if part not in actors}
    clips: list[Clip] = []
    if any(official.values()):
        official.setdefault(YOUTUBE, [])
        _report_gaps(official, report)
        known = _Splits(tree.root, splits, report)
        for found in official.values():
            clips += _official(tree, found, known, report)
    if any(actors.values()):
        _report_gaps(actors, report)
        for cell in chain.from_iterable(actors.values()):
            for name, place in places_in(tree, cell.folder, cell.kind, report):
                clips.append(clip_at(tree, describe(cell, name, place), cell.kind))
    return clips


def _report_gaps(parts: dict[str, list[Cell]], report: Report) -> None:
    """Report the qualities and kinds of files that a part lacks but others have."""

    def forms(cells: Iterable[Cell]) -> set[str]:
        return {f"{min(names_of(cell.quality))}/{cell.kind}" for cell in cells}

    needed = set().union(*map(forms, parts.values()))
    for part, found in parts.items():
        report.extend("missing-method", (f"{part}/{rest}" for rest in needed - forms(found)))


def _official(tree: Tree, cells: Iterable[Cell], splits: _Splits, report: Report) -> Iterator[Clip]:
    """List a part whose videos are in the split files."""
    for cell in cells:
        real = cell.method == "real"
        there = dict(places_in(tree, cell.folder, cell.kind, report))
        if cell.part == YOUTUBE or cell.method in ALL_METHODS:
            ending = ".mp4" if cell.kind == VIDEOS else ""
            wanted = (name for name in splits.owner if ("_" not in name) == real)
            absent = (f"{cell.folder}/{name}{ending}" for name in wanted if name not in there)
            report.extend("missing-video", absent)
        for name, place in there.items():
            split = splits.of(name)
            if not split and splits.complete:
                report.add("unlisted-video", place)
            yield clip_at(tree, describe(cell, name, place, split), cell.kind)
