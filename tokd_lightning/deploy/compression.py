"""JPEG quality of pictures, estimated from their quantisation tables."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

LOSSLESS = 100.0
_SAMPLE = 16
# H.264 of CRF 23 and of CRF 40 has the PSNR of JPEG of about these qualities, on 10 moving faces.
_CRFS, _QUALITIES = (0.0, 23.0, 40.0), (90.0, 70.0, 10.0)


def jpeg_quality(image: Image.Image) -> float | None:
    """Return the quality of libjpeg, 1 to 100, whose luminance table is nearest to an image's.

    Args:
        image: An open image file.

    Returns:
        The quality; None if the file is not a JPEG.
    """
    table = getattr(image, "quantization", {}).get(0)
    if image.format != "JPEG" or not table or len(table) != 64:
        return None
    return float(np.abs(_tables() - np.array(table)).sum(1).argmin() + 1)


@cache
def _tables() -> npt.NDArray[np.int64]:
    """Return the luminance tables of qualities 1 to 100, ``(100, 64)``: multiples of that of 50."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG", quality=50)
    standard = np.array(cast(Any, Image.open(file)).quantization[0], np.int64)
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((standard * percent + 50) // 100).clip(1, 255)


def quality_of_files(files: Iterable[Path]) -> float | None:
    """Return the median JPEG quality of frames; 100 for lossless ones, None if none can be read.

    Args:
        files: The frames; of many, evenly spaced ones are read.
    """
    known = list(files)
    found = []
    for file in known[:: max(1, len(known) // _SAMPLE)]:
        try:
            with Image.open(file) as image:
                found.append(jpeg_quality(image) or LOSSLESS)
        except (OSError, ValueError):
            continue  # a record of a pack, or unreadable
    return median(found) if found else None


def worth(quality: float | None, crf: float | None) -> float | None:
    """Return the JPEG quality that frames of compressed videos are worth.

    Args:
        quality: Their own quality; None if it is not known.
        crf: Setting of the videos' encoder; None if it is not known.
    """
    lossy = None if crf is None else float(np.interp(crf, _CRFS, _QUALITIES))
    return min((value for value in (quality, lossy) if value is not None), default=None)
