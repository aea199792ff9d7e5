"""The student S: backbone S_B and classifier G_Sc (Sec. 4.1)."""

from typing import Any

from torch import Tensor, nn

from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.outputs import Shapes, StudentOutput
from tokd_lightning.models.probe import map_shapes


class Student(nn.Module):
    """The student S (Sec. 4.1): backbone S_B, and classifier G_Sc = average pooling + linear.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.backbones.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.
        num_classes: Number of classes; class 1 is fake.
        size: Side of the images in pixels, for networks that are built for one size; None takes
            that of the network's own weights. CNNs ignore it.

    Attributes:
        spec: Arguments that rebuild the network (without downloading weights), for checkpoints.
        started_from: Its initial weights: True (timm's), False (random) or the path of a file.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.
    """

    def __init__(
        self,
        backbone: str = "resnet18_thin",
        pretrained: bool | str = False,
        num_classes: int = 2,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "backbone": backbone,
            "pretrained": False,
            "num_classes": num_classes,
        }
        self.started_from = pretrained
        self.backbone = build_backbone(backbone, pretrained, size=size, role="maps")
        self.spec |= self.backbone.built_for
        self.classifier = nn.Linear(self.backbone.channels[-1], num_classes)

    def forward(self, x: Tensor) -> StudentOutput:
        """Classify normalised images ``(B, 3, H, W)``."""
        maps = self.backbone(x)
        return StudentOutput(self.classifier(maps[32].mean(dim=(2, 3))), maps)

    def shapes(self, size: int) -> Shapes:
        """Return stride -> ``(C, H, W)`` of the maps for images of ``size`` x ``size`` pixels."""
        return map_shapes(self.backbone, size)
