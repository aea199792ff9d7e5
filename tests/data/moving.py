"""Clips of drawn faces that move as a test says, so that their places are known."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.demo.cast import ProceduralCast

SIZE = (320, 240)


@cache
def portrait(index: int) -> tuple[NDArray, NDArray]:
    """Draw a head, 160 px, and find its face by OpenCV's own detector: x, y, width, height."""
    image = np.array(ProceduralCast(0, 160).portrait(index).image)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    found = cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1.05, 5)
    assert len(found) == 1
    return image, found[0].astype(float)


def room(seed: int, size: tuple[int, int] = SIZE) -> NDArray:
    """Draw a background without any face: soft blots."""
    width, height = size
    blots = np.random.default_rng(seed).integers(40, 200, (height // 40, width // 40, 3))
    return cv2.resize(blots.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)


def put(picture: NDArray, index: int, middle: tuple[float, float], side: float) -> NDArray:
    """Put a head into a picture, its face's middle and side as given."""
    image, (x, y, w, h) = portrait(index)
    scale = side / float(np.sqrt(w * h))
    matrix = np.array(
        [
            [scale, 0, middle[0] - scale * (x + w / 2)],
            [0, scale, middle[1] - scale * (y + h / 2)],
        ]
    )
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    oval = ((columns - x - w / 2) / (0.62 * w)) ** 2 + ((rows - y - h / 2) / (0.8 * h)) ** 2
    mask = np.clip((1.1 - oval) / 0.1, 0, 1).astype(np.float32)
    height, width = picture.shape[:2]
    head = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_AREA)
    mask = cv2.warpAffine(mask, matrix, (width, height))[..., None]
    return (picture * (1 - mask) + head * mask).round().astype(np.uint8)


def sway(count: int, side: float, size: tuple[int, int] = SIZE) -> NDArray:
    """Return middles of a face that sways and nods, by a face's side and a third of it."""
    t = np.arange(count)
    x = size[0] / 2 + side * np.sin(2 * np.pi * t / 61)
    y = size[1] / 2 + side / 3 * np.sin(2 * np.pi * t / 43 + 1)
    return np.stack([x, y], axis=1)
