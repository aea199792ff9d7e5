"""Two-in-one knowledge distillation (TOKD), Sec. 4: the paper's method."""

import logging
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.branched import (
    Branched,
    Rotated,
    Start,
    active_weights,
    check_choice,
)
from tokd_lightning.distillation.distance import (
    batch_variance,
    normalised,
    on_one_grid,
    squared_distance,
)
from tokd_lightning.distillation.distiller import Branch, Branches, shape_at
from tokd_lightning.distillation.gradients import Conflict
from tokd_lightning.distillation.projectors import Norm, TeacherProjectors, student_projector
from tokd_lightning.distillation.rotation import Layout, Target
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

TeacherProjectorMode = Literal["with_teacher", "frozen", "joint"]

STRIDE = 32

logger = logging.getLogger("tokd_lightning")


class TOKD(Branched):
    """Distils both branches of the teacher into one map of the student (Eq. 2-15).

    ``L_S = CE + alpha_rgb L_RGB + alpha_frequency L_Fre`` (Eq. 10), with the distances of Eq. 6 and
    7 between condensed maps at stride 32, each divided by its L2 norm per sample: squared L2, mean
    over the batch, 0 to 4. Where the grids differ, the larger condensed map is average-pooled.

    Args:
        student_shapes: Stride -> ``(C, H, W)`` of the student's maps.
        teacher_shapes: The same for each teacher branch.
        alpha_rgb: alpha_1; 10 on FF++, 200 on Celeb-DF. 0 drops the branch.
        alpha_frequency: alpha_2, likewise.
        branches: Branches to distil. With one branch there is no conflict: no rotation.
        projectors: G_S and G_T on "both" sides, or "none": S_B(x) and the teacher's maps are
            compared directly (rows of Table 6), which needs equal channels.
        teacher_projectors: How G_T is trained: "with_teacher", by an auxiliary classifier during
            the teacher's training, then frozen; "frozen", random; "joint", by L_S together with the
            student (the literal reading of Sec. 4.2, which can collapse). Frozen projectors stay in
            eval mode.
        width: Channels of the condensed maps.
        kernel: Odd kernel size of the projectors.
        norm: BN and ReLU after "each" convolution of a projector or only after its "last".
        rotation: "learned" (the paper), "frozen_random" (a control) or "none".
        layout: Entries rotated by R, see ``Rotation``.
        dim: d, the size of R.
        rotation_init: Initial value of a learned R.
        rotation_target: g_n of Eq. 15, see ``Rotation``.
        conflict: "pcgrad" removes from each branch's gradient at S_B(x) its part against the other
            one (a control), see ``project_conflict``; "none" adds them unchanged.
        seed: Seed of random rotations; None uses ``torch.initial_seed()``.

    Raises:
        TokdError: The arguments do not fit each other or the networks.
        ValueError: An argument is not one of its choices.
    """

    method: ClassVar[str] = "tokd"
    citation: ClassVar[str] = "this paper"
    formula: ClassVar[str] = "|F_S/|F_S| − F_T/|F_T||², F = condensed maps, rotated by R_k"
    taps: tuple[int, ...] = (STRIDE,)

    def __init__(
        self,
        student_shapes: Shapes,
        teacher_shapes: Shapes,
        *,
        alpha_rgb: float = 10.0,
        alpha_frequency: float = 10.0,
        branches: Branches = "both",
        projectors: Literal["both", "none"] = "both",
        teacher_projectors: TeacherProjectorMode = "with_teacher",
        width: int = 256,
        kernel: int = 1,
        norm: Norm = "each",
        rotation: Rotated = "learned",
        layout: Layout = "flat_prefix",
        dim: int = 1024,
        rotation_init: Start = "identity",
        rotation_target: Target = "mean",
        conflict: Conflict = "none",
        seed: int | None = None,
    ) -> None:
        alphas: dict[Branch, float] = {"rgb": alpha_rgb, "frequency": alpha_frequency}
        active = active_weights(alphas, branches, "alpha")
        super().__init__(active)
        for name, value, choices in (
            ("projectors", projectors, ("both", "none")),
            ("teacher_projectors", teacher_projectors, get_args(TeacherProjectorMode)),
            ("norm", norm, get_args(Norm)),
        ):
            check_choice(name, value, choices)
        self.teacher_projectors = teacher_projectors

        shape = shape_at(student_shapes, STRIDE, "student")
        teacher_channels = shape_at(teacher_shapes, STRIDE, "teacher")[0]
        self.project = nn.ModuleDict()
        self.teacher_project: TeacherProjectors | None = None
        if projectors == "both":
            for branch in active:
                self.project[branch] = student_projector(branch, shape[0], width, kernel, norm)
            self.teacher_project = TeacherProjectors(
                teacher_channels, width, kernel, norm, tuple(active)
            )
            self.teacher_project.requires_grad_(teacher_projectors == "joint")
        elif shape[0] != teacher_channels:
            raise TokdError(
                f"projectors: none compares the maps directly, but the student has {shape[0]} "
                f"channels and the teacher {teacher_channels}: set projectors: both"
            )
        self._calibrated = False

        self.share_map(shape, rotation, layout, dim, rotation_init, rotation_target, conflict, seed)
        self.train()

    def train(self, mode: bool = True) -> "TOKD":
        """Set the mode, but keep frozen teacher projectors in eval mode."""
        super().train(mode)
        if self.teacher_project is not None and self.teacher_projectors != "joint":
            self.teacher_project.eval()
        return self

    def get_extra_state(self) -> Tensor:
        """Return whether the statistics of frozen projectors are set, for the state dict."""
        return torch.tensor(self._calibrated)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the value of :meth:`get_extra_state`."""
        self._calibrated = bool(state)

    def load_teacher_projectors(self, state: Mapping[str, Tensor] | None) -> None:
        """Load G_T trained with the teacher; other values of ``teacher_projectors`` need no state.

        Args:
            state: State dict of a ``TeacherProjectors``; None if the teacher has none.

        Raises:
            TokdError: The state is missing or has other shapes.
        """
        if self.teacher_project is None or self.teacher_projectors != "with_teacher":
            return
        if state is not None:
            state = {k: v for k, v in state.items() if k.split(".")[0] in self.weights}
        if state is None or self.teacher_project.misfits(state):
            spec = self.teacher_project.spec
            raise TokdError(
                f"this teacher was trained without projectors of width {spec['width']}, kernel "
                f"{spec['kernel']}, norm {spec['norm']} on {spec['channels']} channels: give the "
                "distiller those that the teacher has, train the teacher again with these, or set "
                "teacher_projectors: frozen"
            )
        self.teacher_project.load_state_dict(state)
        self._calibrated = True

    def forward(
        self, student: StudentOutput, teacher: TeacherOutput | None, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the three terms of Eq. 10, "ce" and, weighted, "rgb" and "frequency".

        Diagnostics: ``distance_<branch>``, the unweighted loss (0 to 4), and
        ``variance_{student,teacher}_<branch>``, the batch variance of the normalised condensed maps
        summed over their entries (0: all images equal, 1: nothing in common).

        Args:
            student: Logits ``(B, K)`` and maps; S_B(x) is the map at stride 32.
            teacher: Maps of both branches at stride 32; they are detached.
            labels: Class numbers, int64 ``(B,)``.

        Raises:
            ValueError: ``teacher`` is None.
        """
        if teacher is None:
            raise ValueError("TOKD needs the teacher's output")
        wanted = self._condensed_teacher(teacher)
        losses = {"ce": self.cross_entropy(student.logits, labels)}
        self._last = {}
        for branch, m in self.branch_maps(student.maps[STRIDE]).items():
            condensed = self.project[branch](m) if len(self.project) else m
            with torch.autocast(m.device.type, enabled=False):
                ours, theirs = map(normalised, on_one_grid(condensed, wanted[branch]))
                distance = squared_distance(ours, theirs)
            losses[branch] = self.weights[branch] * distance
            self._last[f"distance_{branch}"] = distance.detach()
            self._last[f"variance_student_{branch}"] = batch_variance(ours)
            self._last[f"variance_teacher_{branch}"] = batch_variance(theirs)
        return losses

    def _condensed_teacher(self, teacher: TeacherOutput) -> dict[str, Tensor]:
        """Return F_Tr and F_Tf (Eq. 4, 5) of the distilled branches."""
        maps = {branch: getattr(teacher, branch)[STRIDE].detach() for branch in self.weights}
        if self.teacher_project is None:
            return maps
        frozen = self.teacher_projectors != "joint"
        if self.training and frozen and not self._calibrated:
            if self.teacher_projectors == "with_teacher":
                logger.warning(
                    "no teacher projectors were loaded: random ones take their place, as with "
                    "teacher_projectors: frozen"
                )
            self.teacher_project.calibrate(*maps.values())
            self._calibrated = True
        return {b: self.teacher_project.get_submodule(b)(maps[b]) for b in self.weights}
