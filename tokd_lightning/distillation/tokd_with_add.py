"""TOKD with ADD's losses as a third task in addition to its two branches."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from tokd_lightning.distillation.add import ADD
from tokd_lightning.distillation.distiller import Branches, Distiller
from tokd_lightning.distillation.tokd import TOKD
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput


class TOKDWithADD(TOKD):
    """``L_S`` of TOKD (Eq. 10) plus ADD's two losses.

    ADD reads the student's maps without rotation. Its gradient reaches the backbone in addition to
    those of the two branches: it is not part of v^r and v^f (Eq. 15), and does not affect the
    rotations' updates.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        add: Factory of ADD, given the same shapes; it has its own ``branches``, by default "rgb".
        branches: TOKD's branches.
        options: TOKD's other arguments.

    Raises:
        TokdError: As TOKD and ADD.
        ValueError: As TOKD and ADD.
    """

    method: ClassVar[str] = "tokdwithadd"
    citation: ClassVar[str] = "Eq. 10, with Le and Woo, AAAI 2022"
    formula: ClassVar[str] = "TOKD + Σ_l w_l L_FR + 16 Σ_l w'_l L_MV"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        add: Callable[[Shapes, Shapes], Distiller] = ADD,
        branches: Branches = "both",
        **options: Any,
    ) -> None:
        super().__init__(student_shapes, teacher_shapes, branches=branches, **options)
        third = add(student_shapes, teacher_shapes)
        if not isinstance(third, ADD):
            raise ValueError(f"add must make an ADD, not a {type(third).__name__}")
        self.add = third
        self.taps = tuple(sorted({*self.taps, *third.taps}))

    @property
    def reads(self) -> tuple[str, ...]:
        """Branches that TOKD or ADD reads."""
        return tuple(dict.fromkeys((*super().reads, *self.add.reads)))

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return TOKD's three losses and ADD's two; see their forwards."""
        return super().forward(student, teacher, labels) | self.add.distances(
            student, teacher, labels
        )

    def diagnostics(self) -> dict[str, Tensor]:
        """Return the diagnostics of both."""
        return super().diagnostics() | self.add.diagnostics()
