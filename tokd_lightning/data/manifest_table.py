"""Custom data set, listed in a file or in a flat tree, as a data module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.layouts.collections import collection_of, scan_collection
from tokd_lightning.data.layouts.deepfakebench import scan_deepfakebench
from tokd_lightning.data.layouts.dfdc import find_metadata, is_metadata, scan_dfdc
from tokd_lightning.data.layouts.flat import is_flat, scan_flat
from tokd_lightning.data.layouts.holdout import hold_out_validation
from tokd_lightning.data.layouts.table import scan_table
from tokd_lightning.data.manifest import SPLITS, Scan
from tokd_lightning.errors import TokdError


class ManifestDataModule(FrameDataModule):
    r"""Frames of any data set: listed in a CSV or in a JSON of DeepfakeBench, or in a flat tree.

    A minimal CSV::

        path,method,split
        clips/000/0001.png,real,train
        clips/000_003/0001.png,Deepfakes,train

    For the other columns see :func:`~tokd_lightning.data.layouts.table.scan_table`; ``target`` and
    ``source`` enable identity checks. ``tokd prepare`` writes such a file next to the frames.
    A JSON of DeepfakeBench (Yan et al., NeurIPS 2023; https://github.com/SCLBD/DeepfakeBench) is
    read unchanged, see :func:`~tokd_lightning.data.layouts.deepfakebench.scan_deepfakebench`. A
    flat tree is ``{train,val,test}/{real,fake/<method>}/<video>/<frame>``. DFDC's ``metadata.json``
    is read too, with the frames next to it, see
    :func:`~tokd_lightning.data.layouts.dfdc.scan_dfdc`; it has one split, so training needs
    ``val_fraction``. So are the trees of FFIW and WildDeepfake, see
    :func:`~tokd_lightning.data.layouts.collections.list_collection`; the latter needs
    ``val_fraction`` too.

    Args:
        root: Folder that the paths of the frames are relative to.
        manifest: The ``.csv`` or ``.json``; by default ``<root>/manifest.csv`` if it exists,
            otherwise the flat tree or DFDC's lists in the root.
        name: Name of the data set in tables and run names.
        quality: Compression of the frames to take; also the name of the compression if a list or a
            tree does not state it.
        apart: Splits that must not share identities; by default all three, and for Celeb-DF, whose
            test list does share them, ``train`` and ``val``.
        val_fraction: Share of the people held out of training for validation, in (0, 1), instead of
            the listed validation split; see
            :func:`~tokd_lightning.data.layouts.holdout.hold_out_validation`. DeepfakeBench's
            Celeb-DF needs it: its validation split is its test split.
        val_seed: Seed of the validation draw; unlike ``seed`` it changes which data are used.
        **frames: Arguments of :class:`~tokd_lightning.data.datamodule.FrameDataModule`.
    """

    def __init__(
        self,
        root: Path,
        manifest: Path | None = None,
        name: str = "manifest",
        quality: str = "unknown",
        apart: Sequence[str] | None = None,
        val_fraction: float | None = None,
        val_seed: int = 0,
        **frames: Any,
    ) -> None:
        super().__init__(root, name, quality, **frames)
        if apart is not None and (strange := [s for s in apart if s not in SPLITS]):
            raise TokdError(f"apart names splits, {', '.join(SPLITS)}, not {strange[0]!r}")
        self.file = None if manifest is None else Path(manifest)
        self.apart = None if apart is None else tuple(apart)
        self.val_fraction = val_fraction
        self.val_seed = val_seed

    def scan(self, quality: str) -> Scan:
        """Read the list or the tree at a quality.

        Raises:
            TokdError: There is no list or tree, it is malformed, or it has only one quality, which
                was requested under two names.
        """
        scan = self._read(quality)
        if quality != self.quality:
            own = set(self._read(self.quality).manifest["path"])
            if not own.isdisjoint(scan.manifest["path"]):
                raise TokdError(
                    f"{self.file or self.root} does not say which frames are {quality} and which "
                    f"{self.quality}: add a column quality"
                )
        if self.val_fraction is not None:
            scan = hold_out_validation(scan, self.val_fraction, self.val_seed)
        return scan if self.apart is None else scan._replace(apart=self.apart)

    def _read(self, quality: str) -> Scan:
        file = self.file or self.root / "manifest.csv"
        count = self.frames_per_video
        if file.suffix.lower() == ".json" and is_metadata(file):
            return scan_dfdc(self.root, [file], quality, count)
        if file.suffix.lower() == ".json":
            merge = self.val_fraction is not None
            return scan_deepfakebench(file, self.root, quality, count, merge)
        if self.file is not None or file.is_file():
            return scan_table(file, self.root, quality, count, self.name)
        if self.root.is_dir() and is_flat(self.root):
            return scan_flat(self.root, quality, count, self.name)
        if collection_of(self.root):
            return scan_collection(self.root, quality, count)
        if self.root.is_dir() and (lists := find_metadata(self.root)):
            return scan_dfdc(self.root, lists, quality, count)
        raise TokdError(
            f"{self.root} has neither a manifest.csv nor train/real or train/fake in it: name the "
            "list of its frames with --data.manifest"
        )
