"""RFM: erasing what the detector attends to (Wang & Deng, CVPR 2021)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.detectors.detector import (
    Detector,
    DetectorLoss,
    DetectorOutput,
    PooledDetector,
    extras_of,
    generators,
)

_SCALE = 2.0**14  # in fp16 the gradient underflows, and 2^16 overflows; only its order counts


class RFM(PooledDetector):
    """Xception; in training, parts of the face are erased by :class:`RFMLoss`.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.

    Source:
        C. Wang and W. Deng, "Representative forgery mining for fake face detection", CVPR 2021.
    """

    name, title = "rfm", "RFM"
    citation = "Wang & Deng, CVPR 2021"
    size = 224
    std = 0.25
    published = 22.8
    unsettled = "largest erasure at other sizes"

    def __init__(self, backbone: str = "xception", pretrained: bool | str = True) -> None:
        super().__init__(pretrained, backbone=backbone)
        self.backbone = build_backbone(backbone, pretrained)
        self.classifier = nn.Linear(self.backbone.channels[-1], 2)

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, H, W)``."""
        return self.classify(self.backbone(image))

    def make_loss(self) -> "RFMLoss":
        """Return :class:`RFMLoss`."""
        return RFMLoss(self)


class RFMLoss(DetectorLoss):
    r"""Cross-entropy with flooding, on images with erased parts.

    .. math:: L = |L_{CE} - b| + b

    Before each step every image loses up to three rectangles: the largest point of the forgery
    attention map that is still visible is taken, a rectangle around it is erased.

    Args:
        detector: The network.
        flood: b; 0 is the plain cross-entropy.
        count: Rectangles per image.
        largest: Largest height and width of a rectangle as a share of the side: 120 of 224 px.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, detector: Detector, flood: float = 0.04, count: int = 3, largest: float = 120 / 224
    ) -> None:
        super().__init__(detector)
        if flood < 0 or count < 0 or not 0 < largest <= 1:
            raise ValueError("flood and count must not be negative, largest within (0, 1]")
        self.flood = flood
        self.count = count
        self.largest = largest

    def before_step(self, detector: Detector, batch: Mapping[str, Any]) -> Tensor:
        """Erase parts of the images, drawn by the seeds of the batch."""
        image: Tensor = batch["image"]
        if not self.count:
            return image
        attention = attention_map(detector, image, extras_of(detector, batch))
        draws = [torch.rand(self.count, 4, generator=one) for one in generators(batch)]
        most = max(1, round(self.largest * image.shape[-1]))
        erased = erasures(attention, torch.stack(draws), most)
        seeded = generators(batch, image.device)
        noise = [torch.rand(image.shape[1:], generator=one, device=image.device) for one in seeded]
        fill = (2 * torch.stack(noise) - 1).to(image.dtype)
        return torch.where(erased[:, None], fill, image)

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the flooded cross-entropy as ``ce``."""
        loss = self.cross_entropy(output.logits, batch["label"])
        return {"ce": (loss - self.flood).abs() + self.flood}


def attention_map(
    detector: Detector, image: Tensor, extras: Mapping[str, Tensor] | None = None
) -> Tensor:
    r"""Return the forgery attention map, ``(B, H, W)``: how much each pixel changes the decision.

    .. math:: \mathrm{FAM}_{yx} = \max_c \left| \frac{\partial (z_1 - z_0)}{\partial x_{cyx}}
        \right|

    It is computed in ``eval()``: BatchNorm's statistics, the mode of every module and the
    gradients of the parameters remain unchanged.

    Args:
        detector: The network.
        image: ``(B, 3, H, W)``.
        extras: Further arguments of its ``forward``.
    """
    with _evaluated(detector), torch.enable_grad():
        x = image.detach().requires_grad_()
        logits = _plain(detector, x, extras or {}).logits
        score = (logits[:, 1] - logits[:, 0]).sum() * _SCALE
        (gradient,) = torch.autograd.grad(score, x)
    return gradient.abs().amax(dim=1)


def _plain(detector: Detector, image: Tensor, extras: Mapping[str, Tensor]) -> DetectorOutput:
    return cast(DetectorOutput, detector(image, **extras))


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Put a network into ``eval()``, and every module back into its own mode after."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def erasures(attention: Tensor, draws: Tensor, most: int) -> Tensor:
    """Return which pixels are erased, bool ``(B, H, W)``.

    For each rectangle: the largest point x of the attention that is neither erased nor used
    before; height h and width w uniform in 1..most, offsets uniform in 1..h and 1..w; rows
    x - offset to x - offset + h - 1, clipped to the image, and columns alike. An offset of the
    whole height leaves the point itself visible.

    Args:
        attention: ``(B, H, W)``.
        draws: Uniform numbers in [0, 1), ``(B, count, 4)``: height, width, offset of the rows, of
            the columns.
        most: Largest height and width in pixels.
    """
    count, height, width = attention.shape
    rows = torch.arange(height, device=attention.device)[None, :, None]
    columns = torch.arange(width, device=attention.device)[None, None, :]
    erased = torch.zeros(attention.shape, dtype=torch.bool, device=attention.device)
    used = erased.clone()
    samples = torch.arange(count, device=attention.device)
    draws = draws.double()
    sides = (draws[:, :, :2] * most).long() + 1
    offsets = ((draws[:, :, 2:] * sides).long() + 1).to(attention.device)
    sides = sides.to(attention.device)
    for number in range(draws.shape[1]):
        left = attention.masked_fill(erased | used, -1.0).flatten(1)
        point = left.argmax(dim=1)
        y, x = point // width, point % width
        used[samples, y, x] = True
        top, start = (y - offsets[:, number, 0]), (x - offsets[:, number, 1])
        inside = [
            (at >= first[:, None, None]) & (at < (first + side)[:, None, None])
            for at, first, side in ((rows, top, sides[:, number, 0]),
                                    (columns, start, sides[:, number, 1]))
        ]  # fmt: skip
        erased |= inside[0] & inside[1]
    return erased
