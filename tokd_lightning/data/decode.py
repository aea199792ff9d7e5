"""Decoding of an image file, or of a record of a pack, to uint8 RGB pixels."""

import io
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from tokd_lightning.data.image import orientation, to_rgb
from tokd_lightning.data.lmdb_frames import read_value
from tokd_lightning.data.packed import read_record, split_path

try:  # about twice as fast as Pillow for JPEG; torchvision has announced its removal
    from torchvision.io import ImageReadMode, decode_image
except ImportError:
    decode_image = None

_BOXES = b"ftyp"  # of AVIF: decoders differ in which images they rotate themselves
_SIDEWAYS, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)


def decode(data: bytes) -> Tensor:
    """Decode an image upright, by torchvision if possible, otherwise by Pillow with equal results.

    It is rotated and mirrored according to its EXIF data, see
    :func:`~tokd_lightning.data.image.to_rgb`.

    Args:
        data: The bytes of a PNG, JPEG, WebP, BMP, … file of any colour mode.

    Returns:
        ``(3, H, W)``, uint8, RGB; the high byte of 16-bit channels.

    Raises:
        ValueError: The bytes are not a complete image.
    """
    if not data:
        raise ValueError("the file is empty")
    if decode_image is not None and data[4:8] != _BOXES:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image: Tensor = decode_image(encoded, ImageReadMode.RGB)
        except RuntimeError:  # another format, or broken: try Pillow
            return _decode_by_pillow(data)
        if image.dtype == torch.uint8 and image.ndim == 3:
            turn = orientation(data)
            return image if turn == 1 else _turn(image, turn)
    return _decode_by_pillow(data)


def _decode_by_pillow(data: bytes) -> Tensor:
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = to_rgb(image)
    except UnidentifiedImageError as error:
        raise ValueError("not an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"a broken image ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _turn(image: Tensor, turn: int) -> Tensor:
    """Rotate and mirror ``(3, H, W)`` according to EXIF's orientation."""
    if turn in _SIDEWAYS:
        image = image.transpose(1, 2)
    sides = [side for side, turns in ((1, _UPSIDE_DOWN), (2, _MIRRORED)) if turn in turns]
    return image.flip(sides).contiguous()


def resize(image: Tensor, size: int) -> Tensor:
    """Resize an image to a square by antialiased bilinear interpolation.

    Args:
        image: ``(3, H, W)``, uint8.
        size: Pixels along both sides; an image of that size is returned unchanged.

    Returns:
        ``(3, size, size)``, uint8.
    """
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def load_frame(file: Path) -> Tensor:
    """Read a frame at its own size as uint8 RGB pixels.

    Args:
        file: Any image that :func:`decode` supports, ``<video>.npy#<record>`` of a pack, or
            ``data.mdb#<key>`` of an LMDB.

    Returns:
        ``(3, H, W)``, uint8.

    Raises:
        ValueError: The file cannot be read; the message is a short reason.
    """
    place, record = split_path(str(file))
    if isinstance(record, str):
        return decode(read_value(Path(place), record))
    if record is not None:
        return torch.from_numpy(read_record(Path(place), record))
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or "unreadable") from error
    return decode(data)


def read_frame(file: Path, size: int) -> Tensor:
    """Read a frame as a square of uint8 RGB pixels, ``(3, size, size)``, see :func:`load_frame`.

    Raises:
        ValueError: The file cannot be read; the message is a short reason.
    """
    return resize(load_frame(file), size)
