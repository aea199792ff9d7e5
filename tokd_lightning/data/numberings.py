"""Detection of frames that are numbered differently at two qualities, before pairing."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError

VIDEO = ["dataset", "method", "video"]
_SIDE = 48  # side in pixels at which pictures are compared: few compression artefacts remain
_VIDEOS, _FRAMES = 16, 4  # number of videos compared, and of frames of each
_CLEAR = 0.75  # share of the comparisons that decides


def align(
    ours: pd.DataFrame, theirs: pd.DataFrame, root: Path, quality: str, other: str
) -> tuple[pd.DataFrame, list[str]]:
    """Align the numbers of the teacher's frames with those of the student's.

    Programs count frames from 0 (OpenCV) or from 1 (FFmpeg). If all numbers of most videos differ
    by the same amount, it is subtracted, unless the pictures agree better without.

    Args:
        ours: All training frames at the student's quality.
        theirs: All training frames at the teacher's quality.
        root: Folder that their paths are relative to.
        quality: Name of the student's quality.
        other: Name of the teacher's quality.

    Returns:
        The teacher's frames, and messages for the user.

    Raises:
        TokdError: The same numbers mean different moments at the two qualities.
    """
    both = _outline(ours).join(_outline(theirs), how="inner", lsuffix="", rsuffix="_other")
    if both.empty:
        return theirs, []
    columns = ["size", "min", "max", "sum", "squares"]
    same = np.all([both[c] == both[f"{c}_other"] for c in columns], axis=0)
    if same.all():
        return theirs, []
    shift = both["min_other"] - both["min"]
    shifted = (
        (both["size"] == both["size_other"])
        & (both["max_other"] - both["max"] == shift)
        & (both["sum_other"] - both["sum"] == shift * both["size"])
        & (shift != 0)
    )
    odd = both[~same]
    told = (
        f"{len(odd)} of {len(both)} training videos have other frame numbers at {other} than at "
        f"{quality}, e.g. {'/'.join(map(str, odd.index[0]))}: {_range(odd.iloc[0], '_other')} and "
        f"{_range(odd.iloc[0], '')}"
    )
    usual = int(shift[shifted].mode().iloc[0]) if shifted.any() else 0
    if usual and 2 * (shift[shifted] == usual).sum() > len(both):
        keys = both.index[shifted & (shift == usual)]
        share = _share(_pictures(ours, theirs, root, keys, usual))
        if share is None or share > 1 - _CLEAR:
            moved = theirs.set_index(VIDEO).index.isin(keys)
            theirs = theirs.assign(frame=theirs["frame"] - usual * moved)
            proof = "as the pictures agree" if share and share >= _CLEAR else "by their numbers"
            return theirs, [f"{told}; paired with a difference of {usual}, {proof}"]
    elif (share := _share(_pictures(ours, theirs, root, odd.index, None))) and share >= _CLEAR:
        raise TokdError(
            f"{told}; the pictures of one number are not of one moment: name the frames of both "
            "qualities by their index in the video, as tokd prepare does"
        )
    return theirs, [f"{told}; frames of one number are paired"]


def _outline(frames: pd.DataFrame) -> pd.DataFrame:
    """Summarise the frame numbers of every video in statistics that are equal for equal sets."""
    number = frames["frame"].astype("float64")
    table = frames[VIDEO].assign(frame=frames["frame"], squares=number * number)
    videos = table.groupby(VIDEO, sort=False)
    found = videos["frame"].agg(["size", "min", "max", "sum"])
    return found.assign(squares=videos["squares"].sum())


def _range(row: "pd.Series[float]", end: str) -> str:
    return f"{int(row[f'size{end}'])} from {int(row[f'min{end}'])} to {int(row[f'max{end}'])}"


def _pictures(
    ours: pd.DataFrame, theirs: pd.DataFrame, root: Path, keys: pd.Index, shift: int | None
) -> list[bool]:
    """Compare pictures of equal numbers with those that another numbering would pair.

    Args:
        ours: The student's frames.
        theirs: The teacher's frames.
        root: Folder that their paths are relative to.
        keys: Videos, a sample of which is compared.
        shift: Offset of the other numbering; None pairs by relative position in the video.

    Returns:
        For each comparison, whether the other numbering's pictures are more similar.
    """
    some = keys[evenly_spaced(len(keys), _VIDEOS)]
    votes: list[bool] = []
    mine, its = (
        frames[frames.set_index(VIDEO).index.isin(some)]
        .sort_values("frame")
        .groupby(VIDEO, sort=False)
        for frames in (ours, theirs)
    )
    for key in some:
        left, right = mine.get_group(key), its.get_group(key)
        by_number = right.drop_duplicates("frame").set_index("frame")["path"]
        for place in evenly_spaced(len(left), _FRAMES):
            number = int(left["frame"].iloc[place])
            if shift is None:
                past = place / max(1, len(left) - 1)
                moved = right["path"].iloc[round(past * (len(right) - 1))]
            else:
                moved = by_number.get(number + shift)
            equal = by_number.get(number)
            if equal is None or moved is None or equal == moved:
                continue
            try:
                picture, same, other = (
                    _read(root / path) for path in (left["path"].iloc[place], equal, moved)
                )
            except ValueError:
                continue
            apart, closer = np.abs(picture - same).mean(), np.abs(picture - other).mean()
            if apart != closer:
                votes.append(bool(closer < apart))
    return votes


def _share(votes: list[bool]) -> float | None:
    return sum(votes) / len(votes) if votes else None


def _read(file: Path) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = read_frame(file, _SIDE).numpy().astype(np.float32)
    return pixels
