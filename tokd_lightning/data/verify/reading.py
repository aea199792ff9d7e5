"""Any path becomes an inventory: which layout it is, and what its lists say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tokd_lightning.data.layouts.celebdf_tree import PARTS
from tokd_lightning.data.layouts.cells import Cells
from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.layouts.listed import SPLIT_NAMES, with_slashes
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import COLUMNS, check
from tokd_lightning.data.packed import split_path
from tokd_lightning.data.reader import MANIFEST, root_of
from tokd_lightning.data.verify.benchmark import read_json
from tokd_lightning.data.verify.ffpp import FAKE, REAL, read_ffpp
from tokd_lightning.data.verify.findings import Report
from tokd_lightning.data.verify.inventory import Inventory
from tokd_lightning.data.verify.lists import read_table
from tokd_lightning.data.verify.streams import find_wrong_sources
from tokd_lightning.data.verify.structure import find_leaks
from tokd_lightning.data.verify.tree import Tree
from tokd_lightning.data.verify.trees import read_celebdf, read_flat
from tokd_lightning.errors import TokdError


def read(
    path: Path, root: Path | None, quality: str | None, splits: Path | None, report: Report
) -> tuple[Path, Inventory]:
    """List the videos that a path stands for.

    Args:
        path: A tree, a manifest ``.csv`` or a DeepfakeBench ``.json``.
        root: What the paths in a file are relative to; by default its folder.
        quality: The one to take; None takes all.
        splits: Where split files are, if not in the tree.
        report: Takes what is wrong with the listing.

    Returns:
        The folder that places are relative to, and the videos.

    Raises:
        TokdError: It is nothing of this kind, or holds no video.
    """
    place = root_of(path, root)
    manifest: Path | None = None
    if path.is_dir():
        place, inventory = path, _read_tree(path, quality, splits, report)
        manifest = path / MANIFEST
    elif not path.exists():
        raise TokdError(f"{path} does not exist: name a data set's folder or manifest")
    elif path.suffix.lower() == ".csv":
        inventory, manifest = read_table(path, place, quality, report), path
    elif path.suffix.lower() == ".json":
        inventory = read_json(path, place, quality, report)
    else:
        raise TokdError(f"{path} is neither a folder nor a manifest (.csv or .json)")
    if manifest is not None and _names(manifest, "crf"):
        with suppress(TokdError):  # what is wrong with a tree's own manifest is reported already
            find_wrong_sources(manifest, quality, report)
    if not inventory.clips:
        of = f" of quality {quality}" if quality else ""
        raise TokdError(f"{path} holds no videos{of}, neither as files nor as frames")
    return place, inventory


def _read_tree(path: Path, quality: str | None, splits: Path | None, report: Report) -> Inventory:
    tree = Tree(path, report)
    tops = {name.lower() for name in tree.folders("")}
    if tops & {REAL, FAKE}:
        inventory = read_ffpp(tree, quality, splits, report)
    elif tops & {part.lower() for part in PARTS}:
        inventory = read_celebdf(tree, quality, splits, report)
    elif tops & set(SPLIT_NAMES):
        inventory = read_flat(tree, quality, report)
    elif MANIFEST in tree.files(""):
        return read_table(path / MANIFEST, path, quality, report)
    else:
        raise TokdError(
            f"{path} is no tree that is known: FF++ has {REAL} and {FAKE}, Celeb-DF has "
            f"{', '.join(PARTS)}, a flat tree has train, val and test; others need {MANIFEST}"
        )
    if quality is None:
        used = {clip.video.place for clip in inventory.clips}
        tree.report_strays(used | report.items("same-name"))
    if MANIFEST in tree.files(""):
        _check_manifest(path / MANIFEST, report)
    return inventory


def _names(manifest: Path, column: str) -> bool:
    """Return whether the header of a table names a column; not if there is no such file."""
    try:
        with manifest.open(encoding="utf-8-sig") as lines:
            return column in lines.readline()
    except (OSError, ValueError):
        return False


def _check_manifest(manifest: Path, report: Report) -> None:
    """See that the files which a tree's own manifest names are there, and what its splits share."""
    try:
        columns = Cells(manifest, COLUMNS).columns
        paths = columns.get("path", [])
        if {"path", "split"} <= set(columns) and {"label", "method"} & set(columns):
            rows = Report()
            own = read_table(manifest, manifest.parent, None, rows)
            find_leaks(own.clips, own.apart, report)
            for code in ("video-in-two-splits", "wrong-label", "split-file"):
                report.extend(code, rows.items(code))
    except TokdError as error:
        report.add("not-listed", manifest.name, str(error))
        return
    for path in dict.fromkeys(paths):
        if "\\" in path:
            report.add("windows-path", f"{manifest.name}: {path}")
    for file in dict.fromkeys(split_path(with_slashes(path))[0] for path in paths):
        if not (manifest.parent / file).exists():
            report.add("missing-file", file)


def report_refusal(path: Path, root: Path | None, quality: str | None, report: Report) -> None:
    """See that training would take a manifest in which nothing wrong was found."""
    if report.ok and path.is_file():
        try:
            table = path.suffix.lower() == ".csv"
            scan = (scan_table if table else scan_deepfakebench)(path, root, quality)
            check(scan.manifest, scan.apart)
        except TokdError as error:
            report.add("not-listed", path.name, str(error))
