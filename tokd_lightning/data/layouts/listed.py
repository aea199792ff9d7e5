"""Helpers shared by users' lists, tables and JSON alike: splits, texts and paths."""

import posixpath
import re
from pathlib import Path

# Accepted name of a split -> its name in the manifest.
SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SUBSET = "subset.json"  # in a partial tree, the counts of the complete split files
# Label of a list -> 1 for fake; a table with an empty cell, saved by pandas, has 1.0 for 1.
LABELS = {"0": 0, "0.0": 0, "real": 0, "1": 1, "1.0": 1, "fake": 1}
UNKNOWN = "unknown"  # the quality where none is given
# Control characters and the like: they would break a message, a table or a file system.
_STRAY = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")
_LONGEST = 80
# Paths that need no normalisation: most do not, and a table has half a million of them.
_PLAIN = re.compile(r"[^/\\:.][^/\\:]*(?:/[^/\\:.][^/\\:]*)*")


def stray_character(text: str) -> str | None:
    """Return the first character not allowed in names (control, line end, lone surrogate)."""
    match = _STRAY.search(text)
    return None if match is None else match[0]


def shown(value: object) -> str:
    """Format any value for a one-line message, in at most 80 characters."""
    text = ascii(value) if isinstance(value, str) and stray_character(value) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def with_slashes(path: str) -> str:
    r"""Return a path with forward slashes: Windows' ``a\b`` becomes ``a/b``."""
    return path.replace("\\", "/")


def is_absolute(path: str) -> bool:
    """Return whether a path with forward slashes is absolute, Windows drives included."""
    return path.startswith("/") or _DRIVE.match(path) is not None


def below(path: str, roots: tuple[str, ...]) -> str:
    """Return the path of a file relative to the root.

    Args:
        path: As the user wrote it: relative to the root or absolute, with slashes of either kind.
        roots: The root's absolute path in one or more spellings, with forward slashes.

    Returns:
        The path without ``.``, ``..`` and double slashes.

    Raises:
        ValueError: The path is not below the root; the message continues "path … ".
    """
    if _PLAIN.fullmatch(path):
        return path
    plain = posixpath.normpath(with_slashes(path))
    inside = (root for root in roots if plain.startswith(root.rstrip("/") + "/"))
    if (root := next(inside, None)) is not None:
        plain = plain[len(root.rstrip("/")) + 1 :]
    if is_absolute(plain):
        raise ValueError(f"is absolute and not in {roots[0]}")
    if plain == ".." or plain.startswith("../"):
        raise ValueError(f"leads out of {roots[0]}")
    if plain == ".":
        raise ValueError("names no file")
    return plain


def spellings(root: Path) -> tuple[str, ...]:
    """Return the absolute path of a root, with and without its symbolic links resolved."""
    return tuple(dict.fromkeys((root.absolute().as_posix(), root.resolve().as_posix())))


def is_there(place: Path) -> bool:
    """Return whether a file exists; False for a name that the file system cannot hold."""
    try:
        return place.is_file()
    except OSError:
        return False
