"""Probabilistic knowledge transfer (PKT), Passalis and Tefas 2018: a column of Table 3."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.branched import Rotated
from tokd_lightning.distillation.distance import unit_rows, widened
from tokd_lightning.distillation.distiller import Branches
from tokd_lightning.distillation.gather import gathered
from tokd_lightning.distillation.map_distiller import BranchReduce, MapDistiller, refuse_rotation
from tokd_lightning.models.outputs import Shapes

EPSILON = 1e-7


def neighbours(vectors: Tensor) -> Tensor:
    r"""Return P, each sample's distribution over the batch: :math:`(\cos_{ij} + 1) / 2`, rows to 1.

    Args:
        vectors: ``(B, C)``.

    Returns:
        ``(B, B)``.
    """
    units = unit_rows(vectors, EPSILON)
    kernel = (units @ units.T + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return the mean over all pairs of :math:`P_t \log((P_t + \epsilon) / (P_s + \epsilon))`.

    P is :func:`neighbours`, epsilon 1e-7. The loss depends on the batch as a whole; the numbers of
    channels may differ, and a rotation of the channels has no effect.

    Args:
        student: Vectors ``(B, C)``, or maps ``(B, C, H, W)``, which are averaged over positions;
            computed in at least float32.
        teacher: ``(B, C2)`` or ``(B, C2, H2, W2)``.
    """
    student, teacher = (pooled(f) for f in widened(student, teacher))
    with torch.autocast(student.device.type, enabled=False):
        ours, theirs = neighbours(student), neighbours(teacher)
        return (theirs * ((theirs + EPSILON) / (ours + EPSILON)).log()).mean()


def pooled(features: Tensor) -> Tensor:
    """Return vectors ``(B, C)``: maps averaged over positions; vectors are returned unchanged."""
    return features.mean((2, 3)) if features.dim() == 4 else features


class PKT(MapDistiller):
    """Distils the similarities between samples, by cosines of the pooled maps, see :func:`pkt`.

    N. Passalis, A. Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer",
    ECCV 2018.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared.
        gather: Compare the batch of all ranks, not each rank's part of it.
        rotation: Only "none": cosines are the same in every basis of channels.

    Raises:
        TokdError: The arguments do not fit the networks, or a rotation is requested.
    """

    method: ClassVar[str] = "pkt"
    citation: ClassVar[str] = "Passalis & Tefas, ECCV 2018"
    formula: ClassVar[str] = "mean P_t log(P_t / P_s), P = cosines in the batch as probabilities"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 30000.0,
        branches: Branches = "both",
        branch_reduce: BranchReduce = "sum",
        taps: Sequence[int] = (32,),
        gather: bool = False,
        rotation: Rotated = "none",
    ) -> None:
        refuse_rotation(
            rotation,
            "PKT",
            "the cosines of pooled maps that it compares are the same under every rotation of the "
            "channels, and one across positions would scramble what is pooled",
        )
        super().__init__(student_shapes, teacher_shapes, weight, branches, branch_reduce, taps)
        self.gather = gather
        self.share_map(self.shared_shape)

    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return :func:`pkt` of both maps, pooled."""
        student, teacher = pooled(student), pooled(teacher)
        if self.gather:
            student, teacher = gathered(student), gathered(teacher)
        return pkt(student, teacher)
