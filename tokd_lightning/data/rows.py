"""Hash of a data set as used: files, splits, labels, videos, frame numbers, pairs."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from tokd_lightning.data.manifest import data_hash

ORDER = "order"
# Part of the hash -> columns of the manifest, in the order of the paths.
_COLUMNS = {
    "paths": ("path",),
    "splits": ("split",),
    "labels": ("label",),
    "methods": ("method",),
    "videos": ("dataset", "video", "quality"),
    "frames": ("frame",),
    "pairs": ("teacher_path",),
}


def row_hashes(manifest: pd.DataFrame, root: Path) -> dict[str, str]:
    """Hash the rows of a manifest part by part, so that a difference can be named.

    ``files`` is :func:`~tokd_lightning.data.manifest.data_hash`, of paths and contents; each other
    part is the hash of some columns, with the rows sorted by path. ``order`` hashes the order of
    the manifest itself, which determines the samples of a batch.

    Args:
        manifest: Rows of :data:`~tokd_lightning.data.manifest.COLUMNS`, with a ``teacher_path``
            if they are pairs.
        root: The data set's folder.

    Returns:
        Part -> 64 hexadecimal digits.

    Raises:
        TokdError: A file of the manifest cannot be read.
    """
    paths = manifest["path"].tolist()
    order = sorted(range(len(paths)), key=paths.__getitem__)
    parts = {"files": data_hash(manifest, root), ORDER: _digest(paths)}
    for part, names in _COLUMNS.items():
        columns = [manifest[name].tolist() for name in names if name in manifest.columns]
        lines = list(map("\0".join, zip(*(map(str, column) for column in columns), strict=True)))
        parts[part] = _digest(map(lines.__getitem__, order if lines else ()))
    return parts


def whole_hash(parts: dict[str, str]) -> str:
    """Hash all parts of :func:`row_hashes` together, except the order of the rows."""
    counted = {part: value for part, value in parts.items() if part != ORDER}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def fold_hash(manifest: pd.DataFrame) -> str:
    """Hash which video is in which split, the same at every quality and frame rate."""
    videos = manifest[["method", "video", "split"]].drop_duplicates()
    return _digest(sorted("\0".join(map(str, row)) for row in videos.itertuples(index=False)))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
