"""One image file, or one record of a pack, becomes uint8 RGB pixels."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from tokd_lightning.data.packed import read_record, split_path

try:  # about twice as fast as Pillow for JPEG; announced to leave torchvision one day
    from torchvision.io import ImageReadMode, decode_image
except ImportError:
    decode_image = None


def decode(data: bytes) -> Tensor:
    """Decode an encoded image, by torchvision where it can and by Pillow elsewhere, alike.

    Args:
        data: The bytes of a PNG, JPEG, WebP, BMP, … file of any colour mode.

    Returns:
        ``(3, H, W)``, uint8, RGB; of 16-bit channels the high byte.

    Raises:
        ValueError: The bytes are not a complete image.
    """
    if not data:
        raise ValueError("the file is empty")
    if decode_image is not None:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image: Tensor = decode_image(encoded, ImageReadMode.RGB)
        except RuntimeError:  # another format, or broken: Pillow decides
            return _decode_by_pillow(data)
        if image.dtype == torch.uint8 and image.ndim == 3:
            return image
    return _decode_by_pillow(data)


def _decode_by_pillow(data: bytes) -> Tensor:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                pixels = np.stack([grey] * 3, axis=-1)
            else:
                pixels = np.array(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError("not an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"a broken image ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


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
