r"""Frames in an LMDB of DeepfakeBench, read in place.

``<name>_lmdb/data.mdb`` maps ``<name>\<path below the data set's folder>`` to the bytes of an image
file; the other separators are those of the machine that wrote it. In a manifest,
``FaceForensics++_lmdb/data.mdb#FaceForensics++\original_sequences/…/000.png`` is such a record.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokd_lightning.data.packed import LMDB, split_path
from tokd_lightning.errors import TokdError, reason


def stores(root: Path) -> list[str]:
    """Return the databases in a folder or in the folders in it, relative to it."""
    if (root / LMDB).is_file():
        return [LMDB]
    return sorted(file.relative_to(root).as_posix() for file in root.glob(f"*/{LMDB}"))


def locate(root: Path, paths: Sequence[str]) -> Callable[[str], str] | None:
    """Return a function from the path of a frame to its path in a manifest, as a record.

    As few leading folders as possible are removed, and separators written as in the database.

    Args:
        root: Folder that contains the databases, or one of them.
        paths: Some of the frames' paths, with forward slashes.

    Returns:
        None if no database has one of these frames.

    Raises:
        TokdError: The package lmdb is not installed, or a database cannot be opened.
    """
    for store in stores(root):
        if find_spec("lmdb") is None:
            raise TokdError(
                f'{root / store} is an LMDB, and reading it needs lmdb: pip install "tokd-lightning'
                '[lmdb]"'
            )
        for path in paths:
            for extra in range(path.count("/") + 1):
                for form, key in enumerate(_spellings(path, extra)):
                    if holds(root, f"{store}#{key}"):
                        return partial(_record, store, extra, form)
    return None


def _record(store: str, extra: int, form: int, path: str) -> str:
    return f"{store}#{[*_spellings(path, extra)][form]}"


def _spellings(path: str, extra: int) -> Iterator[str]:
    """Yield the keys that a frame may have: written on Linux, on Windows, or otherwise."""
    first, *others = path.split("/")[extra:] or [""]
    yield "\\".join([first, *filter(None, ["/".join(others)])])
    yield "\\".join([first, *others])
    yield "/".join([first, *others])


def holds(root: Path, place: str) -> bool:
    """Return whether a database has a record.

    Raises:
        TokdError: The database cannot be opened.
    """
    file, key = split_path(place)
    try:
        return _get(root / file, str(key)) is not None
    except ValueError as error:
        raise TokdError(f"{root / file} is not an LMDB that can be read: {error}") from error


def read_value(file: Path, key: str) -> bytes:
    """Read the bytes of a record.

    Args:
        file: The database, ``data.mdb``.
        key: Its key.

    Raises:
        ValueError: It cannot be read; the message is a short reason.
    """
    value = _get(file, key)
    if value is None:
        raise ValueError("the LMDB has no such record")
    return value


def _get(file: Path, key: str) -> bytes | None:
    import lmdb

    try:
        with _opened(str(file.parent), os.getpid()).begin() as transaction:
            value: bytes | None = transaction.get(key.encode())
    except lmdb.BadValsizeError:  # no key is that long, or empty
        return None
    except (lmdb.Error, OSError) as error:
        raise ValueError(reason(error)) from error
    return value


@lru_cache(maxsize=16)
def _opened(folder: str, process: int) -> Any:
    """Open a database; a fork must not use the one of its parent."""
    import lmdb

    return lmdb.open(folder, readonly=True, lock=False, readahead=False, create=False)
