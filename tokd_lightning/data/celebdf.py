"""Celeb-DF as a data module."""

from pathlib import Path
from typing import Any

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.layouts.celebdf import scan_celebdf
from tokd_lightning.data.manifest import Scan


class CelebDFDataModule(FrameDataModule):
    """Frames of Celeb-DF, version 1 or 2, tested on the authors' list.

    Li et al., "Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics", CVPR 2020.
    Its authors provide the data set on request through a form
    (https://github.com/yuezunli/celeb-deepfakeforensics); ``List_of_testing_videos.txt`` comes
    with it and stays in the root. ``tokd prepare celebdf`` extracts the frames.

    Validation videos are held out of the others by identity, see
    :func:`~tokd_lightning.data.layouts.celebdf.list_celebdf`.

    Args:
        root: Root of the tree, see :func:`~tokd_lightning.data.layouts.celebdf.list_celebdf`.
        name: Name of the data set in tables and run names.
        quality: ``original`` as published, or a re-encoded copy such as ``c40``.
        splits: The test list or its folder, if it is not in the root.
        folder: Kind of frames; by default the first of faces, frames, images that exists, then
            folders directly in the parts.
        val_fraction: Share of identities and of YouTube's videos held out, in [0, 1).
        val_seed: Seed of the validation draw; unlike ``seed`` it changes which data are used.
        **frames: Arguments of :class:`~tokd_lightning.data.datamodule.FrameDataModule`.
    """

    def __init__(
        self,
        root: Path,
        name: str = "celebdf",
        quality: str = "original",
        splits: Path | None = None,
        folder: str | None = None,
        val_fraction: float = 0.1,
        val_seed: int = 0,
        **frames: Any,
    ) -> None:
        super().__init__(root, name, quality, **frames)
        self.splits = None if splits is None else Path(splits)
        self.folder = folder
        self.val_fraction = val_fraction
        self.val_seed = val_seed

    def scan(self, quality: str) -> Scan:
        """Index the tree at a quality."""
        return scan_celebdf(
            self.root,
            quality,
            self.splits,
            self.folder,
            self.val_fraction,
            self.val_seed,
            self.frames_per_video,
            self.name,
        )
