"""SPSL: RGB and the phase spectrum of an image (Liu et al., CVPR 2021)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.frequency import full_precision, without_autocast
from tokd_lightning.models.backbones import adapt_stem, build_backbone
from tokd_lightning.models.detectors.detector import DetectorOutput, PooledDetector

Gain = Literal["unit", "raw"]
Stem = Literal["append_mean", "mean"]
_MIDDLE = tuple(f"block{number}" for number in range(4, 12))  # of Xception


def phase_image(grey: Tensor) -> Tensor:
    r"""Return the image that has the phase of another one and an amplitude of 1 everywhere.

    .. math:: p = \mathrm{Re}\, F^{-1}\!\left(\frac{F(g)}{|F(g)|}\right)

    :math:`\sum p^2 = 1`, so that its deviation is :math:`1 / \sqrt{HW}`. Coefficients at the level
    of rounding errors have no phase; they count as 1, and a flat image gives a delta.

    Args:
        grey: ``(..., H, W)``, floating point; computed in at least float32 regardless of autocast.

    Returns:
        The same shape, ``promote_types(dtype, float32)``.
    """
    dtype = torch.promote_types(grey.dtype, torch.float32)
    if grey.is_meta:  # only shapes are needed
        return grey.new_empty(grey.shape, dtype=dtype)
    with without_autocast(grey.device):
        if torch.compiler.is_exporting():
            return _by_matrices(grey.to(dtype))
        spectrum = torch.fft.fft2(grey.to(dtype))
        amplitude = spectrum.abs()
        known = amplitude > _rounding(amplitude)
        phase = torch.where(known, spectrum / amplitude.where(known, 1.0), 1.0)
        image: Tensor = torch.fft.ifft2(phase).real
        return image


def _rounding(amplitude: Tensor) -> Tensor:
    """Return the level of rounding errors of a transform, ``(..., 1, 1)``."""
    norm = amplitude.square().sum(dim=(-2, -1), keepdim=True).sqrt()
    return norm * torch.finfo(amplitude.dtype).eps


def _by_matrices(grey: Tensor) -> Tensor:
    """Compute :func:`phase_image` by real matrix products, which ONNX has."""
    wide = full_precision(grey.dtype, grey.device)
    (c, s), (cw, sw) = (_dft(n, wide, grey.device) for n in grey.shape[-2:])
    x = grey.to(wide)
    left_c, left_s = c @ x, s @ x
    real, imaginary = left_c @ cw - left_s @ sw, -(left_c @ sw + left_s @ cw)
    amplitude = (real.square() + imaginary.square()).sqrt()
    known = amplitude > _rounding(amplitude)
    divisor = amplitude.where(known, 1.0)
    real, imaginary = (real / divisor).where(known, 1.0), (imaginary / divisor).where(known, 0.0)
    # Re of (C + iS) (real + i imaginary) (C + iS)
    inner_real, inner_imaginary = c @ real - s @ imaginary, c @ imaginary + s @ real
    count = grey.shape[-2] * grey.shape[-1]
    return ((inner_real @ cw - inner_imaginary @ sw) / count).to(grey.dtype)


def _dft(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the DFT's angles, ``(size, size)`` each."""
    steps = torch.arange(size, dtype=torch.int64)
    angles = (steps[:, None] * steps % size).double() * (2 * torch.pi / size)
    return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


class SPSL(PooledDetector):
    """Shallow Xception on RGB and the phase-only image as a fourth channel.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.
        middle: Number of blocks of Xception's middle flow that are kept, 0 (shallow) to 8 (whole);
            None is 0 for Xception, and the only value for other networks.
        gain: ``unit`` scales the phase-only image to a deviation of 1, ``raw`` leaves it at
            1 / sqrt(HW), which a copied stem hardly sees.
        stem: First convolution: ``append_mean`` keeps the RGB weights and adds their mean for the
            phase, ``mean`` repeats the mean for all four channels.

    Raises:
        TokdError: The backbone is unknown or has no middle flow.
        ValueError: An option is out of range.

    Source:
        H. Liu et al., "Spatial-phase shallow learning: rethinking face forgery detection in
        frequency domain", CVPR 2021.
    """

    name, title = "spsl", "SPSL"
    citation = "Liu et al., CVPR 2021"
    unsettled = "scale of the phase image, fourth channel of the stem, depth"

    def __init__(
        self,
        backbone: str = "xception",
        pretrained: bool | str = True,
        middle: int | None = None,
        gain: Gain = "unit",
        stem: Stem = "append_mean",
    ) -> None:
        if gain not in get_args(Gain) or stem not in get_args(Stem):
            raise ValueError(f"gain must be one of {get_args(Gain)}, stem of {get_args(Stem)}")
        super().__init__(pretrained, backbone=backbone, middle=middle, gain=gain, stem=stem)
        self.gain = gain
        self.backbone = build_backbone(backbone, pretrained)
        self._shorten(middle)
        adapt_stem(self.backbone, _with_mean if stem == "append_mean" else _mean_alone)
        self.classifier = nn.Linear(self.backbone.channels[-1], 2)

    def _shorten(self, middle: int | None) -> None:
        if middle is not None and not 0 <= middle <= len(_MIDDLE):
            raise ValueError(f"middle must be between 0 and {len(_MIDDLE)}, not {middle}")
        for stage in self.backbone.stages:
            there = [name for name, _ in stage.named_children() if name in _MIDDLE]
            for name in there[middle or 0 :]:
                delattr(stage, name)
            if there:
                return
        if middle is not None:
            raise TokdError(f"{self.spec['backbone']} has no middle flow: leave `middle` out")

    def phase(self, image: Tensor) -> Tensor:
        """Return the fourth channel, ``(B, 1, H, W)``, of normalised images."""
        p = phase_image(image.float().mean(dim=1, keepdim=True))
        if self.gain == "unit":
            p = p * (image.shape[-2] * image.shape[-1]) ** 0.5
        return p.to(image.dtype)

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, H, W)``."""
        return self.classify(self.backbone(torch.cat([image, self.phase(image)], dim=1)))


def _with_mean(weight: Tensor) -> Tensor:
    return torch.cat([weight, weight.mean(dim=1, keepdim=True)], dim=1)


def _mean_alone(weight: Tensor) -> Tensor:
    return weight.mean(dim=1, keepdim=True).expand(-1, 4, -1, -1)
