"""Masks, landmarks and forged rows of a data module: what is asked for, found, missing and used."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from tokd_lightning.data.landmarks import LANDMARKS, Points, limit_missing, read_landmarks
from tokd_lightning.data.manifest import data_hash
from tokd_lightning.data.packed import split_path
from tokd_lightning.errors import TokdError

if TYPE_CHECKING:
    from tokd_lightning.data.blending.forger import Forger

Forge = Literal["bi", "sbi"]
MASKS = "masks"
_NEEDS = ("mask", "landmarks")


class Annotations:
    """Masks and landmarks of frames, and forged training data.

    Args:
        root: The data set's folder.
        landmarks: File of the landmarks; None means ``<root>/landmarks.csv``.
        forge: Method of the forged samples; None forges nothing.
        options: Options of the method.

    Attributes:
        needs: ``mask`` and ``landmarks``, as far as batches contain them.
        notes: Sentences on what is missing, and on what is forged.

    Raises:
        TokdError: The method is unknown, or OpenCV is not installed.
    """

    def __init__(
        self,
        root: Path,
        landmarks: Path | None = None,
        forge: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if options and forge is None:
            raise TokdError("forge_options belong to a forging method: name it with --data.forge")
        self.root = root
        self.file = root / LANDMARKS if landmarks is None else Path(landmarks)
        self.needs: frozenset[str] = frozenset()
        self.forger = None if forge is None else make_forger(forge, options or {})
        self.notes: list[str] = []
        self._points: dict[str, Points] = {}
        self._masks: dict[str, list[str]] = {}

    @property
    def used(self) -> bool:
        """Whether batches contain anything beyond frames as they are stored."""
        return bool(self.needs) or self.forger is not None

    def require(self, needs: Iterable[str]) -> bool:
        """Add to :attr:`needs`; return whether anything is new.

        Raises:
            TokdError: Something else than ``mask`` or ``landmarks`` is asked for.
        """
        asked = frozenset(needs)
        if unknown := sorted(asked - {*_NEEDS}):
            raise TokdError(
                f"batches cannot contain {unknown[0]!r}: choose from {', '.join(_NEEDS)}"
            )
        new = not asked <= self.needs
        self.needs |= asked
        return new

    def apply(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """Find the annotations of every split, and add the forged rows.

        With a forger, training and validation keep their real rows with points, followed by the
        same rows as fakes of its name. Frames without points stay otherwise; training frames of a
        fake without a mask are left out.

        Args:
            tables: Split -> rows of the manifest, numbered from 0.

        Raises:
            TokdError: Files are missing or malformed, or more than 1 % of the frames lack one.
        """
        self.notes, self._points, self._masks = [], {}, {}
        return {split: self._annotate(split, table) for split, table in tables.items()}

    def _annotate(self, split: str, table: pd.DataFrame) -> pd.DataFrame:
        forging = self.forger is not None and split != "test"
        if not len(table):
            return table
        if forging:
            table = table[table["label"] == 0].reset_index(drop=True)
        if forging or "landmarks" in self.needs:
            points = read_landmarks(self.file, table)
            lacking = np.isnan(points[:, 0, 0])
            remedy = f"`tokd landmarks {self.root}` finds them"
            if said := limit_missing(lacking, table, "landmarks", remedy):
                self.notes.append(f"{said} in {split}" + (": they are left out" if forging else ""))
            if forging:
                points = points[~lacking]
                table = table[~lacking].reset_index(drop=True)
            self._points[split] = points
        if forging:
            assert self.forger is not None
            self.notes.append(
                f"{split}: half of the samples are real frames, half are forged from them "
                f"({self.forger.name}); its own fakes are not used"
            )
            fakes = table.assign(method=self.forger.name, label=1)
            self._points[split] = np.concatenate([self._points[split]] * 2)
            return pd.concat([table, fakes], ignore_index=True)
        if "mask" in self.needs:
            table = self._with_masks(split, table)
        return table

    def _with_masks(self, split: str, table: pd.DataFrame) -> pd.DataFrame:
        if any(isinstance(split_path(path)[1], str) for path in table["path"].iloc[:1]):
            raise TokdError("masks are read from files, and these frames are in an LMDB")
        places = [
            mask_path(path, frame) if label else ""
            for path, frame, label in zip(
                table["path"], table["frame"], table["label"], strict=True
            )
        ]
        there = {
            folder: {file.name for file in (self.root / folder).glob("*.png")}
            for folder in {place.rpartition("/")[0] for place in places if place}
        }
        found = [
            not place or place.rpartition("/")[2] in there[place.rpartition("/")[0]]
            for place in places
        ]
        lacking = ~np.array(found, dtype=np.bool_)
        remedy = (
            "`tokd prepare` cuts them from FF++'s mask videos (FaceShifter has none: leave it out "
            "with --data.methods), `tokd demo` draws them"
        )
        if split != "train":  # no detector reads masks in evaluation
            places = [place if known else "" for place, known in zip(places, found, strict=True)]
        elif said := limit_missing(lacking, table, "mask", remedy):
            self.notes.append(f"{said} in {split}: they are left out")
            places = [place for place, known in zip(places, found, strict=True) if known]
            table = table[~lacking].reset_index(drop=True)
            if split in self._points:
                self._points[split] = self._points[split][~lacking]
        self._masks[split] = places
        return table

    def arguments(self, split: str) -> dict[str, Any]:
        """Return the arguments of :class:`~tokd_lightning.data.annotated.AnnotatedDataset`."""
        forger = None if split == "test" else self.forger
        masks = [] if forger is not None and "mask" in self.needs else self._masks.get(split)
        return {
            "points": self._points.get(split),
            "masks": masks,
            "landmarks": "landmarks" in self.needs,
            "forger": forger,
        }

    def hashes(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
        """Hash the landmarks and masks of all rows, as parts of the data's hash."""
        parts = {}
        if self._points:
            whole = hashlib.sha256()
            for split in tables:
                whole.update(self._points.get(split, np.empty(0, np.float32)).tobytes())
            parts["landmarks"] = whole.hexdigest()
        if self._masks:
            places = [place for masks in self._masks.values() for place in masks if place]
            parts["masks"] = data_hash(pd.DataFrame({"path": places}), self.root)
        return parts


