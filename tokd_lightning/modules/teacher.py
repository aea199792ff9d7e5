"""Training of the teacher, Sec. 3."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.projectors import AuxiliaryClassifier, TeacherProjectors
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.objectives import Objectives, normalise_head
from tokd_lightning.models.rebuild import drawn_from
from tokd_lightning.modules.detection import (
    DetectionModule,
    LRSchedulerCallable,
    OptimizerCallable,
)
from tokd_lightning.modules.partial import HEADER


class TeacherModule(DetectionModule):
    """Trains a teacher of one or two branches and, separately, its projectors (Eq. 4, 5).

    The projectors, G_Tr and G_Tf or the one of a single branch, learn from an auxiliary classifier
    on the condensed maps. No gradient flows back from it to the teacher, which is the network of
    Sec. 3 with or without them, and Table 1 does not count them. TOKD loads them from the
    checkpoint with ``teacher_projectors: with_teacher``.

    Args:
        optimizer: As in :class:`DetectionModule`.
        lr_scheduler: As in :class:`DetectionModule`.
        backbone: Network of each branch, ``xception`` or any name of timm.
        pretrained: Start from ImageNet weights: True through timm, or the path of a weight file.
        cutoff: Legs of the triangle that the high-pass zeroes, Eq. 1.
        rfam: Body of the RGB-frequency attention modules, Fig. 1.
        branches: "both" (the paper), or a single branch, see :class:`DualBranchTeacher`.
        projectors: Whether to train G_Tr and G_Tf too.
        width: Channels of the condensed maps.
        kernel: Kernel of the projectors' convolutions.
        norm: Where the projectors have BN and ReLU, see :class:`TeacherProjectors`.
        label_smoothing: Of the cross-entropy, see
            :class:`~tokd_lightning.models.objectives.Objectives`.
        normalised_head: Whether the classifier reads features of unit length, see
            :class:`~tokd_lightning.models.objectives.NormalisedLinear`.
        alignment: Weight of :func:`~tokd_lightning.models.objectives.alignment`, on the features
            that the classifier reads.
        uniformity: Weight of :func:`~tokd_lightning.models.objectives.uniformity`, on the same.
        size: Side of the images in pixels, for networks that are built for one size; the command
            line passes that of the data.
        **training: Other arguments of :class:`DetectionModule`. ``compile`` does not apply to
            projectors and auxiliary classifier.
    """

    kind = "teacher"

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable,
        backbone: str = "xception",
        pretrained: bool | str = True,
        cutoff: float = 0.33,
        rfam: Literal["spatial", "elementwise", "none"] = "spatial",
        branches: Literal["both", "rgb", "frequency"] = "both",
        projectors: bool = True,
        width: int = 256,
        kernel: int = 1,
        norm: Literal["each", "last"] = "each",
        label_smoothing: float = 0.0,
        normalised_head: bool = False,
        alignment: float = 0.0,
        uniformity: float = 0.0,
        size: int | None = None,
        **training: Any,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, **training)
        self.objectives = Objectives(label_smoothing, alignment, uniformity)
        self.objectives.check()
        with drawn_from(self.seed):
            self.teacher = DualBranchTeacher(
                backbone, pretrained, cutoff, rfam, branches=branches, size=size
            )
            if normalised_head:
                normalise_head(self.teacher)
            self.projectors: TeacherProjectors | None = None
            self.auxiliary: AuxiliaryClassifier | None = None
            if projectors:
                channels, there = self.teacher.backbones()[0].channels[-1], self.teacher.branches
                self.projectors = TeacherProjectors(channels, width, kernel, norm, there)
                self.auxiliary = AuxiliaryClassifier(width, branches=len(there))
        self.to(memory_format=torch.channels_last)
        self.hold_frozen()

    @property
    def network(self) -> nn.Module:
        """The teacher."""
        return self.teacher

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the teacher's cross-entropy (Eq. 9) plus that of the auxiliary classifier."""
        output = self.teacher(batch["image"])
        smoothing = self.objectives.label_smoothing
        loss = self.cross_entropy(output.logits, batch["label"], smoothing)
        if self.objectives.read_features:
            further = self.objectives.on_features(self.teacher.features(output), batch["label"])
            self.log_dict({f"train/{name}": value.detach() for name, value in further.items()})
            loss = loss + torch.stack(list(further.values())).sum()
        self.log_training(loss, output.logits, batch)
        if self.projectors is not None and self.auxiliary is not None:
            last = [getattr(output, branch)[32].detach() for branch in self.teacher.branches]
            condensed = self.projectors(*last)
            auxiliary = self.cross_entropy(self.auxiliary(*condensed), batch["label"])
            self.log("train/auxiliary", auxiliary.detach())
            loss = loss + auxiliary
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the projectors' arguments to the header."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[HEADER]["projectors"] = None if self.projectors is None else self.projectors.spec
