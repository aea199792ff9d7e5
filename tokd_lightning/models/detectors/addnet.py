"""AddNet: Xception multiplied by an attention mask of the face (Zi et al., ACM MM 2020)."""

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.detectors.detector import DetectorOutput, PooledDetector
from tokd_lightning.models.detectors.hulls import ORGANS, filled_hulls, gaussian_blur

_KERNEL = 15 / 224  # of the blur, as a share of the side
_TAPS = ("act2", "block1", "block2", "block3")  # of Xception, before the middle flow
_BODY = (8, 16)  # strides of other networks


def attention_mask(
    landmarks: Tensor, size: int, sigma: float = 0.02, organs: float = 1.0, floor: float = 0.0
) -> Tensor:
    """Return the attention mask of faces, ``(B, 1, size, size)`` in [0, 1].

    The hull of all points and, weighted, those of both eyes, nose and mouth, each blurred, summed
    and divided by the maximum. A face with points that are not finite has a mask of ones.

    Args:
        landmarks: 68 points in iBUG's order, x and y in pixels, ``(B, 68, 2)``.
        size: Side of the images in pixels.
        sigma: Standard deviation of the blur as a share of the side.
        organs: Weight of each organ.
        floor: Smallest value of the mask.
    """
    known = landmarks.isfinite().all(dim=(1, 2))
    points = landmarks.where(known[:, None, None], 0.0).float()
    total = points.new_zeros(len(points), 1, size, size)
    kernel = max(1, round(_KERNEL * size)) | 1
    for weight, part in ((1.0, slice(None)), *((organs, part) for part in ORGANS.values())):
        hull = filled_hulls(points[:, part], size)
        total = total + weight * gaussian_blur(hull[:, None], kernel, sigma * size)
    peak = total.amax(dim=(1, 2, 3), keepdim=True)
    mask = floor + (1 - floor) * total / peak.clamp_min(torch.finfo(total.dtype).tiny)
    seen = known[:, None, None, None] & (peak > 0)
    return mask.where(seen, 1.0)


class AddNet(PooledDetector):
    """Xception whose input and early maps are multiplied by :func:`attention_mask`.

    At five places: the image, and the maps after the two stem convolutions, block1, block2 and
    block3; in other networks the image and the maps at strides 4, 8 and 16. The mask is averaged
    over the pixels of each.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.
        sigma: See :func:`attention_mask`.
        organs: See :func:`attention_mask`.
        floor: See :func:`attention_mask`.
        before_normalisation: Whether the image is multiplied in [0, 1], so that masked pixels are
            black; otherwise they get the mean of the normalisation, grey.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.
        ValueError: An option is out of range.

    Source:
        B. Zi et al., "WildDeepfake: a challenging real-world dataset for deepfake detection",
        ACM MM 2020 (ADDNet-2D).
    """

    name, title = "addnet", "AddNet"
    citation = "Zi et al., ACM MM 2020"
    needs = frozenset({"landmarks"})
    reads = ("landmarks",)
    unsettled = "drawing of the mask, head"
    unexported = "AddNet reads landmarks, which tokd detect does not find"

    def __init__(
        self,
        backbone: str = "xception",
        pretrained: bool | str = True,
        sigma: float = 0.02,
        organs: float = 1.0,
        floor: float = 0.0,
        before_normalisation: bool = False,
    ) -> None:
        if not (sigma > 0 and organs >= 0 and 0 <= floor <= 1):
            raise ValueError("sigma must be above 0, organs not negative, floor within [0, 1]")
        options = {"sigma": sigma, "organs": organs, "floor": floor}
        super().__init__(
            pretrained, backbone=backbone, **options, before_normalisation=before_normalisation
        )
        self.drawing = options
        self.before_normalisation = before_normalisation
        self.backbone = build_backbone(backbone, pretrained)
        self.classifier = nn.Linear(self.backbone.channels[-1], 2)
        self.taps = self._places()

    def _places(self) -> set[str]:
        stages = [[name for name, _ in stage.named_children()] for stage in self.backbone.stages]
        there = {name for stage in stages for name in stage}
        if there >= set(_TAPS):
            return set(_TAPS)
        ends = zip(stages, self.backbone.strides, strict=True)
        early = {stages[0][self.backbone.early - 1]} if self.backbone.early else set()
        return early | {stage[-1] for stage, stride in ends if stride in _BODY}

    def forward(
        self, image: Tensor, landmarks: Tensor | None = None, **extras: Tensor
    ) -> DetectorOutput:
        """Classify normalised images.

        Args:
            image: ``(B, 3, H, W)``.
            landmarks: 68 points of each, ``(B, 68, 2)`` in pixels; not finite for faces without.
            **extras: Not used.

        Raises:
            TokdError: There are no landmarks.
        """
        if landmarks is None and not image.is_meta:
            raise TokdError("AddNet needs landmarks, and these data have none: tokd landmarks DIR")
        if landmarks is None:
            return self.masked(image, image.new_empty(len(image), 1, *image.shape[-2:]))
        mask = attention_mask(landmarks, image.shape[-1], **self.drawing)
        return self.masked(image, mask.to(image))

    def masked(self, image: Tensor, mask: Tensor) -> DetectorOutput:
        """Classify images with a given mask, ``(B, 1, H, W)``."""
        if self.before_normalisation:
            x = ((image * self.std + self.mean) * mask - self.mean) / self.std
        else:
            x = image * mask
        maps: dict[int, Tensor] = {}
        keeps_early = self.backbone.early and self.backbone.finest == 4
        for number, (stage, stride) in enumerate(
            zip(self.backbone.stages, self.backbone.strides, strict=True)
        ):
            for position, (name, module) in enumerate(stage.named_children(), start=1):
                x = module(x)
                if name in self.taps:
                    x = x * nn.functional.adaptive_avg_pool2d(mask, x.shape[-2:]).to(x.dtype)
                if number == 0 and position == self.backbone.early and keeps_early:
                    maps[4] = x
            maps[stride] = x
        output = self.classify(maps)
        return output._replace(auxiliary={"mask": mask} if self.keeps() else {})

    def panels(self, output: DetectorOutput) -> dict[str, Tensor]:
        """Return the mask."""
        mask = output.auxiliary.get("mask")
        return {} if mask is None else {"attention mask": mask[:, 0]}
