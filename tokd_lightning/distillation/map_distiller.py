"""Methods that compare the student's maps with each branch's, stride by stride (Table 3)."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.branched import (
    Branched,
    Rotated,
    active_weights,
    check_choice,
)
from tokd_lightning.distillation.distance import widened
from tokd_lightning.distillation.distiller import Branches, shape_at
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

BranchReduce = Literal["sum", "mean"]


class MapDistiller(Branched):
    """``L_S = CE + weight * sum over branches and taps`` of a loss between two maps.

    A method is one file: a function for its loss, :meth:`compare` that calls it and, if the loss
    has parameters, a head. Heads are separate per branch and tap; they are trained by the student's
    optimizer and kept in its checkpoint, but are not part of the student. All of it is computed in
    at least float32 with autocast off; the teacher's maps are detached.

    The branches share the deepest tap: that map is rotated, in methods that support it, and there
    their gradients are recorded. Shallower taps are used unchanged.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        weight: Weight of the loss of each branch, above 0.
        branches: Branches of the teacher that are distilled.
        branch_reduce: Whether the losses of "both" branches are added, or averaged ("mean").
        taps: Strides at which maps are compared, each at most once. Their losses are added.
        head: Factory of the head of one branch at one tap, given the channels of the student's and
            of the teacher's map; None if the loss has no parameters.

    Raises:
        TokdError: The arguments do not fit the networks.
        ValueError: An argument is not one of its choices.
    """

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        weight: float,
        branches: Branches,
        branch_reduce: BranchReduce,
        taps: Sequence[int],
        head: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        check_choice("branch_reduce", branch_reduce, get_args(BranchReduce))
        shared = weight / 2 if (branches, branch_reduce) == ("both", "mean") else weight
        super().__init__(active_weights({"rgb": shared, "frequency": shared}, branches))
        self.taps = tuple(sorted(set(taps)))
        if not taps or len(self.taps) < len(taps):
            raise TokdError(f"taps must name strides, each once, got {list(taps)}")
        ours = {tap: shape_at(student_shapes, tap, "student") for tap in self.taps}
        theirs = {tap: shape_at(teacher_shapes, tap, "teacher") for tap in self.taps}
        self.shared_shape = ours[self.taps[-1]]
        self.heads = nn.ModuleDict({branch: nn.ModuleDict() for branch in self.weights})
        for branch, tap in product(self.weights, self.taps):
            made = nn.Identity() if head is None else head(ours[tap][0], theirs[tap][0])
            self.heads.get_submodule(branch).add_module(str(tap), made)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, head: nn.Module) -> Tensor:
        """Return the unweighted loss of one branch at one tap.

        Args:
            student: The student's map, ``(B, C, H, W)``, at least float32.
            teacher: The branch's map, ``(B, C2, H2, W2)``, at least float32, detached.
            head: The head of this branch and tap.
        """

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return "ce" and, weighted, the loss of each branch, "rgb" and "frequency".

        Args:
            student: Logits ``(B, K)`` and maps of the student.
            teacher: Maps of both branches; they are detached.
            labels: Class numbers, int64 ``(B,)``.

        Raises:
            ValueError: ``teacher`` is None.
        """
        if teacher is None:
            raise ValueError(f"{type(self).__name__} needs the teacher's output")
        wanted = {"rgb": teacher.rgb, "frequency": teacher.frequency}
        deepest = self.taps[-1]
        losses = {"ce": self.cross_entropy(student.logits, labels)}
        self._last = {}
        for branch, view in self.branch_maps(student.maps[deepest]).items():
            maps = {**student.maps, deepest: view}
            loss = self._distance(maps, wanted[branch], self.heads.get_submodule(branch))
            losses[branch] = self.weights[branch] * loss
            self._last[f"distance_{branch}"] = loss.detach()
        return losses

    def _distance(
        self, ours: Mapping[int, Tensor], theirs: Mapping[int, Tensor], heads: nn.Module
    ) -> Tensor:
        device = ours[self.taps[-1]].device.type
        with torch.autocast(device, enabled=False):
            parts = [
                self.compare(
                    *widened(ours[tap], theirs[tap].detach()), heads.get_submodule(str(tap))
                )
                for tap in self.taps
            ]
            return torch.stack(parts).sum()


def refuse_rotation(rotation: Rotated, method: str, why: str) -> None:
    """Check that no rotation is requested where it would have no effect.

    Args:
        rotation: The requested rotation.
        method: The method's name.
        why: What the rotation does not change, for the error message.

    Raises:
        TokdError: ``rotation`` is not "none".
    """
    check_choice("rotation", rotation, get_args(Rotated))
    if rotation != "none":
        raise TokdError(
            f"{method} cannot take rotation: {rotation}, because {why}: set rotation: none, or "
            "take FitNet, VID or TOKD"
        )
