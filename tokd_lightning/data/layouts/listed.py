"""What lists of a user's own have in common, be they tables or JSON: splits, texts and paths."""

import posixpath
import re
from pathlib import Path

# What a split may be called, and what it is called here.
SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SUBSET = "subset.json"  # says of how many published videos a tree holds a part
UNKNOWN = "unknown"  # the quality of what does not say it
# Control characters and the like: they would break a message, a table or a file system.
_STRAY = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")
_LONGEST = 80
# A path that is as it should be: most are, and a table has half a million of them.
_PLAIN = re.compile(r"[^/\\:.][^/\\:]*(?:/[^/\\:.][^/\\:]*)*")


def stray_character(text: str) -> str | None:
    """Return the first character that no name may have (control, line end, lone surrogate)."""
    match = _STRAY.search(text)
    return None if match is None else match[0]


def shown(value: object) -> str:
    """Write a value of unknown kind and length so that it fits into a one-line message."""
    text = ascii(value) if isinstance(value, str) and stray_character(value) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def with_slashes(path: str) -> str:
    r"""Write a path with forward slashes: ``a\b`` as Windows writes it becomes ``a/b``."""
    return path.replace("\\", "/")


def is_absolute(path: str) -> bool:
    """Whether a path with forward slashes begins at the root of a disk, Windows' included."""
    return path.startswith("/") or _DRIVE.match(path) is not None


def below(path: str, roots: tuple[str, ...]) -> str:
    """Write the path of a file relative to the root.

    Args:
        path: As the user wrote it: relative to the root or absolute, with slashes of either kind.
        roots: The root's absolute path in one or more spellings, with forward slashes.

    Returns:
        The path without ``.``, ``..`` and doubled slashes.

    Raises:
        ValueError: It names nothing below the root; the message goes on from "path … ".
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
    """Write the absolute path of a root in the ways that a list may use."""
    return tuple(dict.fromkeys((root.absolute().as_posix(), root.resolve().as_posix())))


def is_there(place: Path) -> bool:
    """Whether a file exists; a name that the file system cannot even hold does not."""
    try:
        return place.is_file()
    except OSError:
        return False
