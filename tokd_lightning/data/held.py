"""Forgeries left out of training and validation, which a network first meets in its test."""

from collections.abc import Sequence

import pandas as pd

from tokd_lightning.errors import TokdError


def without(manifest: pd.DataFrame, methods: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Leave the fakes of some methods out of training and validation.

    Args:
        manifest: Rows of a manifest.
        methods: Names of the methods.

    Returns:
        The rows that are left, and a sentence per method.

    Raises:
        TokdError: A method is not one of the manifest's fakes, or training or validation, which had
            fakes, would have none left.
    """
    if not methods:
        return manifest, []
    fakes = manifest["label"] == 1
    known = list(dict.fromkeys(manifest.loc[fakes, "method"]))
    if unknown := [name for name in methods if name not in known]:
        raise TokdError(
            f"--data.leave_out {unknown[0]}: no fake of that method; choose from {', '.join(known)}"
        )
    seen = manifest["split"] != "test"
    dropped = seen & fakes & manifest["method"].isin(methods)
    kept = manifest[~dropped].reset_index(drop=True)
    for split in ("train", "val"):
        if _fakes(manifest, split) and not _fakes(kept, split):
            raise TokdError(
                f"--data.leave_out {', '.join(methods)}: no fake is left in the split {split}"
            )
    notes = []
    for name in dict.fromkeys(methods):
        its = manifest[fakes & (manifest["method"] == name)]["split"].value_counts()
        train, val, test = (int(its.get(split, 0)) for split in ("train", "val", "test"))
        notes.append(
            f"{name} is left out of training ({train} frames) and validation ({val}); its {test} "
            "test frames are reported separately"
        )
    return kept, notes


def _fakes(manifest: pd.DataFrame, split: str) -> bool:
    return bool(((manifest["split"] == split) & (manifest["label"] == 1)).any())