def mask_path(path: str, frame: int) -> str:
    """Return where the mask of a fake frame is, relative to the root.

    ``manipulated_sequences/Deepfakes/c40/faces/071_054/0012.jpg`` has the mask
    ``manipulated_sequences/Deepfakes/masks/faces/071_054/0012.png``, the same at every quality.

    Args:
        path: Path of the frame: a file, or a record of a pack.
        frame: Its index in the video.
    """
    place, record = split_path(path)
    parts = PurePosixPath(place)
    video = parts.with_suffix("") if record is not None else parts.parent
    return f"{video.parents[1].with_name(MASKS)}/{video.parent.name}/{video.name}/{frame:04d}.png"


def make_forger(name: str, options: Mapping[str, Any]) -> Forger:
    """Make a forger by its name, ``bi`` or ``sbi``.

    Args:
        name: The method.
        options: Arguments of its class.

    Raises:
        TokdError: The name or an option is unknown, or OpenCV is not installed.
    """
    if find_spec("cv2") is None:
        raise TokdError('forging frames needs cv2: pip install "tokd-lightning[faces]"')
    from tokd_lightning.data.blending.blended import BI
    from tokd_lightning.data.blending.selfblended import SBI

    forgers: dict[str, type[Forger]] = {forger.name: forger for forger in (BI, SBI)}
    if name not in forgers:
        raise TokdError(f"no forging method {name!r}: choose from {' and '.join(forgers)}")
    known = inspect.signature(forgers[name]).parameters
    if unknown := sorted(options.keys() - known.keys()):
        raise TokdError(f"{name} has no option {unknown[0]!r}: choose from {', '.join(known)}")
    return forgers[name](**options)
