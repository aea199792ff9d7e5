"""Outputs of a tiny student and teacher, and a TOKD that fits them."""

from typing import Any

import torch
from torch import Tensor, nn

from tokd_lightning.distillation import TOKD
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

STUDENT: Shapes = {16: (4, 6, 6), 32: (6, 3, 3)}
TEACHER: Shapes = {32: (8, 3, 3)}
SMALL: dict[str, Any] = {"width": 5, "dim": 12}


def teacher_output(
    batch: int = 6, channels: int = 8, grid: int = 3, dtype: torch.dtype = torch.float64
):
    torch.manual_seed(10)
    rgb, frequency = torch.randn(2, batch, channels, grid, grid, dtype=dtype).relu()
    return TeacherOutput(torch.zeros(batch, 2, dtype=dtype), {32: rgb}, {32: frequency})


class TinyStudent(nn.Module):
    """A convolution for S_B and a linear layer for G_Sc."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 6, 1)
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> StudentOutput:
        z = self.backbone(x)
        return StudentOutput(self.linear(z.mean((2, 3))), {32: z})


LABELS = torch.tensor([0, 1, 1, 0, 1, 0])


def made(seed: int = 2, **options: Any) -> TOKD:
    torch.manual_seed(seed)
    return TOKD(STUDENT, TEACHER, **{**SMALL, "teacher_projectors": "frozen", **options}).double()


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
