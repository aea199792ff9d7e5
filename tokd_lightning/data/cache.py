"""Cache of facts about a user's files between runs; losing it only costs time."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes


def cache_file(kind: str, subject: Path | str) -> Path:
    """Return the path of a cache in ``$XDG_CACHE_HOME/tokd_lightning`` (by default ``~/.cache``).

    Args:
        kind: Kind of content.
        subject: The folder, or anything else, that the content is about.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = hashlib.sha256(os.fsencode(subject)).hexdigest()[:16]
    return Path(home) / "tokd_lightning" / f"{kind}-{name}.json"


def read_cache(file: Path) -> dict[str, Any]:
    """Read what :func:`write_cache` wrote; empty if it is missing, unreadable or damaged."""
    try:
        digest, content = file.read_bytes().split(b"\n", 1)
        if digest.decode() != hashlib.sha256(content).hexdigest():
            return {}
        entries: dict[str, Any] = json.loads(content)
    except (OSError, ValueError):
        return {}
    return entries


def write_cache(file: Path, entries: Mapping[str, Any]) -> None:
    """Write entries after a digest of them, atomically; a failure is ignored.

    If two processes write at the same time, the entries of the last one remain.

    Args:
        file: See :func:`cache_file`.
        entries: Anything that JSON can hold.
    """
    content = json.dumps(entries, separators=(",", ":")).encode()
    with suppress(TokdError):
        write_bytes(file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
