"""Operations on pictures by OpenCV where it is installed, else by its ports in NumPy.

Both give the same pixels and the same boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tokd_lightning.prepare import haar, resample

Picture = npt.NDArray[np.uint8]
HAS_OPENCV = find_spec("cv2") is not None


def single_thread() -> None:
    """Let OpenCV compute on one thread: processes that run side by side have a core each."""
    if HAS_OPENCV:
        import cv2

        cv2.setNumThreads(1)


def shrink(
    picture: Picture, size: tuple[int, int], factors: tuple[float, float] | None = None
) -> Picture:
    """Resize by averaging areas (``cv2.INTER_AREA``); bilinear where it enlarges.

    Args:
        picture: uint8, ``(H, W)`` or ``(H, W, 3)``.
        size: Width and height of the result.
        factors: Exact factors of width and height, if the size is rounded from them.
    """
    if not HAS_OPENCV:
        return resample.area(picture, size, factors)
    import cv2

    if factors is None:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    x, y = factors
    return np.asarray(cv2.resize(picture, None, fx=x, fy=y, interpolation=cv2.INTER_AREA), np.uint8)


def enlarge(picture: Picture, size: tuple[int, int]) -> Picture:
    """Resize by cubic interpolation (``cv2.INTER_CUBIC``).

    OpenCV's Intel library interpolates with other weights than OpenCV itself, so that pictures
    would depend on the processor: it is switched off.
    """
    if not HAS_OPENCV:
        return resample.cubic(picture, size)
    import cv2

    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)  # of this thread
    try:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    finally:
        cv2.ipp.setUseIPP(used)


def interpolate(picture: Picture, size: tuple[int, int]) -> Picture:
    """Resize by linear interpolation (``cv2.INTER_LINEAR``)."""
    if not HAS_OPENCV:
        return resample.linear(picture, size)
    import cv2

    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def to_grey(picture: Picture) -> Picture:
    """Convert RGB to grey (``cv2.COLOR_RGB2GRAY``)."""
    if not HAS_OPENCV:
        return resample.grey(picture)
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def best_match(part: Picture, patch: Picture) -> tuple[float, tuple[int, int]]:
    """Return the highest normalised cross-correlation of a patch, and its place.

    Args:
        part: Grey, ``(H, W)``, at least as large as the patch.
        patch: Grey, ``(h, w)``.

    Returns:
        The correlation as of ``cv2.TM_CCOEFF_NORMED``, in [-1, 1], and x and y of the corner.
    """
    if HAS_OPENCV:
        import cv2

        fit = np.asarray(cv2.matchTemplate(part, patch, cv2.TM_CCOEFF_NORMED))
    else:
        fit = _correlation(part.astype(np.float64), patch.astype(np.float64)).astype(np.float32)
    place = int(fit.argmax())
    y, x = divmod(place, fit.shape[1])
    return float(fit[y, x]), (x, y)


def _correlation(
    part: npt.NDArray[np.float64], patch: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    windows = np.lib.stride_tricks.sliding_window_view(part, patch.shape)
    centred = patch - patch.mean()
    means = windows.mean((2, 3))
    product = np.einsum("ijkl,kl->ij", windows, centred)
    power = np.einsum("ijkl,ijkl->ij", windows, windows) - means**2 * patch.size
    norm = np.sqrt(np.maximum(power, 0) * (centred**2).sum())
    fit: npt.NDArray[np.float64] = np.divide(
        product, norm, out=np.zeros_like(product), where=norm > 1e-6
    )
    return fit


def frontal_faces() -> Callable[[Picture, int, int, int | None], npt.NDArray[np.int64]]:
    """Return the detector of frontal faces, see :func:`tokd_lightning.prepare.haar.detect`."""
    if not HAS_OPENCV:
        return haar.detect
    import cv2

    file = str(Path(haar.__file__).with_name(haar.CASCADE))
    cascade = cv2.CascadeClassifier(file)

    def detect(
        image: Picture, neighbours: int, smallest: int, largest: int | None = None
    ) -> npt.NDArray[np.int64]:
        bounds = (smallest,) * 2, (largest or 0,) * 2  # 0 is no bound
        found = cascade.detectMultiScale(image, haar.STEP, neighbours, 0, *bounds)
        return np.asarray(found, np.int64).reshape(-1, 4)

    return detect
