"""Self-blended images (SBI): a frame blended with a changed copy of itself."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.colour import (
    Image,
    blend,
    coarsen,
    colour_map,
    jpeg,
    recolour,
    sharpen,
)
from tokd_lightning.data.blending.forger import Face, Forged, Forger
from tokd_lightning.data.blending.masks import KINDS, HullKind, Mask, hull, soften, with_forehead

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Factors on a mask, one drawn per sample."""
_ALPHA, _SIGMA = 50.0, 7.0  # elastic deformation, px of a face crop of about 400 px
_COARSE = 4  # the elastic field is drawn at a quarter of the size: it is smooth
_REFERENCE = 400


class SelfDraws(NamedTuple):
    """Everything random about one sample.

    Attributes:
        kind: Hull of the mask.
        forehead: Whether guessed points of the forehead belong to the hull.
        on_source: Whether the changes below go to the source, else to the target.
        change: Map of colours, ``(3, 4)``.
        coarse: 2 or 4 to coarsen, 0 to sharpen.
        alpha: Share of the sharpened image.
        lightness: Lightness of the sharpened image.
        shift: Translation of source and mask, x and y in units of the side.
        scale: Scale of source and mask about the centre.
        noise: White noise of the elastic deformation in [-1, 1], ``(G, G, 2)``, x and y.
        sides: Height and width at which the mask is softened.
        kernels: Sides of the two Gauss windows in pixels.
        sigma: Sigma of the second one in pixels.
        ratio: Factor on the mask.
        after: Map of colours of the finished sample, ``(3, 4)``.
        quality: JPEG quality of the finished sample; None for no JPEG.
    """

    kind: HullKind
    forehead: bool
    on_source: bool
    change: NDArray[np.float64]
    coarse: int
    alpha: float
    lightness: float
    shift: NDArray[np.float64]
    scale: float
    noise: NDArray[np.float32]
    sides: tuple[int, int]
    kernels: tuple[int, int]
    sigma: float
    ratio: float
    after: NDArray[np.float64]
    quality: int | None


