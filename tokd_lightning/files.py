"""Atomic writes and file locks."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tokd_lightning.errors import TokdError, reason


@contextmanager
def replacing(path: Path, part: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file next to a file; it replaces the file if the block succeeds.

    Args:
        path: The file; its folder is created if necessary.
        part: The temporary file; by default ``.<name>.<process>.part``. A fixed name is for files
            that a single process writes: what a kill leaves is overwritten by the next write.

    Raises:
        TokdError: The file cannot be written.
    """
    if not path.name:
        raise TokdError(f"{path} cannot be written: it is a folder")
    part = part or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TokdError(f"{path} cannot be written: {reason(error)}") from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        TokdError: The file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with Unix line ends atomically.

    Raises:
        TokdError: The file cannot be written.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file atomically.

    Raises:
        TokdError: The file cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def take_lock(path: Path, inherited: bool = True) -> int | None:
    """Lock a file, which is created if it does not exist.

    Args:
        path: The file.
        inherited: Whether child processes hold the lock too, until the last of them ends; else it
            belongs to this process only.

    Returns:
        A file descriptor, closing which releases the lock; None if another process holds the lock.

    Raises:
        OSError: The file cannot be opened, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        (fcntl.flock if inherited else fcntl.lockf)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: Path | None) -> bool:
    """Check whether a process holds the lock of a file."""
    if path is None or not path.exists():
        return False
    descriptor = take_lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
