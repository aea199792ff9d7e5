"""Fault-tolerant listing of the videos at any path, which detects the layout."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tokd_lightning.data.layouts.celebdf_tree import PARTS
from tokd_lightning.data.layouts.cells import Cells
from tokd_lightning.data.layouts.collections import collection_of
from tokd_lightning.data.layouts.dfdc import find_metadata, is_metadata
from tokd_lightning.data.layouts.ffpp import FAKE, REAL
from tokd_lightning.data.layouts.listed import SPLIT_NAMES, with_slashes
from tokd_lightning.data.lmdb_frames import stores
from tokd_lightning.data.manifest import COLUMNS, check
from tokd_lightning.data.packed import split_path
from tokd_lightning.data.reader import MANIFEST, read_any, root_of
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.benchmark import read_json
from tokd_lightning.verify.ffpp import read_ffpp
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import Clip
from tokd_lightning.verify.lists import read_table
from tokd_lightning.verify.streams import find_wrong_sources
from tokd_lightning.verify.structure import find_leaks
from tokd_lightning.verify.tree import Tree
from tokd_lightning.verify.trees import read_celebdf, read_collection, read_dfdc, read_flat


def read(
    path: Path, root: Path | None, quality: str | None, splits: Path | None, report: Report
) -> tuple[Path, list[Clip]]:
    """List the videos at a path.

    Args:
        path: A tree, a manifest ``.csv``, or a ``.json`` of DeepfakeBench or DFDC.
        root: Folder that the paths in a file are relative to; by default the file's folder.
        quality: The quality to take; None takes all.
        splits: Folder of the split files, if they are not in the tree.
        report: Takes the findings of the listing.

    Returns:
        The folder that places are relative to, and the videos.

    Raises:
        TokdError: The path is not one of these, or has no videos.
    """
    place = root_of(path, root)
    manifest: Path | None = None
    if path.is_dir():
        place, clips = path, _read_tree(path, quality, splits, report)
        manifest = path / MANIFEST
    elif not path.exists():
        raise TokdError(f"{path} does not exist: name a data set's folder or manifest")
    elif path.suffix.lower() == ".csv":
        clips, manifest = read_table(path, place, quality, report), path
    elif path.suffix.lower() == ".json" and is_metadata(path):
        clips = read_dfdc(Tree(place, report), [path], quality, report)
    elif path.suffix.lower() == ".json":
        if packed := stores(place):
            raise TokdError(
                f"{place / packed[0]} is an LMDB, of which tokd verify reads nothing: verify the "
                "frames that it was made from"
            )
        clips = read_json(path, place, quality, report)
    else:
        raise TokdError(f"{path} is neither a folder nor a manifest (.csv or .json)")
    if manifest is not None and _names(manifest, "crf"):
        with suppress(TokdError):  # errors in a tree's own manifest are reported already
            find_wrong_sources(manifest, quality, report)
    if not clips:
        of = f" of quality {quality}" if quality else ""
        raise TokdError(f"{path} holds no videos{of}, neither as files nor as frames")
    return place, clips


def _read_tree(path: Path, quality: str | None, splits: Path | None, report: Report) -> list[Clip]:
    tree = Tree(path, report)
    tops = {name.lower() for name in tree.folders("")}
    if tops & {REAL, FAKE}:
        clips = read_ffpp(tree, quality, splits, report)
    elif tops & {part.lower() for part in PARTS}:
        clips = read_celebdf(tree, quality, splits, report)
    elif tops & set(SPLIT_NAMES):
        clips = read_flat(tree, quality, report)
    elif MANIFEST in tree.files(""):
        return read_table(path / MANIFEST, path, quality, report)
    elif collection_of(path):
        clips = read_collection(tree, quality)
    elif lists := find_metadata(path):
        clips = read_dfdc(tree, lists, quality, report)
    else:
        raise TokdError(
            f"{path} is not a known tree: FF++ has {REAL} and {FAKE}, Celeb-DF has "
            f"{', '.join(PARTS)}, a flat tree has train, val and test; others need {MANIFEST}"
        )
    if quality is None:
        used = {clip.video.place for clip in clips}
        tree.report_strays(used | report.items("same-name"))
    if MANIFEST in tree.files(""):
        _check_manifest(path / MANIFEST, report)
    return clips


def _names(manifest: Path, column: str) -> bool:
    """Return whether the header of a table names a column; False if the file does not exist."""
    try:
        with manifest.open(encoding="utf-8-sig") as lines:
            return column in lines.readline()
    except (OSError, ValueError):
        return False


def _check_manifest(manifest: Path, report: Report) -> None:
    """Check that the files of a tree's own manifest exist and that its splits share nothing."""
    try:
        columns = Cells(manifest, COLUMNS).columns
        paths = columns.get("path", [])
        if {"path", "split"} <= set(columns) and {"label", "method"} & set(columns):
            rows = Report()
            own = read_table(manifest, manifest.parent, None, rows)
            find_leaks(own, report)
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


def report_refusal(
    path: Path, root: Path | None, quality: str | None, splits: Path | None, report: Report
) -> None:
    """Check that training accepts frames without errors or warnings; report its refusal.

    Celeb-DF trees are not checked: their validation split depends on ``--data.val_fraction``.
    """
    celebdf = path.is_dir() and any((path / part).is_dir() for part in PARTS)
    if report.ok and not celebdf:
        try:
            scan = read_any(path, quality, splits=splits, root=root)
            check(scan.manifest, scan.apart)
        except TokdError as error:
            report.add("not-listed", path.name, str(error))
