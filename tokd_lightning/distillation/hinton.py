"""Knowledge distillation of logits (KD), Hinton et al. 2015: a column of Table 3."""

import math
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from tokd_lightning.distillation.branched import Rotated
from tokd_lightning.distillation.distance import widened
from tokd_lightning.distillation.distiller import Distiller
from tokd_lightning.distillation.map_distiller import refuse_rotation
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput


def hinton(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Return :math:`T^2\, KL(softmax(z_t / T) \,\|\, softmax(z_s / T))`, mean over the batch.

    The factor T^2 keeps the scale of the gradients as T changes. Each sample's gradient sums to
    zero over the classes.

    Args:
        student: Logits z_s, ``(B, K)``; computed in at least float32.
        teacher: Logits z_t, ``(B, K)``.
        temperature: T, above 0.
    """
    student, teacher = widened(student, teacher)
    ours, theirs = (functional.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    divergence = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


class Hinton(Distiller):
    """Distils the teacher's logits: ``L_S = ce_weight CE + weight KD``.

    The teacher has one pair of logits for both branches, so this is one column of Table 3.

    G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", NIPS Deep
    Learning Workshop 2014, arXiv:1503.02531, 2015.

    Args:
        student_shapes: Not used; every distiller is built from both networks' shapes.
        teacher_shapes: Not used.
        weight: Weight of the distillation loss, above 0.
        ce_weight: Weight of the cross-entropy, not negative.
        temperature: T, above 0.
        rotation: Only "none": logits have no branches.

    Raises:
        TokdError: A weight, the temperature or the rotation is invalid.
    """

    method: ClassVar[str] = "hinton"
    citation: ClassVar[str] = "Hinton et al., NIPS Workshop 2014"
    formula: ClassVar[str] = "0.1 CE + 0.9 T² KL(softmax(z_t/T) ‖ softmax(z_s/T)), T = 4"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        weight: float = 0.9,
        ce_weight: float = 0.1,
        temperature: float = 4.0,
        rotation: Rotated = "none",
    ) -> None:
        super().__init__()
        refuse_rotation(
            rotation, "Hinton", "it compares logits, which both branches of the teacher share"
        )
        finite = all(map(math.isfinite, (weight, ce_weight, temperature)))
        if not finite or weight <= 0 or ce_weight < 0 or temperature <= 0:
            raise TokdError(
                "Hinton takes finite weight and temperature above 0 and a ce_weight that is not "
                f"negative, got {weight}, {temperature} and {ce_weight}"
            )
        self.weight, self.ce_weight, self.temperature = weight, ce_weight, temperature

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return both terms, "ce" and "kd", weighted; see :meth:`Distiller.forward`.

        Diagnostics: ``distance_logits``, the unweighted divergence.

        Raises:
            ValueError: ``teacher`` is None.
        """
        if teacher is None:
            raise ValueError("Hinton needs the teacher's output")
        distance = hinton(student.logits, teacher.logits.detach(), self.temperature)
        self._last = {"distance_logits": distance.detach()}
        ce = self.cross_entropy(student.logits, labels)
        return {"ce": self.ce_weight * ce, "kd": self.weight * distance}
