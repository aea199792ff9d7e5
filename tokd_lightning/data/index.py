"""Index of a data module: its checked tables, their annotations, clips, notes and hashes."""

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tokd_lightning.data.annotations import Annotations
from tokd_lightning.data.clips import group_tables
from tokd_lightning.data.frames import OnError
from tokd_lightning.data.held import without
from tokd_lightning.data.layouts.video_folder import refuse_broken_packs
from tokd_lightning.data.manifest import SPLITS, Scan, check, counts, first_rows
from tokd_lightning.data.numberings import align
from tokd_lightning.data.pairs import limit, pair, summary
from tokd_lightning.data.rows import fold_hash, row_hashes, whole_hash
from tokd_lightning.data.suspicions import partial_notes, suspicions
from tokd_lightning.errors import TokdError


class FrameIndex(ABC):
    """Tables of a data module, read from its folders once.

    Args:
        root: The data set's folder.
        quality: Compression of the videos.
        frames_per_video: Evenly spaced frames taken from every video.
        size: Pixels along both sides of a decoded image.
        on_error: Whether a broken pack ends the run or is a video without frames.
        teacher_quality: Quality of the teacher's frames, if it is another one.
        max_unpaired: Largest share of training frames without a partner at that quality.
        annotations: Masks, landmarks and forged rows.
        clip: Frames of a clip; None for single frames.
        leave_out: Methods whose fakes are neither trained on nor validated on.

    Attributes:
        unpaired: Number of training frames left out without a partner at ``teacher_quality``.
        announced: Whether the index has been printed.
    """

    def __init__(
        self,
        root: Path,
        quality: str,
        frames_per_video: int,
        size: int,
        on_error: OnError,
        teacher_quality: str | None,
        max_unpaired: float,
        annotations: Annotations,
        clip: int | None,
        leave_out: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.root = root
        self.quality = quality
        self.frames_per_video = frames_per_video
        self.size = size
        self.on_error: OnError = on_error
        self.teacher_quality = teacher_quality
        self.max_unpaired = max_unpaired
        self.annotations = annotations
        self.clip = clip
        self.leave_out = list(leave_out)
        self.unpaired = 0
        self.announced = False
        self._scan: Scan | None = None
        self._tables: dict[str, pd.DataFrame] = {}
        self._clips: dict[str, list[list[str]]] = {}
        self._pairs: list[str] = []
        self._apart: list[str] = []
        self._left_out: list[str] = []
        self._found: dict[str, int] = {}
        self._fold = ""
        self._hashes: dict[str, Any] = {}

    @abstractmethod
    def scan(self, quality: str) -> Scan:
        """Index the data set's frames at a quality, ``frames_per_video`` per video."""

    def require(self, needs: Iterable[str]) -> None:
        """Add ``mask`` or ``landmarks`` to the batches, as a network needs them; check ``clip``.

        Args:
            needs: Names of the tensors, see :class:`~tokd_lightning.data.frames.Batch`.

        Raises:
            TokdError: Another name is asked for, or clips that there are not.
        """
        asked = {*needs}
        if "clip" in asked and self.clip is None:
            raise TokdError("this network reads clips of frames: give their length, --data.clip 8")
        if self.clip is not None and asked - {"clip"}:
            raise TokdError("clips have neither masks nor landmarks: leave out --data.clip")
        if self.annotations.require(asked - {"clip"}):
            self._scan, self._hashes = None, {}

    @property
    def manifest(self) -> pd.DataFrame:
        """Checked index of all splits; the first access reads the folders."""
        return self._index().manifest

    def _index(self) -> Scan:
        if self._scan is None:
            scan = self._sound_scan(self.quality)
            check(scan.manifest, scan.apart)
            if self.teacher_quality is not None:
                scan = scan._replace(manifest=self._paired(scan.manifest, self.teacher_quality))
            there = first_rows(scan.manifest)["split"].value_counts()
            self._found = {str(split): int(count) for split, count in there.items()}
            if self.leave_out:
                self._fold = fold_hash(scan.manifest)
                kept, self._left_out = without(scan.manifest, self.leave_out)
                scan = scan._replace(manifest=kept)
            parts = {split: scan.manifest["split"] == split for split in SPLITS}
            tables = {k: scan.manifest[rows].reset_index(drop=True) for k, rows in parts.items()}
            if self.annotations.used:
                self._fold = self._fold or fold_hash(scan.manifest)
                tables = self.annotations.apply(tables)
                read = pd.concat(tables.values(), ignore_index=True)
                scan = scan._replace(manifest=read.drop_duplicates("path", ignore_index=True))
            if self.clip is not None:
                tables, self._clips, self._apart = group_tables(tables, self.clip)
            self._scan, self._tables = scan, tables
        return self._scan

    def share_index(self, other: "FrameIndex") -> None:
        """Take over what another data module of the same configuration has read and printed."""
        other._index()
        names = ("_scan", "_tables", "_pairs", "_hashes", "_fold", "_found", "_clips", "_apart")
        for name in (*names, "_left_out", "annotations", "unpaired", "announced"):
            setattr(self, name, getattr(other, name))

    def _sound_scan(self, quality: str) -> Scan:
        """Index a quality; raise on a broken pack, or treat it as a video without frames."""
        scan = self.scan(quality)
        if self.on_error == "fail":
            refuse_broken_packs(self.root, scan.empty)
        return scan

    def _paired(self, manifest: pd.DataFrame, quality: str) -> pd.DataFrame:
        """Add the training frames' partners, found among all frames at the teacher's quality."""
        unlimited = copy.copy(self)
        unlimited.frames_per_video = sys.maxsize
        every, theirs = (
            frames[frames["split"] == "train"]
            for frames in (unlimited._sound_scan(q).manifest for q in (self.quality, quality))
        )
        theirs, said = align(every, theirs, self.root, self.quality, quality)
        paired, lonely = pair(manifest, theirs)
        limit(paired, lonely, quality, self.max_unpaired)
        self.unpaired = len(lonely)
        self._pairs = [*said, summary(paired, lonely, self.quality, quality)]
        return paired

    def notes(self, split: str | None = None) -> list[str]:
        """Return notes on data that are listed but not used, or that would spoil a result.

        Args:
            split: The split to check; None for all.
        """
        scan = self._index()
        rows = scan.manifest if split is None else self._tables[split]
        partial = {k: v for k, v in self.partial.items() if split in (None, k)}
        return [
            *partial_notes(partial),
            *scan.notes,
            *suspicions(rows, self.root, self.size),
        ]

    @property
    def partial(self) -> dict[str, tuple[int, int]]:
        """Incomplete splits -> number of videos with frames, and number that belong to it."""
        scan = self._index()
        there = self._found
        found = {split: (there.get(split, 0), scan.listed.get(split, 0)) for split in SPLITS}
        return {split: pair for split, pair in found.items() if pair[0] < pair[1]}

    def table(self, split: str) -> pd.DataFrame:
        """Return the rows of ``train``, ``val`` or ``test``; a batch's ``index`` refers to them."""
        self._index()
        return self._tables[split]

    def counts(self) -> pd.DataFrame:
        """Count videos, frames and short videos per split and method."""
        return counts(self.manifest, self.frames_per_video)

    def data_hash(self) -> str:
        """Hash all rows in use: contents, splits, labels, videos and the teacher's frames."""
        return str(self.data_hashes()["data"])

    def data_hashes(self) -> dict[str, Any]:
        """Return :meth:`data_hash` as ``data`` and the hash of each part as ``rows``."""
        if not self._hashes:
            parts = row_hashes(self.manifest, self.root) | self.annotations.hashes(self._tables)
            self._hashes |= {"data": whole_hash(parts), "rows": parts}
        return dict(self._hashes)

    def fold_hash(self) -> str:
        """Hash which video is in which split, to recognise a teacher of a different fold."""
        scan = self._index()
        if not self._fold:
            self._fold = fold_hash(scan.manifest)
        return self._fold
