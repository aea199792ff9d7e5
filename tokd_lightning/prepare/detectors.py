"""Face detectors: bounding boxes from a picture; each imports its dependencies when it is made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tokd_lightning.errors import TokdError
from tokd_lightning.prepare.imaging import frontal_faces, interpolate, shrink, to_grey

T = TypeVar("T")
Picture = npt.NDArray[np.uint8]
"""RGB, ``(H, W, 3)``."""
Boxes = npt.NDArray[np.float64]
"""``(N, 4)``: x, y, width and height in pixels."""


class PerThread(threading.local, Generic[T]):
    """Object that every thread makes for itself.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.own = make()


class Detector(NamedTuple):
    """Face detector for a picture.

    Attributes:
        anywhere: Finds faces of any size in a whole picture.
        near_side: Finds faces whose side is 0.7 to 1.45 times a given number of pixels.
        side: Side of a face, in pixels, to which pictures are scaled before ``near_side``.
    """

    anywhere: Callable[[Picture], Boxes]
    near_side: Callable[[Picture, float], Boxes]
    side: float

    def __call__(self, picture: Picture) -> Boxes:
        """Find faces of any size in a whole picture."""
        return self.anywhere(picture)

    def of_side(self, picture: Picture, side: float) -> Boxes:
        """Find faces of about a given side in a whole picture, on a resized copy.

        Args:
            picture: RGB, ``(H, W, 3)``.
            side: Side of the face in pixels.
        """
        height, width = picture.shape[:2]
        scale = self.side / side
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        if max(smaller) > _LARGEST:
            return _boxes([])
        resized = (shrink if scale < 1 else interpolate)(picture, smaller)
        found = self.near_side(resized, self.side) / [*smaller, *smaller]
        sides = np.sqrt(found[:, 2] * width * found[:, 3] * height) / side
        kept = (sides >= _SMALLER) & (sides <= _LARGER)
        boxes: Boxes = found[kept] * [width, height, width, height]
        return boxes

    def near(self, picture: Picture, box: npt.NDArray[np.float64]) -> Boxes:
        """Find faces of a box's size around it.

        Args:
            picture: RGB, ``(H, W, 3)``.
            box: x, y, width and height in pixels.
        """
        height, width = picture.shape[:2]
        side = float(np.sqrt(box[2] * box[3]))
        centre = box[:2] + box[2:] / 2
        low = np.clip(np.floor(centre - _REACH * side), 0, [width, height]).astype(int)
        high = np.clip(np.ceil(centre + _REACH * side), 0, [width, height]).astype(int)
        if (high - low).min() < 2:
            return _boxes([])
        found = self.of_side(picture[low[1] : high[1], low[0] : high[0]], side)
        found[:, :2] += low
        return found


# Chosen on 204 frontal photographs: exactly one face on 203 of them, in 36 ms each.
_HAAR_SIDE = 480
_HAAR_NEIGHBOURS = 5
_HAAR_SMALLEST = 12
_HAAR_FACE = 48.0
_NETWORK_FACE = 64.0
_SHORTER_SIDE = 320
_CONFIDENT = 0.9
_REACH = 1.1  # face sides, from the centre of the last box
_SMALLER, _LARGER = 0.7, 1.45
_LARGEST = 4096


