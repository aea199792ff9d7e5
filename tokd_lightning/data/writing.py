"""Atomic writing of files."""

import os
from contextlib import suppress
from pathlib import Path

from tokd_lightning.errors import TokdError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, and create its folder if necessary.

    Args:
        path: The file; an existing one is replaced.
        data: Its new content.

    Raises:
        TokdError: The file cannot be written.
    """
    if not path.name:
        raise TokdError(f"{path} cannot be written: it is a folder")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise TokdError(f"{path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with Unix line ends atomically.

    Raises:
        TokdError: The file cannot be written.
    """
    write_bytes(path, text.encode())
