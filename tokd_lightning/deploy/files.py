"""Search for the files to score."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.media import IMAGES, VIDEOS
from tokd_lightning.deploy.report import Verdict
from tokd_lightning.errors import TokdError


class Files(NamedTuple):
    """Files to score, without duplicates, and the number of other files in folders."""

    found: list[Path]
    passed_over: int


def find_files(paths: Sequence[Path]) -> Files:
    """Find the files to score.

    A path that is not a folder is always taken, even a missing one: errors are reported when it is
    read. In folders, files with an image or video suffix are taken, and unreadable folders; hidden
    ones are skipped.

    Args:
        paths: Files and folders.

    Raises:
        TokdError: No path was given, or there is nothing to score.
    """
    if not paths:
        raise TokdError("no paths were given: name images, videos or folders of them")
    if not any(_may_exist(path) for path in paths):
        names = ", ".join(repr(str(path))[1:-1] for path in paths[:3])
        more = f" and {len(paths) - 3} others" if len(paths) > 3 else ""
        verb = "does" if len(paths) == 1 else "do"
        raise TokdError(f"{names}{more} {verb} not exist: name images, videos or folders of them")
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


class Input(NamedTuple):
    """Paths to score, and the file that stands for standard input."""

    paths: list[Path]
    piped: Path | None = None

    def named(self, verdict: Verdict) -> Verdict:
        """Return a verdict on standard input under its name, ``-``."""
        return verdict._replace(path=Path("-")) if verdict.path == self.piped else verdict


@contextmanager
def standard_input(paths: Sequence[str | Path]) -> Iterator[Input]:
    """Copy standard input to a temporary file if one of the paths is ``-``.

    Args:
        paths: Files, folders, and ``-``.

    Raises:
        TokdError: Nothing is piped.
    """
    if "-" not in map(str, paths):
        yield Input([Path(path) for path in paths])
        return
    if sys.stdin.isatty():
        raise TokdError("- is standard input: pipe an image or a video into it")
    with tempfile.TemporaryDirectory(prefix="tokd-") as folder:
        piped = Path(folder) / "input"
        with piped.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield Input([piped if str(path) == "-" else Path(path) for path in paths], piped)


def _may_exist(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # a parent folder is not accessible: reading it reports why
        return True


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long, or a parent folder is not accessible
        return False


def _inside(folder: Path, unread: list[OSError]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)
