"""The dual-branch teacher T (Sec. 3)."""

from typing import Any

import torch
from torch import Tensor, nn

from tokd_lightning.frequency import HighPass
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.outputs import Shapes, TeacherOutput
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.models.rfam import RFAM, Attention


class DualBranchTeacher(nn.Module):
    """The teacher T (Sec. 3): T_r sees the image, T_f its high frequencies, RFAMs couple them.

    Two equal backbones run side by side. After each coupled stage an RFAM weighs both maps, and
    the weighted maps go on: in Xception after block3 (end of the entry flow), block11 (middle
    flow) and act4 (exit flow), in others at strides 8, 16 and 32. The last two maps are
    concatenated, averaged over space and classified by one linear layer.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.backbones.build_backbone`.
        pretrained: ImageNet weights of both branches: True, False or a path.
        cutoff: Legs of the triangle that the filter of Eq. 1 zeroes, in ``[0, 2]``.
        rfam: Body of the RFAMs, see :class:`~tokd_lightning.models.rfam.RFAM`.
        num_classes: Number of classes; class 1 is fake.

    Attributes:
        spec: Arguments that rebuild the network (without downloading weights), for checkpoints.

    Raises:
        TokdError: The backbone is unknown or unfit, or its weights cannot be had.
        ValueError: ``cutoff`` or ``rfam`` out of range.
    """

    def __init__(
        self,
        backbone: str = "xception",
        pretrained: bool | str = True,
        cutoff: float = 0.33,
        rfam: Attention = "spatial",
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "backbone": backbone,
            "pretrained": False,
            "cutoff": cutoff,
            "rfam": rfam,
            "num_classes": num_classes,
        }
        self.high_pass = HighPass(cutoff)
        self.rgb = build_backbone(backbone, pretrained)
        self.frequency = build_backbone(backbone, pretrained)
        self.rfams = nn.ModuleDict(
            {
                str(index): RFAM(channels, rfam)
                for index, channels in enumerate(self.rgb.channels)
                if self.rgb.coupled[index]
            }
        )
        self.classifier = nn.Linear(2 * self.rgb.channels[-1], num_classes)

    def forward(self, x: Tensor) -> TeacherOutput:
        """Classify normalised images ``(B, 3, H, W)``; x^F is made here."""
        rgb, frequency = x, self.high_pass(x).to(x.dtype)
        rgb_maps: dict[int, Tensor] = {}
        frequency_maps: dict[int, Tensor] = {}
        for index, stride in enumerate(self.rgb.strides):
            rgb = self.rgb.stages[index](rgb)
            frequency = self.frequency.stages[index](frequency)
            if self.rgb.coupled[index]:
                rgb, frequency = self.rfams[str(index)](rgb, frequency)
            rgb_maps[stride], frequency_maps[stride] = rgb, frequency
        pooled = torch.cat([rgb, frequency], dim=1).mean(dim=(2, 3))
        return TeacherOutput(self.classifier(pooled), rgb_maps, frequency_maps)

    def shapes(self, size: int) -> Shapes:
        """Return stride -> ``(C, H, W)`` of either branch for ``size`` x ``size`` pixel images."""
        return map_shapes(self.rgb, size)
