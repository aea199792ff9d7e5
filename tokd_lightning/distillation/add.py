"""Attention-based Deepfake detection Distiller (ADD), Le and Woo 2022."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.branched import active_weights
from tokd_lightning.distillation.distance import on_one_grid
from tokd_lightning.distillation.distiller import Branches, Distiller, shape_at
from tokd_lightning.distillation.frequency_attention import Transform, frequency_attention
from tokd_lightning.distillation.multi_view import draw_directions, multi_view
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

STAGES = (4, 8, 16, 32)

Stages = tuple[float, float, float, float]


class ADD(Distiller):
    r"""Distils from a teacher of better image quality by frequency and multi-view attention.

    .. math:: L = CE + \sum_l w_l L_{FR} + \lambda \sum_l w'_l (\gamma' L_{hist} + \eta L_{con})

    over four stages, the maps at strides 4, 8, 16 and 32; see :func:`frequency_attention` and
    :func:`multi_view`. The teacher sees the frame in a better quality than the student
    (``teacher_quality`` of the data module). Stages of weight 0 are not computed. If the grids
    differ, the larger map is average-pooled; if the channels differ, a 1x1 convolution without
    bias, learned with the student, maps the student's channels to the teacher's.

    Binh M. Le and Simon S. Woo, "ADD: Frequency Attention and Multi-View based Knowledge
    Distillation to Detect Low-Quality Compressed Deepfake Images", AAAI 2022. The defaults are the
    published configuration for ResNet50.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        branches: Branches to distil; ADD's teacher has only "rgb". The losses of "both" are added.
        frequency_weights: w, by stage, not negative.
        view_weights: w', by stage, not negative.
        gamma: Steepness of the frequency weight; 0 leaves C times the mean squared error.
        transform: "fft" or "dct", see :func:`frequency_attention`.
        relative: Weight frequencies relative to their mean, see the same function.
        views: Number of directions, drawn again in every step.
        multi_view_weight: lambda.
        histogram_weight: gamma' (the paper writes gamma here too).
        contrastive_weight: eta; 0 leaves the contrastive part out.
        margin: Delta of the contrastive part.
        seed: Seed of the directions; None uses ``torch.initial_seed()``.

    Raises:
        TokdError: A weight is negative or all are 0, or a network has no map at a stage.
        ValueError: An argument is not one of its choices.
    """

    method: ClassVar[str] = "add"
    citation: ClassVar[str] = "Le and Woo, AAAI 2022"
    formula: ClassVar[str] = "CE + Σ_l w_l L_FR + 16 Σ_l w'_l (100 ‖h_S - h_T‖² + 50 L_con)"

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        branches: Branches = "rgb",
        frequency_weights: Stages = (0.0, 1.0, 2.0, 0.25),
        view_weights: Stages = (0.0, 0.5, 2.5, 2.0),
        gamma: float = 1.0,
        transform: Transform = "fft",
        relative: bool = False,
        views: int = 12,
        multi_view_weight: float = 16.0,
        histogram_weight: float = 100.0,
        contrastive_weight: float = 50.0,
        margin: float = 0.012,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        active = active_weights({"rgb": 1.0, "frequency": 1.0}, branches)
        self.weights = {str(branch): weight for branch, weight in active.items()}
        self.branches = branches
        self.frequency_weights = _by_stage(frequency_weights, 1.0)
        self.view_weights = _by_stage(view_weights, multi_view_weight)
        others = (gamma, histogram_weight, contrastive_weight, margin)
        if not all(0 <= value < math.inf for value in others) or views < 1:
            raise TokdError(
                "ADD takes at least one view, and a gamma, weights and a margin that are finite "
                f"and not negative, got views {views} and {others}"
            )
        self.taps = tuple(t for t in STAGES if t in {*self.frequency_weights, *self.view_weights})
        if not self.taps:
            raise TokdError("all of ADD's weights are 0: use the distiller Vanilla")
        self.gamma, self.transform, self.relative = gamma, transform, relative
        self.views, self.margin = views, margin
        self.histogram_weight, self.contrastive_weight = histogram_weight, contrastive_weight
        self.seed = torch.initial_seed() % 2**62 if seed is None else seed
        self.step = 0
        self.adapters = nn.ModuleDict({branch: nn.ModuleDict() for branch in self.weights})
        for tap in self.taps:
            ours, theirs = (
                shape_at(shapes, tap, whose)[0]
                for shapes, whose in ((student_shapes, "student"), (teacher_shapes, "teacher"))
            )
            for adapters in self.adapters.children():
                same = ours == theirs
                adapter = nn.Identity() if same else nn.Conv2d(ours, theirs, 1, bias=False)
                adapters.add_module(str(tap), adapter)

    def get_extra_state(self) -> Tensor:
        """Return the number of steps that have drawn directions, for the state dict."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the value of :meth:`get_extra_state`."""
        self.step = int(state)

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return "ce" and, weighted, "frequency_attention" and "multi_view".

        Diagnostics, unweighted: ``frequency_attention``, ``histogram`` and ``contrastive``, each
        followed by ``_<branch>_<stride>``.

        Args:
            student: Logits ``(B, K)`` and maps of the student.
            teacher: Maps of the teacher; they are detached.
            labels: Class numbers, int64 ``(B,)``.

        Raises:
            ValueError: ``teacher`` is None.
        """
        losses = {"ce": self.cross_entropy(student.logits, labels)}
        return losses | self.distances(student, teacher, labels)

    def distances(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return what :meth:`forward` does without the cross-entropy."""
        if teacher is None:
            raise ValueError("ADD needs the teacher's output")
        directions = draw_directions(self.views, self.seed, self.step)
        self.step += self.training
        self._last = {}
        parts: dict[str, list[Tensor]] = {"frequency_attention": [], "multi_view": []}
        for branch in self.weights:
            for tap in self.taps:
                theirs: Tensor = getattr(teacher, branch)[tap].detach()
                with torch.autocast(theirs.device.type, enabled=False):
                    ours, theirs = on_one_grid(student.maps[tap], theirs)
                    ours = self.adapters.get_submodule(f"{branch}.{tap}")(ours)
                name = f"{branch}_{tap}"
                if tap in self.frequency_weights:
                    loss = frequency_attention(
                        ours, theirs, self.gamma, self.transform, self.relative
                    )
                    parts["frequency_attention"].append(self.frequency_weights[tap] * loss)
                    self._last[f"frequency_attention_{name}"] = loss.detach()
                if tap in self.view_weights:
                    histogram, contrastive = multi_view(
                        ours, theirs, labels, directions, self.margin, self.contrastive_weight > 0
                    )
                    loss = self.histogram_weight * histogram + self.contrastive_weight * contrastive
                    parts["multi_view"].append(self.view_weights[tap] * loss)
                    self._last[f"histogram_{name}"] = histogram.detach()
                    self._last[f"contrastive_{name}"] = contrastive.detach()
        return {name: torch.stack(values).sum() for name, values in parts.items() if values}


def _by_stage(weights: Stages, factor: float) -> Mapping[int, float]:
    """Return stride -> weight for the stages whose weight is not 0."""
    valid = all(0 <= value < math.inf for value in (*weights, factor))
    if len(weights) != len(STAGES) or not valid:
        raise TokdError(
            f"ADD takes one finite weight for each of four stages, none negative, got "
            f"{list(weights)} and the factor {factor:g}"
        )
    return {t: factor * w for t, w in zip(STAGES, weights, strict=True) if factor * w > 0}