class SBI(Forger):
    """Self-blended images, Shiohara and Yamasaki, CVPR 2022.

    A copy of the frame, the source, is blended into the frame, the target, under a softened hull of
    the landmarks. One of the two is changed in colour and in resolution or sharpness; source and
    mask are shifted and scaled a little, the mask is bent. The finished sample is changed again in
    colour and compressed. The real counterpart is the target with the same changes.

    Differences from the published code: hue, saturation and value change by up to ``hsv`` of their
    range (its ±0.3 in OpenCV's units does nothing); sharpening keeps the brightness and the colours
    of source and target differ half as much, or the blend is seen at once (``shift=20``,
    ``lightness=0.5`` are the published values); the crop at random margins around the face is the
    data module's ``crop``; the points of the forehead are guessed.

    Args:
        hulls: Kinds of hulls to draw from, see :func:`~.masks.hull`.
        ratios: Factors on the mask to draw from.
        hsv: Largest change of hue, saturation and value, in units of their range.
        forehead: Share of the samples whose hull includes the forehead.
        compress: Share of the samples that are compressed as JPEG, quality 40 to 100.
        shift: Largest difference of R, G, B between source and target, in levels of 255.
        light: Largest difference of brightness and contrast between them.
        lightness: Least sum of the sharpening window; below 1 it darkens.
    """

    name = "sbi"

    def __init__(
        self,
        hulls: tuple[HullKind, ...] = KINDS,
        ratios: tuple[float, ...] = RATIOS,
        hsv: float = 0.02,
        forehead: float = 0.75,
        compress: float = 0.5,
        shift: float = 10,
        light: float = 0.05,
        lightness: float = 1.0,
    ) -> None:
        self.hulls = tuple(hulls)
        self.ratios = tuple(ratios)
        self.hsv = hsv
        self.forehead = forehead
        self.compress = compress
        self.shift = shift
        self.light = light
        self.lightness = lightness

    def draw(self, rng: np.random.Generator, size: int) -> SelfDraws:
        """Draw a sample; always the same number of values, whatever they are."""
        kind = self.hulls[rng.integers(len(self.hulls))]
        grid = max(4, size // _COARSE)
        return SelfDraws(
            kind=kind,
            forehead=rng.random() < self.forehead,
            on_source=rng.random() < 0.5,
            change=self._colours(rng, (0.3, 1.0, 1.0), self.shift, self.light),
            coarse=(0, 0, 2, 4)[rng.integers(4)],
            alpha=rng.uniform(0.2, 0.5),
            lightness=rng.uniform(self.lightness, 1.0),
            shift=rng.uniform(-1, 1, 2) * (0.03, 0.015),
            scale=rng.uniform(0.95, 1 / 0.95),
            noise=2 * rng.random((grid, grid, 2), np.float32) - 1,
            sides=(int(rng.integers(192, 257)), int(rng.integers(192, 257))),
            kernels=(2 * int(rng.integers(2, 13)) + 1, 2 * int(rng.integers(2, 13)) + 1),
            sigma=float(rng.integers(5, 46)),
            ratio=self.ratios[rng.integers(len(self.ratios))],
            after=self._colours(rng, (0.3, 0.3, 0.3), 20, 0.3),
            quality=_maybe(rng, self.compress, 40, 100),
        )

    def _colours(
        self,
        rng: np.random.Generator,
        shares: tuple[float, float, float],
        levels: float,
        light: float,
    ) -> NDArray[np.float64]:
        """Draw a map of colours; ``shares`` are the probabilities of shift, HSV and light."""
        happens = rng.random(3) < shares
        shift = rng.uniform(-levels, levels, 3) * happens[0]
        hue, saturation, value = rng.uniform(-self.hsv, self.hsv, 3) * happens[1]
        brightness, contrast = rng.uniform(-light, light, 2) * happens[2]
        return colour_map(
            shift, 360 * hue, 1 + saturation, (1 + contrast) * (1 + value), brightness
        )

    def apply(
        self, face: Face, draws: SelfDraws, fake: bool, donor: Face | None = None
    ) -> Forged | None:
        """Make a sample from given draws."""
        source = target = face.image
        if draws.on_source and fake:
            source = _change(source, draws)
        elif not draws.on_source:
            target = _change(target, draws)
        mask = np.zeros(face.image.shape[:2], np.float32)
        if fake:
            mask = self._mask(face, draws)
            if not mask.any():
                return None
            moved = cv2.warpAffine(
                source, _move(draws, len(source)), mask.shape, borderMode=cv2.BORDER_REFLECT_101
            )
            target = blend(target, np.asarray(moved, np.uint8), mask)
        finished = recolour(target, draws.after)
        if draws.quality is not None:
            finished = jpeg(finished, draws.quality)
        return Forged(finished, mask)

    def _mask(self, face: Face, draws: SelfDraws) -> Mask:
        points = with_forehead(face.points) if draws.forehead else face.points
        hard = hull(points, face.image.shape[:2], draws.kind)
        moved = cv2.warpAffine(hard, _move(draws, len(hard)), hard.shape)
        bent = bend(np.asarray(moved, np.float32), draws.noise)
        soft = soften(bent, draws.sides, draws.kernels, draws.sigma)
        return np.asarray(np.float32(draws.ratio) * soft, np.float32)


def _change(image: Image, draws: SelfDraws) -> Image:
    coloured = recolour(image, draws.change)
    if draws.coarse:
        return coarsen(coloured, draws.coarse)
    return sharpen(coloured, draws.alpha, draws.lightness)


def _move(draws: SelfDraws, size: int) -> NDArray[np.float64]:
    """Return the affine map of source and mask, ``(2, 3)``."""
    middle, scale = (size - 1) / 2, draws.scale
    offset = middle - scale * middle + draws.shift * size
    return np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])


def bend(mask: Mask, noise: NDArray[np.float32]) -> Mask:
    """Deform a mask elastically: white noise, blurred (sigma 7) and amplified (alpha 50).

    Sigma and displacement grow with the side, from those of a crop of 400 px.

    Args:
        mask: ``(S, S)``.
        noise: In [-1, 1], ``(G, G, 2)``, x and y, at the coarse size at which it is blurred.
    """
    size, grid = len(mask), len(noise)
    scale = size / _REFERENCE
    smooth = cv2.GaussianBlur(noise, (0, 0), _SIGMA * scale * grid / size)
    # A Gaussian of g times smaller sigma leaves g times larger values of white noise.
    field = cv2.resize(smooth, (size, size)) * np.float32(_ALPHA * scale * grid / size)
    axis = np.arange(size, dtype=np.float32)
    x, y = axis[None] + field[..., 0], axis[:, None] + field[..., 1]
    return np.asarray(cv2.remap(mask, x, y, cv2.INTER_LINEAR), np.float32)


def _maybe(rng: np.random.Generator, share: float, low: int, high: int) -> int | None:
    """Draw an integer from ``low`` to ``high``, or None with probability 1 - ``share``."""
    value = int(rng.integers(low, high + 1))
    return value if rng.random() < share else None
