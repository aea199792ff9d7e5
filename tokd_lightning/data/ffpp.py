"""FaceForensics++ as a data module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.layouts.ffpp import METHODS, scan_ffpp
from tokd_lightning.data.manifest import Scan


class FFPPDataModule(FrameDataModule):
    """Frames of FaceForensics++ (or of any tree laid out like it), by its official splits.

    Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019.
    Its authors provide the data set on request through a form
    (https://github.com/ondyari/FaceForensics); the split files are in that repository
    (``dataset/splits``) and belong in ``<root>/splits``. ``tokd demo`` makes a small synthetic
    tree of the same form.

    Args:
        root: Root of the tree, see :func:`~tokd_lightning.data.layouts.ffpp.scan_ffpp`.
        name: Name of the data set in tables and run names.
        quality: ``raw``, ``c23`` or ``c40``: none, light or heavy H.264 compression.
        splits: Folder of ``train.json``, ``val.json``, ``test.json``, if it is neither
            ``<root>/splits`` nor the root.
        folder: Kind of frames; by default the first of faces, frames, images that exists.
        methods: Manipulations to take, of Deepfakes, Face2Face, FaceSwap, NeuralTextures,
            FaceShifter and DeepFakeDetection.
        **frames: Arguments of :class:`~tokd_lightning.data.datamodule.FrameDataModule`.
    """

    def __init__(
        self,
        root: Path,
        name: str = "ffpp",
        quality: str = "c40",
        splits: Path | None = None,
        folder: str | None = None,
        methods: Sequence[str] = METHODS,
        **frames: Any,
    ) -> None:
        super().__init__(root, name, quality, **frames)
        self.splits = None if splits is None else Path(splits)
        self.folder = folder
        self.methods = list(methods)

    def scan(self, quality: str) -> Scan:
        """Index the tree at a quality."""
        return scan_ffpp(
            self.root,
            quality,
            self.splits,
            self.folder,
            self.methods,
            self.frames_per_video,
            self.name,
        )
