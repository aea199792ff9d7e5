"""Number of videos in the published split files, for trees that hold only a part of them."""

import json
from collections.abc import Mapping
from pathlib import Path

from tokd_lightning.data.layouts.celebdf_tree import read_test_list
from tokd_lightning.data.layouts.listed import SUBSET
from tokd_lightning.data.manifest import SPLITS
from tokd_lightning.errors import TokdError


def whole_ffpp(root: Path, splits: Path | None, methods: int) -> dict[str, int]:
    """Return the number of videos per split in the complete split files of a trimmed tree.

    Args:
        root: The tree.
        splits: Split files used instead of the tree's own; they count as complete.
        methods: Number of methods in use.

    Returns:
        Split -> number of videos; empty if the split files in use are complete.
    """
    pairs = _record(root).get("pairs") if splits is None else None
    if not isinstance(pairs, Mapping):
        return {}
    return {s: 2 * n * (1 + methods) for s, n in pairs.items() if s in SPLITS and type(n) is int}


def whole_celebdf(root: Path, splits: Path | None) -> dict[str, int]:
    """Return the number of videos in the complete test list of a tree that may hold fewer."""
    test = _record(root).get("test") if splits is None else None
    return {"test": test if type(test) is int else len(read_test_list(root, splits))}


def _record(root: Path) -> dict[str, object]:
    try:
        return dict(json.loads((root / SUBSET).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise TokdError(f"{root / SUBSET} is not what tokd prepare --subset writes") from error
