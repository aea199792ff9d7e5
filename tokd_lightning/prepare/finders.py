"""Face finders: by a detector, from a table of boxes, or the whole picture."""

from __future__ import annotations

import csv
import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from tokd_lightning.errors import TokdError, reason
from tokd_lightning.prepare.boxes import Track, no_face
from tokd_lightning.prepare.detectors import Boxes, Detector, Picture, haar, mtcnn, yunet
from tokd_lightning.prepare.tracking import follow_faces, follow_known

_FURTHEST = 1e6  # pixels
_COLUMNS = ("video", "frame", "x", "y", "w", "h")


class Finder(ABC):
    """Base class of everything that locates the faces of a video."""

    @abstractmethod
    def find(self, video: str, pictures: Mapping[int, Picture], every: bool = False) -> list[Track]:
        """Return the track of the main face, then those of others that are not much smaller.

        Args:
            video: The video's name.
            pictures: The frames to crop, by increasing frame number; of one size, at least one.
            every: Whether to return small faces, and more than three others, too.
        """

    def take_over(self, known: Track, pictures: Mapping[int, Picture]) -> Track:
        """Transfer a track from other frames to these; by default it is kept unchanged.

        Args:
            known: Face track on the other frames.
            pictures: Frames of the track's size.
        """
        return known

    def margin(self, wanted: float) -> float:
        """Return the margin of the crop in units of the track's side; by default ``wanted``."""
        return wanted


class Detecting(Finder):
    """Finder that runs a face detector.

    Args:
        detector: Finds boxes in one picture.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def find(self, video: str, pictures: Mapping[int, Picture], every: bool = False) -> list[Track]:
        """Follow the faces from frame to frame."""
        return follow_faces(pictures, self.detector, every)

    def take_over(self, known: Track, pictures: Mapping[int, Picture]) -> Track:
        """Search around the known positions on frames that are too far from the track's."""
        return follow_known(pictures, self.detector, known)


class Listed(Finder):
    """Finder that reads face boxes from a CSV file with the columns video, frame, x, y, w, h.

    ``video`` is a name without suffix, ``frame`` an index from 0; x, y (upper left corner), w and h
    are in pixels of the video's best quality. One row per video is enough; between several frames
    the centre is interpolated. A fake needs no row if its real video has one and the same size.

    Args:
        file: The table.

    Raises:
        TokdError: The file cannot be read, lacks a column, has an invalid number or two rows for
            one frame.
    """

    def __init__(self, file: Path) -> None:
        self.boxes: dict[str, dict[int, Boxes]] = defaultdict(dict)
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                # Spreadsheets may write semicolons or tabs instead of commas.
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
            raise TokdError(f"cannot read {file}: {reason(error)}") from error

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

    def find(self, video: str, pictures: Mapping[int, Picture], every: bool = False) -> list[Track]:
        """Return one track of all listed boxes, unchanged; its side is their median."""
        height, width = next(iter(pictures.values())).shape[:2]
        known = dict(sorted(self.boxes.get(video, {}).items()))
        if not known:
            return [no_face(width, height)]
        boxes = np.stack(list(known.values()))
        centres = (boxes[:, :2] + boxes[:, 2:] / 2) / [width, height]
        side = float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) / width
        return [Track(width, height, np.array(list(known), float), centres, side)]


class Whole(Finder):
    """Finder that takes the largest central square, for videos that are already face crops."""

    def find(self, video: str, pictures: Mapping[int, Picture], every: bool = False) -> list[Track]:
        """Return the largest square at the centre of the picture."""
        height, width = next(iter(pictures.values())).shape[:2]
        side = min(width, height) / width
        return [Track(width, height, np.zeros(1), np.full((1, 2), 0.5), side)]

    def margin(self, wanted: float) -> float:
        """Return 1, because there is nothing outside the picture."""
        return 1.0


def fingerprint(detector: str) -> str:
    """Return a detector's name; a file is identified by a hash of its content, not by its path.

    Args:
        detector: A value that :func:`make_finder` accepts.

    Raises:
        TokdError: The file cannot be read, or the name is unknown.
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
        raise TokdError(f"cannot read {file}: {reason(error)}") from error
    return f"{'boxes' if file.suffix.lower() == '.csv' else 'yunet'}-{digest[:16]}"


@lru_cache(maxsize=4)
def make_finder(detector: str) -> Finder:
    """Make a face finder; cached per process.

    Args:
        detector: ``haar``, ``mtcnn``, ``none``, or the path of a YuNet ``.onnx`` or a ``.csv`` of
            boxes.

    Raises:
        TokdError: A package or file it needs is missing or invalid.
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
