"""The student without a teacher: the first column of Table 3."""

from typing import ClassVar

from torch import Tensor

from tokd_lightning.distillation.distiller import Distiller
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput


class Vanilla(Distiller):
    """Cross-entropy only, Eq. 9.

    Args:
        student_shapes: Not used; every distiller is built from both networks' shapes.
        teacher_shapes: Not used; may be empty.
    """

    method: ClassVar[str] = "vanilla"
    citation: ClassVar[str] = "no distillation"
    formula: ClassVar[str] = "CE alone"
    needs_teacher: ClassVar[bool] = False

    def __init__(self, student_shapes: Shapes, teacher_shapes: Shapes) -> None:
        super().__init__()

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the student's logits; see :meth:`Distiller.forward`."""
        return {"ce": self.cross_entropy(student.logits, labels)}
