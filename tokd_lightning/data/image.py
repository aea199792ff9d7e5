"""Reading of images with Pillow, upright according to EXIF and in RGB."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_SCAN, _APP1 = 0xDA, 0xE1
_ALONE = (0x01, *range(0xD0, 0xDA))
_TEXT = (b"iTXt", b"tEXt", b"zTXt")
_PROFILES = (b"Raw profile type", b"XML:com.adobe.xmp")
_WEBP_SAYS = 0x0C
_SIDEWAYS = 5  # and above


def to_rgb(image: Image.Image) -> Picture:
    """Convert an open image to upright RGB ``(H, W, 3)``; 16-bit channels give their high byte.

    Args:
        image: An image of any colour mode.

    Raises:
        Exception: Pillow's, for a broken image.
    """
    image.load()  # this already rotates a TIFF
    turn = _TURNS.get(orientation_of(image))
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image if turn is None else image.transpose(turn)) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    upright = image if turn is None else image.transpose(turn)
    return np.array(upright.convert("RGB"))


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of an encoded image: 1 to 8, 1 is upright.

    Most files have no such entry; they are recognised without opening them with Pillow.

    Args:
        data: The bytes of a file.
    """
    if not _may_say(data):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return orientation_of(image)
    except Exception:  # decoding it reports what is wrong
        return 1


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image, see :func:`orientation`."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata of an intact picture
        return 1
    return int(found) if found in _TURNS else 1


def upright_size(image: Image.Image, turn: int) -> tuple[int, int]:
    """Return width and height of an image after it is made upright.

    Args:
        image: Open or decoded.
        turn: Its EXIF orientation.
    """
    width, height = image.size
    if image.format == "TIFF":  # which Pillow rotates itself
        return width, height
    return (height, width) if turn >= _SIDEWAYS else (width, height)


def _may_say(data: bytes) -> bool:
    """Return whether a file may contain an orientation."""
    if data.startswith(_JPEG):
        return _jpeg_may_say(data)
    if data.startswith(_PNG):
        return _png_may_say(data)
    if data[8:12] == b"WEBP":
        return data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & _WEBP_SAYS)
    return data.startswith(_TIFF) or data[4:8] == b"ftyp"


def _jpeg_may_say(data: bytes) -> bool:
    """Return whether there is a segment of EXIF or XMP before the pixels."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _APP1:
            return True
        if marker == _SCAN:
            return False
        if marker == 0xFF:
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return False


def _png_may_say(data: bytes) -> bool:
    """Return whether there is a chunk of EXIF or XMP, which may come after the pixels."""
    place = len(_PNG)
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        start = place + 8
        if kind == b"eXIf" or (kind in _TEXT and data[start : start + 17].startswith(_PROFILES)):
            return True
        place = start + int.from_bytes(data[place : place + 4]) + 4
    return False
