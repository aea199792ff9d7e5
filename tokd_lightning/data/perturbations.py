"""Eight image perturbations, at five strengths.

``tokd evaluate --robustness`` applies them to the network's input, at its input resolution and
before normalisation; training draws chains of them (:mod:`tokd_lightning.data.degrade`). They round
to 8 bits per channel, as a file would. The result for a frame depends only on that frame, neither
on its batch nor on other processes.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from kornia.enhance import adjust_contrast_with_mean_subtraction
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

from tokd_lightning.data.codecs import h264, jpeg, refuse_without_h264, through
from tokd_lightning.errors import TokdError

Values = tuple[float, ...]
STRENGTHS = (1, 2, 3, 4, 5)


class Perturbation(NamedTuple):
    """A perturbation.

    Attributes:
        title: Name in tables and figures.
        parameter: Name of its parameter, with the unit.
        values: Values of the parameter at strengths 1 to 5.
        apply: Function of images in [0, 1], values and a key per image; yields images per value.
    """

    title: str
    parameter: str
    values: Values
    apply: Callable[[Tensor, Values, Sequence[str]], Iterator[Tensor]]


def perturb(images: Tensor, name: str, strength: int, keys: Sequence[str]) -> Tensor:
    """Perturb images.

    Args:
        images: In [0, 1], ``(B, 3, H, W)``.
        name: Key of :data:`PERTURBATIONS`.
        strength: 1 to 5.
        keys: One per image, such as its path: equal keys give equal noise and equal occlusions.

    Returns:
        Images of the same shape, multiples of 1/255 in [0, 1].

    Raises:
        ValueError: There is no such strength.
        TokdError: There is no such perturbation, or the H.264 encoder is not installed.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"strengths are 1 to 5, not {strength}")
    [name] = chosen(name)
    one = PERTURBATIONS[name].values[strength - 1 : strength]
    return next(_perturbed(images, PERTURBATIONS[name], one, keys))


def perturb_by(images: Tensor, name: str, value: float, keys: Sequence[str]) -> Tensor:
    """Perturb images as :func:`perturb` does, by any value of the perturbation's parameter."""
    return next(_perturbed(images, PERTURBATIONS[name], (value,), keys))


def every_strength(images: Tensor, name: str, keys: Sequence[str]) -> Iterator[Tensor]:
    """Perturb images at strengths 1 to 5 in turn, as :func:`perturb` does each."""
    perturbation = PERTURBATIONS[name]
    return _perturbed(images, perturbation, perturbation.values, keys)


def chosen(text: str) -> list[str]:
    """Parse comma-separated names of perturbations; ``all`` selects all of them.

    Raises:
        TokdError: There is no such perturbation, or the H.264 encoder is not installed.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    names = list(PERTURBATIONS) if named == ["all"] else named
    unknown = [name for name in names if name not in PERTURBATIONS]
    if unknown or not names:
        said = f"no perturbation {unknown[0]!r}" if unknown else "no perturbation named"
        raise TokdError(f"{said}: choose from {', '.join(PERTURBATIONS)}, with commas between")
    if "h264" in names:
        refuse_without_h264()
    return [name for name in PERTURBATIONS if name in names]


def _perturbed(
    images: Tensor, perturbation: Perturbation, values: Values, keys: Sequence[str]
) -> Iterator[Tensor]:
    for found in perturbation.apply(images, values, keys):
        yield (found.clamp(0, 1) * 255).round() / 255


def _jpeg(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    return through(jpeg, images, values)


def _h264(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    return through(h264, images, values)


def _blur(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Convolve with a Gaussian, truncated at three sigma."""
    for sigma in values:
        side = 2 * min(round(3 * sigma), min(images.shape[-2:]) - 1) + 1
        yield gaussian_blur2d(images, (side, side), (sigma, sigma), "reflect")


def _noise(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Add white Gaussian noise, the same field at every strength."""
    fields = [torch.randn(images.shape[1:], generator=_generator("noise", key)) for key in keys]
    noise = torch.stack(fields).to(images)
    for sigma in values:
        yield images + noise * (sigma / 255)


def _resize(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Downsample (bilinear, antialiased) and upsample to the original size (bilinear)."""
    height, width = images.shape[-2:]
    for scale in values:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        small = functional.interpolate(images, size, mode="bilinear", antialias=True)
        yield functional.interpolate(small, (height, width), mode="bilinear")


def _brightness(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Multiply by a factor: below 1 darkens, above 1 brightens and clips."""
    for factor in values:
        yield images * float(factor)


def _contrast(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Reduce the contrast towards the image's mean grey."""
    for factor in values:
        yield adjust_contrast_with_mean_subtraction(images, float(factor))


def _occlusion(images: Tensor, values: Values, keys: Sequence[str]) -> Iterator[Tensor]:
    """Cover a rectangle of the image's aspect ratio with mid-grey, nested over the strengths."""
    height, width = images.shape[-2:]
    places = torch.stack([torch.rand(2, generator=_generator("occlusion", key)) for key in keys])
    for percent in values:
        tall, wide = (max(1, round(side * (percent / 100) ** 0.5)) for side in (height, width))
        covered = images.clone()
        for image, (down, right) in zip(covered, places.tolist(), strict=True):
            top, left = round(down * (height - tall)), round(right * (width - wide))
            image[:, top : top + tall, left : left + wide] = 0.5
        yield covered


def _generator(what: str, key: str) -> torch.Generator:
    digest = hashlib.sha256(f"{what}\0{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


PERTURBATIONS = {
    "jpeg": Perturbation("JPEG", "quality", (90, 70, 50, 30, 15), _jpeg),
    "h264": Perturbation("H.264", "CRF", (23, 29, 35, 40, 45), _h264),
    "blur": Perturbation("Gaussian blur", "sigma (px)", (0.5, 1, 1.5, 2, 3), _blur),
    "noise": Perturbation("Gaussian noise", "sigma (of 255)", (3, 6, 12, 18, 25), _noise),
    "resize": Perturbation("Resizing", "scale of the side", (0.8, 0.65, 0.5, 0.35, 0.25), _resize),
    "brightness": Perturbation("Brightness", "factor", (0.85, 0.7, 0.55, 0.4, 0.25), _brightness),
    "contrast": Perturbation("Contrast", "factor", (0.85, 0.7, 0.55, 0.4, 0.25), _contrast),
    "occlusion": Perturbation(
        "Occlusion", "covered (% of the area)", (2, 5, 10, 20, 30), _occlusion
    ),
}
