"""Hints (FitNet), Romero et al. 2015: a column of Table 3."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from tokd_lightning.distillation.branched import Rotated, Start, check_choice
from tokd_lightning.distillation.distance import on_one_grid
from tokd_lightning.distillation.distiller import Branches
from tokd_lightning.distillation.gradients import Conflict
from tokd_lightning.distillation.map_distiller import BranchReduce, MapDistiller
from tokd_lightning.distillation.rotation import Layout, Target
from tokd_lightning.models.outputs import Shapes

Rectify = Literal["auto", "always", "never"]


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over all entries of the squared difference; the larger map is pooled first.

    Args:
        student: The regressor's output for the student's map, ``(B, C, H, W)``; computed in at
            least float32.
        teacher: ``(B, C, H2, W2)``.
    """
    return functional.mse_loss(*on_one_grid(student, teacher))


class Regressor(nn.Module):
    """Predicts the teacher's map from the student's: 1x1 convolution, BN, optional ReLU.

    With ``rectify: auto`` the first teacher map decides whether ReLU follows: it does if no entry
    on any rank is negative. The decision is part of the state.

    Args:
        channels: Channels of the student's map.
        target_channels: Channels of the teacher's map.
        rectify: Whether ReLU follows: "auto", "always" or "never".
    """

    def __init__(self, channels: int, target_channels: int, rectify: Rectify = "auto") -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, target_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(target_channels)
        self.rectified = None if rectify == "auto" else rectify == "always"

    def get_extra_state(self) -> Tensor:
        """Return whether ReLU follows: 1, 0, or -1 while undecided, for the state dict."""
        return torch.tensor(-1 if self.rectified is None else int(self.rectified))

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the value of :meth:`get_extra_state`."""
        self.rectified = None if state < 0 else bool(state)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the prediction, ``(B, C2, H, W)``.

        Args:
            student: ``(B, C, H, W)``.
            teacher: The predicted map, ``(B, C2, H2, W2)``.
        """
        if self.rectified is None:
            self.rectified = not _negative_anywhere(teacher)
        predicted: Tensor = self.norm(self.convolution(student))
        return predicted.relu() if self.rectified else predicted


def _negative_anywhere(maps: Tensor) -> bool:
    negative = (maps < 0).any().to(torch.uint8)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(negative, distributed.ReduceOp.MAX)
    return bool(negative)


class FitNet(MapDistiller):
    """Distils the teacher's maps as hints: the student's map must predict them, see :func:`hint`.

    A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta, Y. Bengio, "FitNets: Hints for Thin
    Deep Nets", ICLR 2015. There the hint is a first stage of training; here, as in Table 3, it is
    added to the cross-entropy throughout.

    Where the grids differ, the larger map is average-pooled before the regressor. A rotation is
    applied between the deepest tap and that tap's regressors; other taps are not rotated.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared.
        rectify: Whether ReLU ends the regressors: "auto" if the teacher's map has no negative
            entries (ResNets; for Xception only at stride 32), "always" or "never".
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

    method: ClassVar[str] = "fitnet"
    citation: ClassVar[str] = "Romero et al., ICLR 2015"
    formula: ClassVar[str] = "mean (r(z) − t)², r = convolution and BN"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 100.0,
        branches: Branches = "both",
        branch_reduce: BranchReduce = "sum",
        taps: Sequence[int] = (16,),
        rectify: Rectify = "auto",
        rotation: Rotated = "none",
        layout: Layout = "flat_prefix",
        dim: int = 1024,
        rotation_init: Start = "identity",
        rotation_target: Target = "mean",
        conflict: Conflict = "none",
        seed: int | None = None,
    ) -> None:
        check_choice("rectify", rectify, get_args(Rectify))
        head = partial(Regressor, rectify=rectify)
        super().__init__(
            student_shapes, teacher_shapes, weight, branches, branch_reduce, taps, head
        )
        shape = self.shared_shape
        self.share_map(shape, rotation, layout, dim, rotation_init, rotation_target, conflict, seed)

    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return :func:`hint` of the head's prediction."""
        ours, theirs = on_one_grid(student, teacher)
        return hint(head(ours, theirs), theirs)
