"""Attention transfer (AT), Zagoruyko and Komodakis 2017: a column of Table 3."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.branched import Rotated
from tokd_lightning.distillation.distance import on_one_grid
from tokd_lightning.distillation.distiller import Branches
from tokd_lightning.distillation.map_distiller import BranchReduce, MapDistiller, refuse_rotation
from tokd_lightning.models.outputs import Shapes

MIN_NORM = 1e-8


def attention_map(maps: Tensor) -> Tensor:
    r"""Return :math:`Q = q / |q|_2` with :math:`q_{hw} = mean_c f_{chw}^2`, per sample.

    A sample with ``|q|`` below 1e-8 is divided by 1e-8 instead, which bounds its gradient.

    Args:
        maps: f, ``(B, C, H, W)``.

    Returns:
        ``(B, H * W)``.
    """
    energy = maps.square().mean(1).flatten(1)
    length: Tensor = torch.linalg.vector_norm(energy, dim=1, keepdim=True)
    return energy / length.clamp_min(MIN_NORM)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return the mean over batch and positions of :math:`(Q_s - Q_t)^2`.

    Q is :func:`attention_map`; the larger map is first average-pooled to the grid of the other. The
    numbers of channels may differ: a rotation of the channels has no effect.

    Args:
        student: ``(B, C, H, W)``; computed in at least float32.
        teacher: ``(B, C2, H2, W2)``.
    """
    ours, theirs = map(attention_map, on_one_grid(student, teacher))
    return (ours - theirs).square().mean()


class AttentionTransfer(MapDistiller):
    """Distils the spatial energy of the teacher's maps, see :func:`attention_transfer`.

    S. Zagoruyko, N. Komodakis, "Paying More Attention to Attention: Improving the Performance of
    Convolutional Neural Networks via Attention Transfer", ICLR 2017.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared.
        rotation: Only "none": the energy of a position is the same in every basis of channels.

    Raises:
        TokdError: The arguments do not fit the networks, or a rotation is requested.
    """

    method: ClassVar[str] = "at"
    citation: ClassVar[str] = "Zagoruyko & Komodakis, ICLR 2017"
    formula: ClassVar[str] = "mean (Q_s − Q_t)², Q = normalised mean_c f² over H, W"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 1000.0,
        branches: Branches = "both",
        branch_reduce: BranchReduce = "sum",
        taps: Sequence[int] = (8, 16, 32),
        rotation: Rotated = "none",
    ) -> None:
        refuse_rotation(
            rotation,
            "AttentionTransfer",
            "the energy that it compares is the same under every rotation of the channels, and "
            "one across positions would scramble where it looks",
        )
        super().__init__(student_shapes, teacher_shapes, weight, branches, branch_reduce, taps)
        self.share_map(self.shared_shape)

    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return :func:`attention_transfer` of both maps."""
        return attention_transfer(student, teacher)
