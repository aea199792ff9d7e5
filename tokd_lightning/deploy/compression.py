"""JPEG quality of pictures, estimated from their quantisation tables."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import median
from typing import cast

import numpy as np
from PIL import Image

LOSSLESS = 100.0
_SAMPLE = 16
# H.264 of CRF 23 and of CRF 40 has the PSNR of JPEG of about these qualities, on 10 moving faces.
_CRFS, _QUALITIES = (0.0, 23.0, 40.0), (90.0, 70.0, 10.0)


def jpeg_quality(image: Image.Image) -> float | None:
    """Return the quality of libjpeg, 1 to 100, whose luminance table is nearest to an image's.

    Tables are the standard one times a factor s: s = 50 / q below quality 50, else 2 - q / 50.

    Args:
        image: An open image file.

    Returns:
        The quality; None if the file is not a JPEG.
    """
    table = getattr(image, "quantization", {}).get(0)
    if image.format != "JPEG" or not table:
        return None
    scale = float(np.sum(table) / _standard())
    return min(100.0, max(1.0, 50 / scale if scale > 1 else 100 - 50 * scale))


@cache
def _standard() -> float:
    """Return the sum of the standard luminance table, which libjpeg uses at quality 50."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG", quality=50)
    return float(np.sum(cast(Image.Image, Image.open(file)).quantization[0]))  # type: ignore[attr-defined]


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
