"""Search for the frames of a path: a tree, complete or not, or a manifest."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.data.layouts.ffpp import (
    ALL_METHODS,
    FAKE,
    REAL,
    YOUTUBE,
    Cell,
    describe,
    list_cells,
    read_splits,
)
from tokd_lightning.data.layouts.video_folder import (
    FOLDERS,
    VIDEOS,
    choose_frames,
    folders_in,
    videos_in,
)
from tokd_lightning.data.manifest import build
from tokd_lightning.data.reader import read_any
from tokd_lightning.errors import TokdError


def find_frames(path: Path, quality: str | None = None, root: Path | None = None) -> pd.DataFrame:
    """Find the middle frame of every video.

    An FF++ tree may be incomplete: without split files, with videos missing or broken.

    Args:
        path: A tree, a manifest ``.csv`` or a DeepfakeBench ``.json``.
        quality: One compression; None takes all.
        root: Folder that the paths in a file are relative to; by default the file's folder.

    Returns:
        Rows of a manifest.

    Raises:
        TokdError: The path is not one of these, or has no frames.
    """
    if not any((path / part).is_dir() for part in (REAL, FAKE)):
        return read_any(path, quality, frames_per_video=1, root=root).manifest
    manifest = build(_rows(path, _owners(path)))
    if manifest.empty:
        raise TokdError(
            f"{path} has no frames: they belong in {YOUTUBE}/<quality>/"
            f"{{{','.join(FOLDERS)}}}/<video>/; tokd prepare takes them out of videos"
        )
    return manifest


def _owners(root: Path) -> dict[str, str]:
    """Return the split of each identity; empty without split files."""
    if not any((place / "train.json").is_file() for place in (root / "splits", root)):
        return {}
    pairs = read_splits(root)
    return {identity: split for split in pairs for pair in pairs[split] for identity in pair}


def _rows(root: Path, owner: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """Yield a row per video; of several kinds of frames the first is used."""
    cells: dict[tuple[str, str], Cell] = {}
    for cell in list_cells(partial(folders_in, root)):
        if cell.kind != VIDEOS and cell.method in ("real", *ALL_METHODS):
            cells.setdefault((cell.part, cell.quality), cell)
    for cell in cells.values():
        for video, name in videos_in(root / cell.folder).items():
            v = describe(cell, video, f"{cell.folder}/{name}")
            split = v.split or owner.get(v.target, "")
            about = (v.dataset, v.method, v.name, v.target, v.source, v.quality)
            for number, end in _middle_frame(root / v.place):
                yield (v.place + end, *about, number, int(v.method != "real"), split)


def _middle_frame(place: Path) -> list[tuple[int, str]]:
    """Choose the middle frame; of a broken pack the first, so that reading it gives the reason."""
    try:
        return choose_frames(place, 1)
    except (OSError, TokdError):
        return [(0, "#0" if place.is_file() else "")]
