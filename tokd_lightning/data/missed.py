"""The share of real and of fake videos without a face, as ``tokd prepare`` recorded it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def missed_faces(root: Path) -> str:
    """Return which share of each class of a prepared tree has no face.

    Args:
        root: What ``tokd prepare`` made.

    Returns:
        A few words; empty where every video has a face, or the tree does not say.
    """
    try:
        counts = json.loads((root / "prepare.json").read_text(encoding="utf-8"))["no_face"]
        return shares({name: (int(n), int(of)) for name, (n, of) in counts.items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def shares(counts: Mapping[str, tuple[int, int]]) -> str:
    """Say how many videos of each class have no face.

    Args:
        counts: Class to the videos without a face and all of its videos.

    Returns:
        A few words; empty where every video has a face.
    """
    if not any(missed for missed, _ in counts.values()):
        return ""
    said = (f"{n} of {of} {name} ({n / max(1, of):.1%})" for name, (n, of) in counts.items())
    return f"no face was found on {' and '.join(said)} videos"