def haar() -> Detector:
    """Make the default detector: OpenCV's Haar cascade alt2 for frontal faces.

    OpenCV runs it where it is installed, else its port in NumPy, which finds the same boxes.

    Pictures are shrunk to 480 pixels along their shorter side; the smallest face found is a
    twelfth of it.

    Source:
        P. Viola and M. Jones, "Rapid object detection using a boosted cascade of simple features",
        CVPR 2001; the cascade by R. Lienhart, as OpenCV 4 ships it.
    """
    cascade = PerThread(frontal_faces)

    def detect(picture: Picture) -> Boxes:
        grey = to_grey(picture)
        shorter = min(grey.shape)
        scale = min(1.0, _HAAR_SIDE / shorter)
        if scale < 1:
            height, width = grey.shape
            grey = shrink(grey, (round(width * scale), round(height * scale)), (scale, scale))
        smallest = max(1, round(min(grey.shape) / _HAAR_SMALLEST))
        boxes: Boxes = _boxes(cascade.own(grey, _HAAR_NEIGHBOURS, smallest, None)) / scale
        return boxes

    def near_side(picture: Picture, side: float) -> Boxes:
        low, high = (max(1, round(side * bound)) for bound in (_SMALLER, _LARGER))
        return _boxes(cascade.own(to_grey(picture), _HAAR_NEIGHBOURS, low, high))

    return Detector(detect, near_side, _HAAR_FACE)


def mtcnn() -> Detector:
    """Make an MTCNN detector from the package facenet-pytorch, which the user installs.

    Source:
        K. Zhang et al., "Joint face detection and alignment using multitask cascaded convolutional
        networks", IEEE Signal Processing Letters 23, 2016.

    Raises:
        TokdError: The package is not installed, or its weights cannot be loaded.
    """
    try:
        package = import_module("facenet_pytorch")
    except ImportError as error:
        raise TokdError(
            "--detector mtcnn needs facenet-pytorch: pip install --no-deps facenet-pytorch"
        ) from error
    try:
        network = package.MTCNN(keep_all=True, post_process=False, device="cpu")
    except (OSError, RuntimeError) as error:
        raise TokdError(f"facenet-pytorch cannot load MTCNN: {error}") from error

    def detect(picture: Picture) -> Boxes:
        corners, confidence = network.detect(picture)
        if corners is None:
            return _boxes([])
        sure = np.asarray(corners, np.float64)[np.asarray(confidence, np.float64) >= _CONFIDENT]
        return _boxes(np.concatenate([sure[:, :2], sure[:, 2:] - sure[:, :2]], axis=1))

    return Detector(detect, lambda picture, _: detect(picture), _NETWORK_FACE)


def yunet(model: Path) -> Detector:
    """Make a YuNet detector from an ONNX file of OpenCV's model zoo.

    Pictures are shrunk to 320 pixels along their shorter side: the network was trained on faces of
    10 to 300 pixels.

    Args:
        model: The ONNX file.

    Source:
        W. Wu, H. Peng and S. Yu, "YuNet: a tiny millisecond-level face detector", Machine
        Intelligence Research 20, 2023.

    Raises:
        TokdError: The file is missing or is not a YuNet model, or OpenCV is not installed.
    """
    if not model.is_file():
        raise TokdError(f"no detector {model}: give haar, mtcnn, none, an .onnx or a .csv file")
    try:
        import cv2
    except ImportError as error:
        message = f'{model} needs OpenCV: pip install "tokd-lightning[faces]"'
        raise TokdError(message) from error
    try:
        networks = PerThread(
            lambda: cv2.FaceDetectorYN.create(str(model), "", (320, 320), _CONFIDENT)
        )
        networks.own.detect(np.zeros((320, 320, 3), np.uint8))
    except cv2.error as error:
        raise TokdError(f"{model} is not a YuNet model that OpenCV can run") from error

    def detect(picture: Picture) -> Boxes:
        height, width = picture.shape[:2]
        scale = min(1.0, _SHORTER_SIDE / min(height, width))
        smaller = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            picture = shrink(picture, smaller)
        networks.own.setInputSize(smaller)
        _, found = networks.own.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        boxes: Boxes = _boxes([] if found is None else found[:, :4])
        boxes = boxes * ([width / smaller[0], height / smaller[1]] * 2)
        return boxes

    return Detector(detect, lambda picture, _: detect(picture), _NETWORK_FACE)


def _boxes(found: npt.ArrayLike) -> Boxes:
    return np.asarray(found, np.float64).reshape(-1, 4)
