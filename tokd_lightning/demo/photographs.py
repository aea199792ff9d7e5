"""Photographs as portraits: reading photographs and their points, framing the face."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tokd_lightning.data.blending.points import (
    BROWS,
    JAW,
    Points,
    hull_mask,
    interocular,
    mirrored,
)
from tokd_lightning.data.image import to_rgb
from tokd_lightning.data.landmarks import COUNT
from tokd_lightning.demo.clips import Pictures, Portrait
from tokd_lightning.errors import TokdError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_MARGIN = 4.15

# Indices of the 68 points among the 189 of the London set; pairs are averaged.
_LONDON_COUNT = 189
_LONDON: list[int | tuple[int, int]] = [
    *(109, 110, 186, 111, 125, 126, 127, 128, 129, 130, 131, 132, 133, 114, 188, 113, 112),
    *(71, 72, 73, 74, 75, 78, 79, 80, 81, 82),
    *((50, 56), (52, 58), (53, 59), (54, 60)),
    *(64, 65, 55, 70, 69),
    *(18, 19, 21, 22, 30, 28, 23, 24, 26, 27, 33, 31),
    *(87, 88, 89, 90, 91, 92, 93, 108, 107, 106, 105, 104),
    *(87, 95, 96, 97, 93, 102, 101, 100),
]


def list_photographs(folder: Path, landmarks: Path) -> list[tuple[Path, Points]]:
    """List the photographs of a folder, sorted by name, with their 68 points.

    Args:
        folder: Folder of the photographs.
        landmarks: CSV of their points, see :class:`~.cast.PhotographCast`.

    Raises:
        TokdError: Folder or file missing, file not a UTF-8 CSV, a malformed line, a photograph
            without points.
    """
    if not folder.is_dir():
        raise TokdError(f"{folder} is not a folder: --faces wants a folder of photographs")
    table = _read_points(landmarks)
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    for path in found:
        if path.name not in table:
            message = f"{landmarks} has no line for {path.name}: add its points or remove the file"
            raise TokdError(message)
    return [(path, table[path.name]) for path in found]


def _read_points(path: Path) -> dict[str, Points]:
    if not path.is_file():
        raise TokdError(f"{path} does not exist: --landmarks wants the CSV of the faces' points")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TokdError(
            f"{path} is no CSV in UTF-8: --landmarks wants the faces' points"
        ) from error
    table = {}
    for number, row in enumerate(rows, 1):
        try:
            values = np.array(row[1:], np.float64).reshape(-1, 2)
        except ValueError:
            values = np.empty((0, 2))
        if len(values) not in (COUNT, _LONDON_COUNT) or not np.isfinite(values).all():
            wanted = f"a file name and {COUNT} or {_LONDON_COUNT} x, y pairs"
            raise TokdError(f"{path}, line {number}: expected {wanted}")
        table[row[0]] = values if len(values) == COUNT else _from_london(values)
    return table


def _from_london(values: Points) -> Points:
    return np.stack(
        [
            values[[index]].mean(0) if isinstance(index, int) else values[list(index)].mean(0)
            for index in _LONDON
        ]
    )


def read(path: Path) -> Pictures:
    """Read a photograph as RGB uint8.

    Raises:
        TokdError: The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except Exception as error:  # decoders raise any exception on a broken file
        raise TokdError(f"{path} cannot be read as an image: replace or remove it") from error


def look_of(picture: Pictures, points: Points) -> float:
    """Return the mean brightness of a face, to pair faces that look alike."""
    face = np.concatenate([points[JAW], points[BROWS]])
    weight = hull_mask(face, max(picture.shape[:2]))[: picture.shape[0], : picture.shape[1], None]
    return float((picture * weight).sum() / (3 * weight.sum() + 1))


def frame_photograph(picture: Pictures, points: Points, rng: np.random.Generator) -> Portrait:
    """Crop a square around the face, at the scale of the procedural faces.

    Args:
        picture: RGB, any size; mirrored beyond its border.
        points: Its 68 points.
        rng: Draws the framing, and mirrors a face with probability 0.5.
    """
    side = round(interocular(points) * _MARGIN * rng.uniform(0.93, 1.1))
    eyes, chin = points[36:48].mean(0), points[8]
    centre = eyes + (chin - eyes) * rng.uniform(0.06, 0.2)
    left, top = (int(v) for v in np.rint(centre - side / 2))
    padded = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_REFLECT_101)
    crop = padded[top + side : top + 2 * side, left + side : left + 2 * side]
    moved = points - [left, top]
    if rng.random() < 0.5:
        crop, moved = crop[:, ::-1], mirrored(moved, side)
    return Portrait(np.ascontiguousarray(crop), moved)
