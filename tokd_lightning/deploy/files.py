"""The files that a user means by paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.media import IMAGES, VIDEOS
from tokd_lightning.errors import TokdError


class Files(NamedTuple):
    """Files to score, each once; how many in folders were passed over by their names."""

    found: list[Path]
    passed_over: int


def find_files(paths: Sequence[Path]) -> Files:
    """Find the files to score.

    A path that names no folder is taken whatever its name is, even one that is not there: what is
    wrong with it is said when it is its turn. In folders, those with a suffix of images or videos
    are taken, and folders that cannot be read; hidden ones are not.

    Args:
        paths: Files and folders.

    Raises:
        TokdError: No path was given, or they hold nothing to score.
    """
    if not paths:
        raise TokdError("no paths were given: name images, videos or folders of them")
    found: dict[Path, None] = {}
    passed_over = 0
    for path in paths:
        if not _is_folder(path):
            found[path] = None
            continue
        unread: list[OSError] = []
        for file in _inside(path, unread):
            if file.suffix.lower() in (*IMAGES, *VIDEOS):
                found[file] = None
            else:
                passed_over += 1
        found |= {Path(error.filename): None for error in unread}
    if not found:
        raise TokdError(f"there are no images and no videos in {', '.join(map(str, paths))}")
    return Files(list(found), passed_over)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its name is too long, or it lies where nobody may look
        return False


def _inside(folder: Path, unread: list[OSError]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)
