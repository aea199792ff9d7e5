"""The teacher T (Sec. 3) with two branches, or with one for comparison."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tokd_lightning.frequency import HighPass
from tokd_lightning.models.backbones import Backbone, Role, build_backbone
from tokd_lightning.models.outputs import Shapes, TeacherOutput
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.models.rfam import RFAM, Attention

Branches = Literal["both", "rgb", "frequency"]
"""Branches of a teacher."""


class DualBranchTeacher(nn.Module):
    """The teacher T (Sec. 3): T_r reads the image, T_f its high frequencies, RFAMs couple them.

    Two equal backbones run side by side. After each coupled stage an RFAM weights both maps, and
    the weighted maps continue: in Xception after block3 (end of the entry flow), block11 (middle
    flow) and act4 (exit flow), in others at strides 8, 16 and 32; in a plain transformer after a
    third, two thirds and all of its blocks, whose prefix tokens are left unchanged. The last two
    maps are concatenated, averaged over space and classified by one linear layer.

    With ``branches`` "rgb" or "frequency" the teacher has only that branch, on x or x^F: one
    backbone and the linear layer, without an RFAM. ADD's teacher and those of ablations are of
    this kind.

    Args:
        backbone: Name for :func:`~tokd_lightning.models.backbones.build_backbone`.
        pretrained: ImageNet weights of each branch: True, False or a path.
        cutoff: Legs of the triangle zeroed by the filter of Eq. 1, in ``[0, 2]``.
        rfam: Body of the RFAMs, see :class:`~tokd_lightning.models.rfam.RFAM`.
        num_classes: Number of classes; class 1 is fake.
        branches: "both", or the single branch.
        size: Side of the images in pixels, for networks that are built for one size; None takes
            that of the network's own weights. CNNs ignore it.

    Attributes:
        spec: Arguments that rebuild the network (without downloading weights), for checkpoints.
        started_from: Its initial weights: True (timm's), False (random) or the path of a file.
        branches: Names of its branches, "rgb" before "frequency"; each is also an attribute that
            holds its backbone.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.
        ValueError: ``cutoff``, ``rfam`` or ``branches`` out of range.
    """

    rgb: Backbone
    frequency: Backbone

    def __init__(
        self,
        backbone: str = "xception",
        pretrained: bool | str = True,
        cutoff: float = 0.33,
        rfam: Attention = "spatial",
        num_classes: int = 2,
        branches: Branches = "both",
        size: int | None = None,
    ) -> None:
        super().__init__()
        if branches not in get_args(Branches):
            raise ValueError(f"branches {branches!r} is not one of {get_args(Branches)}")
        self.spec: dict[str, Any] = {
            "backbone": backbone,
            "pretrained": False,
            "cutoff": cutoff,
            "rfam": rfam,
            "num_classes": num_classes,
            "branches": branches,
        }
        self.started_from = pretrained
        self.branches = ("rgb", "frequency") if branches == "both" else (branches,)
        self.high_pass = HighPass(cutoff)
        for branch in self.branches:
            role: Role = "steps" if branches == "both" else "maps"
            self.add_module(branch, build_backbone(backbone, pretrained, branch, size, role))
        first = self.backbones()[0]
        self.spec |= first.built_for
        self.rfams = nn.ModuleDict()
        if branches == "both":
            for index, channels in enumerate(first.channels):
                if first.coupled[index]:
                    self.rfams[str(index)] = RFAM(channels, rfam)
        self.classifier = nn.Linear(len(self.branches) * first.channels[-1], num_classes)

    def backbones(self) -> list[Backbone]:
        """Return the backbones, T_r before T_f."""
        return [getattr(self, branch) for branch in self.branches]

    def forward(self, x: Tensor) -> TeacherOutput:
        """Classify normalised images ``(B, 3, H, W)``; x^F is computed here."""
        backbones = self.backbones()
        images = [x if b == "rgb" else self.high_pass(x).to(x.dtype) for b in self.branches]
        if not self.rfams:
            maps = [b(z) for b, z in zip(backbones, images, strict=True)]
        else:
            maps = self._coupled(backbones, images)
        logits = self.classifier(torch.cat([own[32] for own in maps], dim=1).mean(dim=(2, 3)))
        of = dict(zip(self.branches, maps, strict=True))
        return TeacherOutput(logits, of.get("rgb", {}), of.get("frequency", {}))

    def features(self, output: TeacherOutput) -> Tensor:
        """Return the features ``(B, C)`` that the classifier reads: means of the last maps."""
        of = {"rgb": output.rgb, "frequency": output.frequency}
        return torch.cat([of[branch][32] for branch in self.branches], dim=1).mean(dim=(2, 3))

    def _coupled(self, backbones: list[Backbone], images: list[Tensor]) -> list[dict[int, Tensor]]:
        """Run the branches side by side, with an RFAM after each coupled stage."""
        maps: list[dict[int, Tensor]] = [{} for _ in backbones]
        at = [b.begin(z) for b, z in zip(backbones, images, strict=True)]
        for index, stride in enumerate(backbones[0].strides):
            at = [b.advance(index, z, own) for b, z, own in zip(backbones, at, maps, strict=True)]
            if str(index) not in self.rfams:
                continue
            seen = [b.read(index, z) for b, z in zip(backbones, at, strict=True)]
            weighted = self.rfams[str(index)](*seen)
            for branch, (backbone, own) in enumerate(zip(backbones, maps, strict=True)):
                at[branch] = backbone.write(index, at[branch], weighted[branch])
                own[stride] = backbone.fit(weighted[branch], stride)
        for backbone, state, own in zip(backbones, at, maps, strict=True):
            own[32] = backbone.finish(state)
        return maps

    def shapes(self, size: int) -> Shapes:
        """Return stride -> ``(C, H, W)`` of each branch for ``size`` x ``size`` pixel images."""
        return map_shapes(self.backbones()[0], size)
