"""Pairs of the same training frame at two qualities: one for the student, one for its teacher."""

import pandas as pd

from tokd_lightning.data.manifest import check
from tokd_lightning.errors import TokdError

FRAME = ["dataset", "method", "video", "frame"]


def pair(manifest: pd.DataFrame, teacher: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find, for every training frame, the same frame at the teacher's quality.

    Frames are the same if data set, method, video and frame number are equal. Validation and test
    frames need no partner and are all kept, so that results are comparable with unpaired runs.

    Args:
        manifest: The frames chosen for the student.
        teacher: All frames at the teacher's quality, not a selection: if a video is longer at one
            quality, the same number of evenly spaced frames would be different frames.

    Returns:
        The manifest with a column ``teacher_path`` (empty outside training) and without the
        training frames that have no partner, and the rows of those.

    Raises:
        TokdError: The teacher's frames are inconsistent, see
            :func:`~tokd_lightning.data.manifest.check`.
    """
    training = manifest["split"] == "train"
    chosen = manifest.loc[training, FRAME]
    candidates = teacher[teacher["split"] == "train"].merge(chosen, on=FRAME)
    check(candidates)
    partners = candidates.set_index(FRAME)["path"].rename("teacher_path")
    joined = manifest.join(partners, on=FRAME)
    lonely = training & joined["teacher_path"].isna()
    joined["teacher_path"] = joined["teacher_path"].where(training, "")
    return joined[~lonely].reset_index(drop=True), manifest[lonely]


def summary(paired: pd.DataFrame, lonely: pd.DataFrame, quality: str, teacher_quality: str) -> str:
    """Return a sentence on how many training frames have a partner and how many are left out."""
    left = int((paired["split"] == "train").sum())
    text = f"{left} training frames at {quality} are paired with {teacher_quality}"
    if not len(lonely):
        return f"{text}, none is left out"
    share = len(lonely) / (left + len(lonely))
    return f"{text}, {len(lonely)} ({share:.2%}) have no frame there and are left out"


def limit(paired: pd.DataFrame, lonely: pd.DataFrame, teacher_quality: str, allowed: float) -> None:
    """Raise if too many training frames have no partner.

    Args:
        paired: The manifest that :func:`pair` returned.
        lonely: The training frames that it left out.
        teacher_quality: The quality at which partners were searched for.
        allowed: Largest share of the training frames that may be left out.

    Raises:
        TokdError: A larger share was left out.
    """
    whole = int((paired["split"] == "train").sum()) + len(lonely)
    if len(lonely) > allowed * whole:
        examples = ", ".join(lonely["path"].iloc[:3])
        raise TokdError(
            f"{len(lonely)} of {whole} training frames ({len(lonely) / whole:.1%}) have no frame "
            f"of the same video and number at {teacher_quality}, e.g. {examples}: prepare both "
            f"qualities alike, or allow it with --data.max_unpaired (now {allowed})"
        )
