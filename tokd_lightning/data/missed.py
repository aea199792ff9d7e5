"""Share of real and of fake videos without a face, as recorded by ``tokd prepare``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def missed_faces(root: Path) -> str:
    """Return the share of videos without a face in each class of a prepared tree.

    Args:
        root: Output folder of ``tokd prepare``.

    Returns:
        A short text; empty if every video has a face, or the tree has no such record.
    """
    return shares(missed_counts(root))


def missed_counts(*roots: Path) -> dict[str, tuple[int, int]]:
    """Return the number of videos without a face, and of all videos, in each class.

    Args:
        *roots: Output folders of ``tokd prepare``.

    Returns:
        Empty if no tree has such a record.
    """
    found: dict[str, tuple[int, int]] = {}
    for root in roots:
        try:
            counts = json.loads((root / "prepare.json").read_text(encoding="utf-8"))["no_face"]
            own = {str(name): (int(n), int(of)) for name, (n, of) in counts.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        for name, (missed, videos) in own.items():
            before = found.get(name, (0, 0))
            found[name] = before[0] + missed, before[1] + videos
    return found


def shares(counts: Mapping[str, tuple[int, int]]) -> str:
    """Format the share of videos without a face in each class.

    Args:
        counts: Class -> number of its videos without a face, and of all its videos.

    Returns:
        A short text; empty if every video has a face.
    """
    if not any(missed for missed, _ in counts.values()):
        return ""
    said = (f"{n} of {of} {name} ({n / max(1, of):.1%})" for name, (n, of) in counts.items())
    return f"no face was found on {' and '.join(said)} videos"
