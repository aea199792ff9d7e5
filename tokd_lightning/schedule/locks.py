"""File locks, which the processes of a job inherit and which end with the last of them."""

import fcntl
import os
from pathlib import Path


def take_lock(path: Path) -> int | None:
    """Lock a file, which is created if it does not exist.

    Returns:
        A file descriptor, closing which releases the lock; None if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_locked(path: Path | None) -> bool:
    """Check whether a process holds the lock of a file."""
    if path is None or not path.exists():
        return False
    lock = take_lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None
