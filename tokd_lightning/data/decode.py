"""One image file, or one record of a pack, becomes uint8 RGB pixels."""

import io
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from tokd_lightning.data.image import orientation, to_rgb
from tokd_lightning.data.packed import read_record, split_path

try:  # about twice as fast as Pillow for JPEG; announced to leave torchvision one day
    from torchvision.io import ImageReadMode, decode_image
except ImportError:
    decode_image = None

_BOXES = b"ftyp"  # of AVIF, where decoders differ in what they turn themselves
_SIDEWAYS, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)


def decode(data: bytes) -> Tensor:
    """Decode an encoded image upright, by torchvision where it can and by Pillow elsewhere, alike.

    It is turned and mirrored as its EXIF data say, see :func:`~tokd_lightning.data.image.to_rgb`.

    Args:
        data: The bytes of a PNG, JPEG, WebP, BMP, … file of any colour mode.

    Returns:
        ``(3, H, W)``, uint8, RGB; of 16-bit channels the high byte.

    Raises:
        ValueError: The bytes are not a complete image.
    """
    if not data:
        raise ValueError("the file is empty")
    if decode_image is not None and data[4:8] != _BOXES:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image: Tensor = decode_image(encoded, ImageReadMode.RGB)
        except RuntimeError:  # another format, or broken: Pillow decides
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
    """Turn and mirror ``(3, H, W)`` as EXIF's orientation says."""
    if turn in _SIDEWAYS:
        image = image.transpose(1, 2)
    sides = [side for side, turns in ((1, _UPSIDE_DOWN), (2, _MIRRORED)) if turn in turns]
    return image.flip(sides).contiguous()


def resize(image: Tensor, size: int) -> Tensor:
    """Bring an image to a square by antialiased bilinear interpolation.

    Args:
        image: ``(3, H, W)``, uint8.
        size: Pixels along both sides; an image of that size passes untouched.

    Returns:
        ``(3, size, size)``, uint8.
    """
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def read_frame(file: Path, size: int) -> Tensor:
    """Read a frame as a square of uint8 RGB pixels.

    Args:
        file: Any image that :func:`decode` knows, or ``<video>.npy#<record>`` of a pack.
        size: Pixels along both sides.

    Returns:
        ``(3, size, size)``, uint8.

    Raises:
        ValueError: The file cannot be read, with the reason in a few words.
    """
    place, record = split_path(str(file))
    if record is not None:
        return resize(torch.from_numpy(read_record(Path(place), record)), size)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or "unreadable") from error
    return resize(decode(data), size)
