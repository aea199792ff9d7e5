"""Dataset of frames with masks and landmarks, and with forged samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokd_lightning.data.decode import load_frame, resize
from tokd_lightning.data.frames import FrameDataset, to_hand_over
from tokd_lightning.data.landmarks import COUNT, Points

if TYPE_CHECKING:
    from tokd_lightning.data.blending.forger import Face, Forger

_CANDIDATES = 5000
_HALF = 128


class AnnotatedDataset(FrameDataset):
    """Frames of one split with masks, landmarks and forged samples, all made on the workers.

    A forged sample depends on the seed, the epoch and the row only. The first half of a forged
    table holds the real rows, the second the same rows to be forged; both rows of a frame make the
    same draws, so that they differ by the blend.

    Args:
        table: Rows of the manifest, numbered from 0.
        root: Folder that their paths are relative to.
        size: Pixels along both sides of an image.
        points: The rows' landmarks in pixels of the stored frames, ``(N, 68, 2)``; None if neither
            asked for nor needed.
        masks: Paths of the rows' masks relative to the root, empty without one; None if masks are
            not asked for.
        landmarks: Whether batches contain landmarks.
        forger: Makes forged samples; None leaves the frames unchanged.
        **reading: Further arguments of :class:`~tokd_lightning.data.frames.FrameDataset`.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        size: int,
        *,
        points: Points | None = None,
        masks: list[str] | None = None,
        landmarks: bool = False,
        forger: Forger | None = None,
        **reading: Any,
    ) -> None:
        super().__init__(table, root, size, **reading)
        self.points = points
        self.masks = masks
        self.landmarks = landmarks
        self.forger = forger
        self.reals = len(table) // 2 if forger is not None else len(table)
        if forger is not None and forger.needs_donor and points is not None:
            self._order = np.random.default_rng(self.seed).permutation(self.reals)
            # x and y of each candidate in planes, twice: any window of them is one piece of memory.
            planes = np.moveaxis(points[self._order], 2, 0)
            self._candidates_at = np.concatenate([planes, planes], axis=1)

    def _drawn_for(self, row: int) -> int:
        """Return the row whose draws a row makes: a forged one makes those of its real frame."""
        return row % self.reals

    def _allocate(self, rows: list[int]) -> dict[str, Tensor]:
        batch = super()._allocate(rows)
        if self.masks is not None:
            shape = (len(rows), 1, self.size, self.size)
            batch["mask"] = to_hand_over(torch.zeros(shape, dtype=torch.uint8))
        if self.landmarks:
            batch["landmarks"] = to_hand_over(torch.empty((len(rows), COUNT, 2)))
        return batch

    def _load(self, batch: dict[str, Tensor], position: int, row: int) -> None:
        if self.forger is None and self.points is None:
            super()._load(batch, position, row)
        elif self.forger is None:
            image, points = self._read_with_points(row)
            batch["image"][position] = image
        else:
            points = self._forge(batch, position, row)
        if self.landmarks:
            batch["landmarks"][position] = torch.from_numpy(points)
        if self.masks is not None and self.forger is None:
            batch["mask"][position] = self._mask(self.masks[row])

    def _read_with_points(self, row: int) -> tuple[Tensor, Points]:
        """Read a frame at the dataset's size, and its points in these pixels."""
        file = self.files(row)[0]
        try:
            image = load_frame(file)
        except ValueError as error:
            raise ValueError(f"cannot read {file}: {error}") from error
        assert self.points is not None
        sides = np.array([image.shape[2], image.shape[1]], np.float32)
        return resize(image, self.size), (self.points[row] + 0.5) * (self.size / sides) - 0.5

    def _mask(self, path: str) -> Tensor:
        """Read the mask of a frame, 0 or 255, ``(1, S, S)``; of a real frame all is 0."""
        if not path:
            return torch.zeros((1, self.size, self.size), dtype=torch.uint8)
        try:
            mask = resize(load_frame(self.root / path), self.size)[:1]
        except ValueError as error:
            raise ValueError(f"cannot read {self.root / path}: {error}") from error
        return torch.where(mask >= _HALF, 255, 0).to(torch.uint8)

    # Forging

    def _forge(self, batch: dict[str, Tensor], position: int, row: int) -> Points:
        """Make the sample of a row; return its points."""
        assert self.forger is not None
        source = self._drawn_for(row)
        face, points = self._face(source)
        rng = np.random.default_rng([self.seed, self._epoch, source])
        try:
            made = self.forger(face, rng, row >= self.reals, lambda rng: self._donor(source, rng))
        except ValueError as error:
            raise ValueError(f"cannot forge {self.files(source)[0]}: {error}") from error
        batch["image"][position] = torch.from_numpy(made.image).permute(2, 0, 1)
        if self.masks is not None:
            levels = np.rint(255 * made.mask).astype(np.uint8)
            batch["mask"][position, 0] = torch.from_numpy(levels)
        return points

    def _face(self, row: int) -> tuple[Face, Points]:
        from tokd_lightning.data.blending.forger import Face

        image, points = self._read_with_points(row)
        pixels: NDArray[np.uint8] = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return Face(pixels, points.astype(np.float64)), points

    def _donor(self, row: int, rng: np.random.Generator) -> Face:
        """Read the frame of another video whose points are nearest, among 5,000 drawn ones.

        They follow a random place of a random order. Of the nearest frames that the forger allows
        for, one is drawn.
        """
        assert self.points is not None
        assert self.forger is not None
        count, start = min(self.reals, _CANDIDATES), int(rng.integers(self.reals))
        rows = self._order[(start + np.arange(count)) % self.reals]
        x, y = self._candidates_at[:, start : start + count] - self.points[row].T[:, None]
        distance = np.sqrt(x * x + y * y).sum(1)
        others = self._videos[rows] != self._videos[row]
        rows, distance = rows[others], distance[others]
        if not len(rows):
            raise ValueError("there is no other video to blend in")
        few = min(self.forger.nearest, len(rows))
        chosen = rows[np.argpartition(distance, few - 1)[:few]]
        return self._face(int(chosen[rng.integers(few)] if few > 1 else chosen[0]))[0]
