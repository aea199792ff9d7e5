"""Cropping, resizing and encoding of a frame."""

from __future__ import annotations

import numpy as np

from tokd_lightning.errors import TokdError
from tokd_lightning.prepare.boxes import Square
from tokd_lightning.prepare.detectors import Picture
from tokd_lightning.prepare.imaging import enlarge, shrink
from tokd_lightning.prepare.options import Options

_PNG_EFFORT = 3


def cut_out(picture: Picture, square: Square, size: int) -> Picture:
    """Crop and resize without aliasing.

    Shrinking averages over areas (``cv2.INTER_AREA``), enlarging is bicubic.

    Args:
        picture: RGB, ``(H, W, 3)``.
        square: The crop, inside the picture.
        size: Side of the result in pixels.

    Returns:
        RGB, ``(size, size, 3)``.
    """
    x, y, side = square
    crop = picture[y : y + side, x : x + side]
    if side == size:
        return np.ascontiguousarray(crop)
    return (shrink if side > size else enlarge)(crop, (size, size))


def encode_image(picture: Picture, options: Options) -> tuple[str, bytes]:
    """Encode a crop.

    JPEG keeps the colours at full resolution (4:4:4): halving it saves 15 % of the bytes but
    removes fine colour structure, which reveals forgeries.

    Args:
        picture: RGB, ``(H, W, 3)``.
        options: JPEG or PNG, and the JPEG quality.

    Returns:
        The file's suffix and its content.

    Raises:
        TokdError: OpenCV cannot write this format.
    """
    import cv2

    if options.encoding == "png":
        suffix, how = ".png", [cv2.IMWRITE_PNG_COMPRESSION, _PNG_EFFORT]
    else:
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        suffix, how = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality]
        how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)
    if not done:
        raise TokdError(f"OpenCV cannot write {suffix} files: reinstall opencv-python-headless")
    return suffix, data.tobytes()
