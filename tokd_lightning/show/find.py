"""Search for the frames of a path: a tree, complete or not, or a manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.data.layouts.ffpp import ALL_METHODS, read_splits
from tokd_lightning.data.layouts.video_folder import FOLDERS, choose_frames, videos_in
from tokd_lightning.data.manifest import build
from tokd_lightning.data.reader import read_any
from tokd_lightning.errors import TokdError

_REAL = "original_sequences"
_FAKE = "manipulated_sequences"
_ACTORS = "DeepFakeDetection"


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
        TokdError: The path is none of these, or has no frames.
    """
    if not any((path / part).is_dir() for part in (_REAL, _FAKE)):
        return read_any(path, quality, frames_per_video=1, root=root).manifest
    manifest = build(_rows(path, _owners(path)))
    if manifest.empty:
        raise TokdError(
            f"{path} has no frames: they belong in {_REAL}/youtube/<quality>/"
            f"{{{','.join(FOLDERS)}}}/<video>/; tokd prepare takes them out of videos"
        )
    return manifest


def synthetic(root: Path) -> str:
    """Return "SYNTHETIC " for data made by ``tokd demo``, else an empty string."""
    return "SYNTHETIC " if (root / "SYNTHETIC.txt").is_file() else ""


def _owners(root: Path) -> dict[str, str]:
    """Return the split of each identity; empty without split files."""
    if not any((place / "train.json").is_file() for place in (root / "splits", root)):
        return {}
    pairs = read_splits(root)
    return {identity: split for split in pairs for pair in pairs[split] for identity in pair}


def _rows(root: Path, owner: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """Yield a row per video; of several kinds of frames the first is used."""
    parts = {f"{_REAL}/youtube": "real", f"{_REAL}/actors": "real"}
    parts |= {f"{_FAKE}/{method}": method for method in ALL_METHODS}
    for part, method in parts.items():
        actors = part.endswith(("/actors", f"/{_ACTORS}"))
        for quality in sorted((root / part).iterdir()) if (root / part).is_dir() else []:
            kinds = [quality / kind for kind in FOLDERS if (quality / kind).is_dir()]
            for video, name in videos_in(kinds[0]).items() if kinds else ():
                target, _, source = video.partition("__")[0].partition("_")
                split = "test" if actors else owner.get(target, "")
                place = (kinds[0] / name).relative_to(root).as_posix()
                about = ("dfd" if actors else "ffpp", method, video, target, source, quality.name)
                for number, end in _middle_frame(root / place):
                    yield (place + end, *about, number, int(method != "real"), split)


def _middle_frame(place: Path) -> list[tuple[int, str]]:
    """Choose the middle frame; of a broken pack the first, so that reading it gives the reason."""
    try:
        return choose_frames(place, 1)
    except (OSError, TokdError):
        return [(0, "#0" if place.is_file() else "")]
