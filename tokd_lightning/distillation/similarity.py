"""Similarity-preserving distillation (SP), Tung and Mori 2019: a column of Table 3."""

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


def similarities(maps: Tensor) -> Tensor:
    r"""Return :math:`G = f f^\top` of the flattened maps, each row divided by its L2 norm.

    Args:
        maps: ``(B, ...)``.

    Returns:
        ``(B, B)``.
    """
    flat = maps.flatten(1)
    return unit_rows(flat @ flat.T)


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return :math:`\|G_t - G_s\|_F^2 / B^2`, G as in :func:`similarities`.

    The loss depends on the batch as a whole; channels and grids may differ, and a rotation of the
    flattened map has no effect.

    Args:
        student: ``(B, C, H, W)``; computed in at least float32.
        teacher: ``(B, C2, H2, W2)``.
    """
    student, teacher = widened(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        return (similarities(teacher) - similarities(student)).square().mean()


class SimilarityPreserving(MapDistiller):
    """Distils the similarities between samples' maps, see :func:`similarity_preserving`.

    F. Tung, G. Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared.
        gather: Compare the batch of all ranks, not each rank's part of it. Every rank then holds
            the maps of all ranks.
        rotation: Only "none": products of flattened maps are the same in every basis.

    Raises:
        TokdError: The arguments do not fit the networks, or a rotation is requested.
    """

    method: ClassVar[str] = "sp"
    citation: ClassVar[str] = "Tung & Mori, ICCV 2019"
    formula: ClassVar[str] = "‖G_t − G_s‖²_F / B², G = f fᵀ over the batch, rows at length 1"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 3000.0,
        branches: Branches = "both",
        branch_reduce: BranchReduce = "sum",
        taps: Sequence[int] = (32,),
        gather: bool = False,
        rotation: Rotated = "none",
    ) -> None:
        refuse_rotation(
            rotation,
            "SimilarityPreserving",
            "the products of flattened maps that it compares are the same under every rotation of "
            "the map, whatever its layout",
        )
        super().__init__(student_shapes, teacher_shapes, weight, branches, branch_reduce, taps)
        self.gather = gather
        self.share_map(self.shared_shape)

    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return :func:`similarity_preserving` of both maps."""
        if self.gather:
            student, teacher = gathered(student.flatten(1)), gathered(teacher.flatten(1))
        return similarity_preserving(student, teacher)
