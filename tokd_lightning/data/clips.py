"""Clips: several frames of one video as one sample."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tokd_lightning.data.frames import FrameDataset, to_hand_over
from tokd_lightning.data.manifest import VIDEO


def group_clips(table: pd.DataFrame, length: int) -> tuple[pd.DataFrame, list[list[str]], int]:
    """Group the rows of each video into clips of consecutive rows, in the order of their frames.

    Args:
        table: Rows of a manifest.
        length: T, frames of a clip.

    Returns:
        The first row of each clip, the paths of each clip's frames, and the number of rows left
        out because their video has no T more.
    """
    ordered = table.sort_values([*VIDEO, "frame"], kind="stable")
    place = ordered.groupby(VIDEO, sort=False).cumcount()
    size = ordered.groupby(VIDEO, sort=False)["frame"].transform("size")
    kept = ordered[place < size - size % length]
    paths = kept["path"].tolist()
    clips = [paths[start : start + length] for start in range(0, len(paths), length)]
    order = kept.index[::length].to_series().reset_index(drop=True).sort_values()
    first = table.loc[order].reset_index(drop=True)
    return first, [clips[number] for number in order.index], len(table) - len(kept)


def group_tables(
    tables: dict[str, pd.DataFrame], length: int
) -> tuple[dict[str, pd.DataFrame], dict[str, list[list[str]]], list[str]]:
    """Group the rows of every split into clips, see :func:`group_clips`.

    Args:
        tables: Split -> rows of a manifest.
        length: T, frames of a clip.

    Returns:
        Split -> first rows, split -> paths, and sentences on the rows left out.
    """
    firsts, clips, notes = {}, {}, []
    for split, table in tables.items():
        firsts[split], clips[split], rest = group_clips(table, length)
        if rest:
            notes.append(f"{rest} {split} frames are not used: their video has no {length} more")
    return firsts, clips, notes


class ClipDataset(FrameDataset):
    """Clips of one split: ``image`` is ``(B, T, 3, S, S)``, uint8.

    Args:
        table: One row per clip, of its first frame.
        *arguments: As for :class:`~tokd_lightning.data.frames.FrameDataset`.
        clips: Paths of the T frames of each clip.
        **reading: As for :class:`~tokd_lightning.data.frames.FrameDataset`.
    """

    def __init__(
        self, table: pd.DataFrame, *arguments: Any, clips: list[list[str]], **reading: Any
    ) -> None:
        super().__init__(table, *arguments, **reading)
        self.clips = clips

    def _allocate(self, rows: list[int]) -> dict[str, Tensor]:
        length = len(self.clips[0])
        shape = (len(rows), length, 3, self.size, self.size)
        return {"image": to_hand_over(torch.empty(shape, dtype=torch.uint8))}

    def _load(self, batch: dict[str, Tensor], position: int, row: int) -> None:
        for number, path in enumerate(self.clips[row]):
            batch["image"][position, number] = self._read(self.root / path)
