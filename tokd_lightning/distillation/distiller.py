"""Common interface of all distillation methods: from two networks' outputs to losses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

if TYPE_CHECKING:
    from tokd_lightning.distillation.rotation import Rotation

Branch = Literal["rgb", "frequency"]
Branches = Literal["rgb", "frequency", "both"]
BRANCHES: tuple[Branch, Branch] = ("rgb", "frequency")


class Distiller(nn.Module, ABC):
    """A method of distilling the dual-branch teacher into the single-branch student.

    A distiller is built as ``distiller(student_shapes, teacher_shapes)``; all its other arguments
    have defaults. A subclass needs at least ``__init__`` and :meth:`forward`. It owns the
    parameters that only training needs: those with ``requires_grad`` belong to the student's
    optimizer, the rotations (without it) to a ``RotationOptimizer``. Its forward draws no random
    numbers and changes no map in place.

    Attributes:
        method: Name of the method in run names.
        citation: Authors and venue.
        formula: Its loss in one line.
        needs_teacher: Whether ``forward`` needs the teacher's output.
        taps: Strides of the compared maps; empty if only logits are compared.
        branches: Branches of the teacher that are distilled; "none" if their maps are not used.
        weights: Branch -> weight of its loss in L_S (alpha_1 and alpha_2 of Eq. 10), all above 0.
        rotation: Rotation of the student's map per branch (Eq. 11, 12); None without one.
        class_weights: Class weights ``(K,)`` of the cross-entropy; None weights all equally.
    """

    method: ClassVar[str]
    citation: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    needs_teacher: ClassVar[bool] = True
    taps: tuple[int, ...] = ()
    branches: Branches | Literal["none"]
    weights: Mapping[str, float]
    rotation: "Rotation | None"
    class_weights: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.branches = "none"
        self.weights = {}
        self.rotation = None
        self._last: dict[str, Tensor] = {}
        self.register_buffer("class_weights", None, persistent=False)

    @abstractmethod
    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the named, weighted losses whose sum is L_S (Eq. 10).

        Args:
            student: Logits ``(B, K)`` and maps of the student.
            teacher: Logits and maps of the teacher, without gradient; None if not needed.
            labels: Class numbers, int64 ``(B,)``, 1 is fake.

        Returns:
            Scalars, including ``"ce"``.
        """

    @property
    def reads(self) -> tuple[str, ...]:
        """Branches whose maps ``forward`` reads and which a teacher must have."""
        return tuple(self.weights)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy (Eq. 9), in at least float32 under any autocast.

        Args:
            logits: Class scores, ``(B, K)``.
            labels: Class numbers, int64 ``(B,)``.
        """
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = None if self.class_weights is None else self.class_weights.to(wide)
        return functional.cross_entropy(wide, labels, weights)

    def load_teacher_projectors(self, state: Mapping[str, Tensor] | None) -> None:
        """Load the projectors trained with the teacher, if the method uses them.

        Args:
            state: State dict of a ``TeacherProjectors``; None if the teacher has none.

        Raises:
            TokdError: The method needs them, and they are missing or do not fit.
        """
        return

    def take_gradients(self) -> dict[str, Tensor] | None:
        """Return and clear each branch's gradient at the shared map since the last call.

        Returns:
            Branch -> v^k of Eq. 15, including the weight of its loss, ``(N, C * H * W)``, the
            micro-batches concatenated; None if the method records no gradients or a backward pass
            did not reach both branches.
        """
        return None

    def gradient_diagnostics(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return detached scalars computed from :meth:`take_gradients`'s result (Fig. 4)."""
        return {}

    def diagnostics(self) -> dict[str, Tensor]:
        """Return detached scalars of the last forward; each method documents its own."""
        return dict(self._last)


def shape_at(shapes: Shapes, stride: int, whose: str) -> tuple[int, int, int]:
    """Return the ``(C, H, W)`` of a network's map at one stride.

    Args:
        shapes: Stride -> shape.
        stride: The requested stride.
        whose: The network's name in the error, "student" or "teacher".

    Raises:
        TokdError: The network has no map there.
    """
    if stride not in shapes:
        raise TokdError(
            f"the {whose} has no feature map at stride {stride} (it has {sorted(shapes)}): "
            f"choose a backbone that goes down to stride {stride}"
        )
    return shapes[stride]
