"""Face X-ray: the border of a blended face as a map (Li et al., CVPR 2020)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.models.detectors.detector import Detector, DetectorLoss, DetectorOutput
from tokd_lightning.models.detectors.hulls import gaussian_blur
from tokd_lightning.models.detectors.networks import FineMaps

_BLUR, _SIGMA = 9, 5.0  # of hard masks, in pixels
_SLOPE = 10.0  # of the logits in the mean of the X-ray, at the start


def face_xray(mask: Tensor) -> Tensor:
    """Return 4 m (1 - m), the X-ray of blending masks, ``(B, 1, H, W)`` in [0, 1].

    A mask of only zeros and ones, like those of FF++, is blurred first (9 px, sigma 5).

    Args:
        mask: Blending masks in [0, 1], ``(B, 1, H, W)``.
    """
    hard = ((mask == 0) | (mask == 1)).all(dim=(1, 2, 3), keepdim=True)
    soft = torch.where(hard, gaussian_blur(mask, _BLUR, _SIGMA), mask)
    return 4 * soft * (1 - soft)


class FaceXray(Detector):
    """HRNet with a map of the blending border, from whose mean the image is classified.

    The maps of the four branches are resized to the finest and concatenated; a 1x1 convolution,
    resized to the image, and a sigmoid give the X-ray; a linear layer classifies its mean, at the
    start by a slope of -10 and 10 (fakes have the larger mean). Other backbones give their maps at
    strides 4 (if there is one) to 32.

    Args:
        backbone: ``hrnet_w48``, ``hrnet_w32``, ``hrnet_w18`` or a name for
            :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.

    Source:
        L. Li et al., "Face X-ray for more general face forgery detection", CVPR 2020.
    """

    name, title = "facexray", "Face X-ray"
    citation = "Li et al., CVPR 2020"
    needs = frozenset({"mask"})
    size = 256
    multiple = 32
    published = 26.2
    unsettled = "width of HRNet"
    has_heat_map = True

    def __init__(self, backbone: str = "hrnet_w48", pretrained: bool | str = True) -> None:
        super().__init__(pretrained, backbone=backbone)
        self.backbone = FineMaps(backbone, pretrained)
        self.map = nn.Conv2d(sum(self.backbone.channels.values()), 1, 1)
        self.classifier = nn.Linear(1, 2)
        with torch.no_grad():  # a random slope may be negative, and small means hardly turn it
            self.classifier.weight.copy_(torch.tensor([[-_SLOPE], [_SLOPE]]))

    @property
    def body(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, H, W)``."""
        maps: dict[int, Tensor] = self.backbone(image)
        finest = maps[min(maps)].shape[-2:]
        resized = [
            m if m.shape[-2:] == finest else functional.interpolate(m, finest, mode="bilinear")
            for m in maps.values()
        ]
        small = self.map(torch.cat(resized, dim=1))
        logit = functional.interpolate(small, image.shape[-2:], mode="bilinear")
        xray = logit.sigmoid()
        logits = self.classifier(xray.mean(dim=(2, 3)))
        kept = {"xray": xray, "xray_logit": logit}
        return DetectorOutput(logits, maps, kept if self.keeps() else {})

    def heat_map(self, output: DetectorOutput) -> Tensor:
        """Return the X-ray, scaled to the logits that its mean gives."""
        weight, bias = self.classifier.weight, self.classifier.bias
        return output.auxiliary["xray"][:, 0] * (weight[1] - weight[0]) + (bias[1] - bias[0])

    def panels(self, output: DetectorOutput) -> dict[str, Tensor]:
        """Return the X-ray."""
        return {"face X-ray": output.auxiliary["xray"][:, 0]}

    def make_loss(self) -> "FaceXrayLoss":
        """Return :class:`FaceXrayLoss`."""
        return FaceXrayLoss(self)


class FaceXrayLoss(DetectorLoss):
    r"""Cross-entropy of the class and of the map.

    .. math:: L = L_{CE} + w \, \mathrm{BCE}(B, 4 m (1 - m))

    m is the batch's ``mask``: 0 for reals, the blending mask of forged samples, the manipulated
    pixels of fakes, which are blurred. Samples whose mask is not finite have no map term.

    Args:
        detector: The network.
        weight: w; 0 needs no masks.

    Raises:
        ValueError: The weight is negative.
    """

    of = "facexray"

    def __init__(self, detector: Detector, weight: float = 100.0) -> None:
        super().__init__(detector)
        if weight < 0:
            raise ValueError("the weight of the X-ray must not be negative")
        self.weight = weight

    @property
    def supervision(self) -> tuple[str, ...]:
        """The masks, if the map has a weight."""
        return ("mask",) if self.weight else ()

    @property
    def note(self) -> str:
        """Tell that the map is not learned."""
        return "" if self.weight else "Face X-ray: without masks, the loss of its map is off"

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return ``ce`` and, with a weight, ``xray``."""
        losses = {"ce": self.cross_entropy(output.logits, batch["label"])}
        if not self.weight:
            return losses
        mask: Tensor = batch["mask"]
        logit = output.auxiliary["xray_logit"].to(torch.promote_types(mask.dtype, torch.float32))
        known = mask.isfinite().all(dim=(1, 2, 3))
        target = face_xray(mask.where(known[:, None, None, None], 0.0).to(logit))
        each = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
        mean = (each.mean(dim=(1, 2, 3)) * known).sum() / known.sum().clamp_min(1)
        return losses | {"xray": self.weight * mean}
