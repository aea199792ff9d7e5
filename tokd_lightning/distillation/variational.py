"""Variational information distillation (VID), Ahn et al. 2019: a column of Table 3."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.distillation.branched import Rotated, Start
from tokd_lightning.distillation.distance import on_one_grid
from tokd_lightning.distillation.distiller import Branches
from tokd_lightning.distillation.gradients import Conflict
from tokd_lightning.distillation.map_distiller import BranchReduce, MapDistiller
from tokd_lightning.distillation.rotation import Layout, Target
from tokd_lightning.models.outputs import Shapes

FIRST_VARIANCE = 5.0
LEAST_VARIANCE = 1e-5


def variational(mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    r"""Return the mean over all entries of :math:`\frac12 ((\mu - t)^2 / \sigma^2 + \ln \sigma^2)`.

    Up to a constant, the negative logarithm of a Gaussian: an upper bound on the information about
    the teacher's map that the student's lacks. Its minimum, where mean and target agree, is the
    mean of ln(variance) / 2.

    Args:
        mean: The prediction from the student's map, ``(B, C, H, W)``.
        target: The teacher's map, ``(B, C, H, W)``.
        variance: Variance per channel, ``(C,)``, above 0.
    """
    variance = variance[:, None, None]
    return ((mean - target).square() / variance + variance.log()).mean() / 2


class VariationalHead(nn.Module):
    """Predicts the teacher's map from the student's, with a variance per channel.

    The mean is computed by 1x1 convolutions without bias, with ReLU between them, of the width of
    the teacher's map. The variance is ``softplus(spread) + 1e-5``, initially 5.

    Args:
        channels: Channels of the student's map.
        target_channels: Channels of the teacher's map.
    """

    def __init__(self, channels: int, target_channels: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(channels, target_channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(target_channels, target_channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(target_channels, target_channels, 1, bias=False),
        )
        start = math.log(math.expm1(FIRST_VARIANCE - LEAST_VARIANCE))
        self.spread = nn.Parameter(torch.full((target_channels,), start))

    def variance(self) -> Tensor:
        """Return the variance per channel, ``(C,)``."""
        return functional.softplus(self.spread) + LEAST_VARIANCE

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return :func:`variational`; the larger map is average-pooled first.

        Args:
            student: ``(B, C, H, W)``.
            teacher: ``(B, C2, H2, W2)``.
        """
        ours, theirs = on_one_grid(student, teacher)
        return variational(self.mean(ours), theirs, self.variance())


class VID(MapDistiller):
    """Distils the information in the student's maps about the teacher's, see :func:`variational`.

    S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence, Z. Dai, "Variational Information Distillation for
    Knowledge Transfer", CVPR 2019.

    A rotation is applied between the deepest tap and that tap's heads; other taps are not rotated.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared.
        rotation: "learned" (Eq. 11-16), "frozen_random" (a control) or "none" (Table 3).
        layout: Entries rotated by R, see ``Rotation``.
        dim: d, the size of R.
        rotation_init: Initial value of a learned R.
        rotation_target: g_n of Eq. 15, see ``Rotation``.
        conflict: "pcgrad" projects the branches' gradients at the deepest tap, see
            ``project_conflict``; "none" adds them unchanged.
        seed: Seed of random rotations; None uses ``torch.initial_seed()``.

    Raises:
        TokdError: The arguments do not fit each other or the networks.
        ValueError: An argument is not one of its choices.
    """

    method: ClassVar[str] = "vid"
    citation: ClassVar[str] = "Ahn et al., CVPR 2019"
    formula: ClassVar[str] = "mean ½((μ(z) − t)² / σ² + ln σ²), σ² learned per channel"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 1.0,
        branches: Branches = "both",
        branch_reduce: BranchReduce = "sum",
        taps: Sequence[int] = (16, 32),
        rotation: Rotated = "none",
        layout: Layout = "flat_prefix",
        dim: int = 1024,
        rotation_init: Start = "identity",
        rotation_target: Target = "mean",
        conflict: Conflict = "none",
        seed: int | None = None,
    ) -> None:
        head = VariationalHead
        super().__init__(
            student_shapes, teacher_shapes, weight, branches, branch_reduce, taps, head
        )
        shape = self.shared_shape
        self.share_map(shape, rotation, layout, dim, rotation_init, rotation_target, conflict, seed)

    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return the head's loss."""
        loss: Tensor = head(student, teacher)
        return loss
