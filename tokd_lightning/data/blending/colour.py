"""Changes of an image that both halves of a blend, or one of them, go through.

Images are uint8 RGB, ``(H, W, 3)``. Colours change by one affine map per image, which saturates at
0 and 255 and never wraps around.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.masks import bounding_box

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114])
_GREYS = np.tile(_LUMA, (3, 1))


def colour_map(
    shift: NDArray[np.float64],
    hue: float = 0.0,
    saturation: float = 1.0,
    contrast: float = 1.0,
    brightness: float = 0.0,
) -> NDArray[np.float64]:
    """Return an affine map of colours, ``(3, 4)``, for :func:`recolour`.

    In order: the shift of R, G, B; a rotation of the hue about the grey axis and a factor on the
    saturation, which keep greys; then contrast and brightness.

    Args:
        shift: Added to R, G, B, in levels of 255.
        hue: Angle in degrees.
        saturation: Factor on the distance from grey.
        contrast: Factor on the values.
        brightness: Added, in units of 255.
    """
    turn = cv2.Rodrigues(np.full(3, np.deg2rad(hue) / np.sqrt(3)))[0]
    colours = _GREYS + saturation * (turn - _GREYS @ turn)
    colours *= contrast
    return np.concatenate([colours, (colours @ shift + 255 * brightness)[:, None]], 1)


def recolour(image: Image, change: NDArray[np.float64]) -> Image:
    """Apply :func:`colour_map` to an image."""
    return np.asarray(cv2.transform(image, change), np.uint8)


def coarsen(image: Image, factor: int) -> Image:
    """Shrink an image by taking the nearest pixels, and enlarge it again bilinearly."""
    height, width = image.shape[:2]
    small = (max(1, width // factor), max(1, height // factor))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(shrunk, (width, height)), np.uint8)


def through(image: Image, side: int) -> Image:
    """Resize a square image to another side and back: fine detail is lost, moire is not made."""
    size = len(image)
    if side >= size:
        return image
    shrunk = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (size, size)), np.uint8)


def sharpen(image: Image, alpha: float, lightness: float) -> Image:
    """Mix an image with its sharpened self.

    The window is -1 around 8 + lightness, mixed with the identity by 1 - alpha, as in imgaug and
    Albumentations: its sum, and thus the brightness, is 1 - alpha + alpha · lightness.

    Args:
        image: The image.
        alpha: Share of the sharpened image.
        lightness: Weight of the centre above 8; 1 keeps the brightness.
    """
    window = np.full((3, 3), -alpha)
    window[1, 1] = 1 - alpha + alpha * (8 + lightness)
    return np.asarray(cv2.filter2D(image, -1, window), np.uint8)


def jpeg(image: Image, quality: int) -> Image:
    """Encode an image as JPEG (4:2:0) and decode it.

    Args:
        image: The image.
        quality: 1 to 100.
    """
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def match_colours(
    foreground: Floats, background: Image | Floats, mask: Floats, deviation: bool = False
) -> Floats:
    """Move the foreground's mean colour under a mask to the background's.

    Args:
        foreground: RGB, ``(H, W, 3)``.
        background: RGB, ``(H, W, 3)``.
        mask: Weights, ``(H, W)``, not all 0.
        deviation: Whether to match the standard deviation too, by a factor of 0.6 to 1.6.
    """
    weight = (mask / mask.sum())[..., None]
    mean, aim = (foreground * weight).sum((0, 1)), (background * weight).sum((0, 1))
    if not deviation:
        return np.asarray(foreground - mean + aim, np.float32)
    spread = np.sqrt((((foreground - mean) ** 2) * weight).sum((0, 1)) + 1)
    wanted = np.sqrt((((background - aim) ** 2) * weight).sum((0, 1)) + 1)
    factor = np.clip(wanted / spread, 0.6, 1.6)
    return np.asarray((foreground - mean) * factor + aim, np.float32)


def blend(background: Image | Floats, foreground: Image | Floats, mask: Floats) -> Image:
    """Return m · foreground + (1 - m) · background, rounded and clipped to 0..255.

    Args:
        background: RGB, ``(H, W, 3)``, whole levels from 0 to 255.
        foreground: RGB, ``(H, W, 3)``, in the same levels.
        mask: m, ``(H, W)``.
    """
    blended = background.astype(np.uint8)
    box = bounding_box(mask)
    below = background[box].astype(np.float32)  # differences of uint8 wrap around
    above = np.clip(foreground[box], 0, 255).astype(np.float32)
    mixed = below + (above - below) * mask[box][..., None]
    blended[box] = np.clip(np.rint(mixed), 0, 255)
    return blended
