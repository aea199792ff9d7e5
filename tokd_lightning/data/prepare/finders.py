"""Ways to know where the face of a video is: by a detector, from a table, or not at all."""

from __future__ import annotations

import csv
import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from tokd_lightning.data.prepare.boxes import Track, no_face
from tokd_lightning.data.prepare.detectors import Boxes, Detector, Picture, haar, mtcnn, yunet
from tokd_lightning.data.prepare.tracking import follow_faces, follow_known
from tokd_lightning.errors import TokdError

_FURTHEST = 1e6  # pixels
_COLUMNS = ("video", "frame", "x", "y", "w", "h")


class Finder(ABC):
    """Finds the faces of a video."""

    @abstractmethod
    def find(self, video: str, pictures: Mapping[int, Picture]) -> list[Track]:
        """Return where the face is, then where others are that are not much smaller.

        Args:
            video: The video's name.
            pictures: The frames to cut out, of one size, by their numbers, increasing; at least
                one.
        """

    def take_over(self, known: Track, pictures: Mapping[int, Picture]) -> Track:
        """Return a track of other frames of the same picture for these.

        Args:
            known: Where the face is on the other frames.
            pictures: Frames of the track's size.
        """
        return known

    def margin(self, wanted: float) -> float:
        """Return the margin that the crop shall have, in units of the track's side."""
        return wanted


class Detecting(Finder):
    """Asks a detector.

    Args:
        detector: Finds boxes in one picture.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def find(self, video: str, pictures: Mapping[int, Picture]) -> list[Track]:
        """Follow the faces from frame to frame."""
        return follow_faces(pictures, self.detector)

    def take_over(self, known: Track, pictures: Mapping[int, Picture]) -> Track:
        """Look around the known places where they are too far away."""
        return follow_known(pictures, self.detector, known)


class Listed(Finder):
    """Reads face boxes from a CSV file with the columns video, frame, x, y, w, h.

    ``video`` is a name without suffix, ``frame`` an index from 0; x, y (upper left corner), w and h
    are pixels of the video's best quality. One row per video is enough; between several frames
    the centre is interpolated. A fake needs no row where its real video has one and is of the
    same size.

    Args:
        file: The table.

    Raises:
        TokdError: It cannot be read, lacks a column, has a cell that is no number of its kind, or
            two rows for one frame.
    """

    def __init__(self, file: Path) -> None:
        self.boxes: dict[str, dict[int, Boxes]] = defaultdict(dict)
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                # A spreadsheet may have put semicolons or tabs in place of commas.
                delimiter = max(",;\t", key=lines.readline().count)
                lines.seek(0)
                rows = csv.DictReader(lines, delimiter=delimiter)
                if missing := [c for c in _COLUMNS if c not in (rows.fieldnames or ())]:
                    raise TokdError(
                        f"{file} lacks the column {missing[0]}: it needs {', '.join(_COLUMNS)}"
                    )
                for row in rows:
                    self._add(row, f"{file}, line {rows.line_num}")
        except (OSError, ValueError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise TokdError(f"cannot read {file}: {reason}") from error

    def _add(self, row: Mapping[str, str | None], where: str) -> None:
        try:
            frame = int(row["frame"] or "")
            box = np.array([float(row[name] or "") for name in _COLUMNS[2:]])
        except ValueError as error:
            raise TokdError(f"{where}: frame, x, y, w and h must be numbers") from error
        if frame < 0 or not (np.abs(box) <= _FURTHEST).all() or box[2:].min() <= 0:
            raise TokdError(
                f"{where}: frame must be at least 0, w and h above 0, and all below {_FURTHEST:g}"
            )
        known = self.boxes[row["video"] or ""]
        if frame in known:
            raise TokdError(f"{where}: a second box for frame {frame} of {row['video']}")
        known[frame] = box

    def find(self, video: str, pictures: Mapping[int, Picture]) -> list[Track]:
        """Take the boxes as they are, all of them; the side is their median."""
        height, width = next(iter(pictures.values())).shape[:2]
        known = dict(sorted(self.boxes.get(video, {}).items()))
        if not known:
            return [no_face(width, height)]
        boxes = np.stack(list(known.values()))
        centres = (boxes[:, :2] + boxes[:, 2:] / 2) / [width, height]
        side = float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) / width
        return [Track(width, height, np.array(list(known), float), centres, side)]


class Whole(Finder):
    """Takes the middle of the picture, as large as it can be, for videos that are faces already."""

    def find(self, video: str, pictures: Mapping[int, Picture]) -> list[Track]:
        """Return the middle of the picture, from side to side."""
        height, width = next(iter(pictures.values())).shape[:2]
        side = min(width, height) / width
        return [Track(width, height, np.zeros(1), np.full((1, 2), 0.5), side)]

    def margin(self, wanted: float) -> float:
        """Return 1: there is nothing around the picture."""
        return 1.0


def fingerprint(detector: str) -> str:
    """Return a detector's name, with the content of a file rather than its place.

    Args:
        detector: What :func:`make_finder` takes.

    Raises:
        TokdError: The file cannot be read, or the name means nothing.
    """
    if detector in ("haar", "mtcnn", "none"):
        return detector
    file = Path(detector)
    if file.suffix.lower() not in (".csv", ".onnx"):
        raise TokdError(
            f"no detector {detector!r}: give haar, mtcnn, none, an .onnx or a .csv file"
        )
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise TokdError(f"cannot read {file}: {error.strerror}") from error
    return f"{'boxes' if file.suffix.lower() == '.csv' else 'yunet'}-{digest[:16]}"


@lru_cache(maxsize=4)
def make_finder(detector: str) -> Finder:
    """Make what finds faces, once per process.

    Args:
        detector: ``haar``, ``mtcnn``, ``none``, the path of a YuNet ``.onnx`` or of a ``.csv`` of
            boxes.

    Raises:
        TokdError: It needs something that is not there.
    """
    match detector, Path(detector).suffix.lower():
        case "none", _:
            return Whole()
        case _, ".csv":
            return Listed(Path(detector))
        case "haar", _:
            return Detecting(haar())
        case "mtcnn", _:
            return Detecting(mtcnn())
    return Detecting(yunet(Path(detector)))
