"""Student and teacher outputs of given shapes, and each method with what it takes."""

import torch

from tokd_lightning.distillation import (
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    FitNet,
    Hinton,
    SimilarityPreserving,
    Vanilla,
)
from tokd_lightning.models.outputs import StudentOutput, TeacherOutput

MAPS = (AttentionTransfer, PKT, VID, SimilarityPreserving, FitNet)
ROTATED = (FitNet, VID, TOKD)
UNROTATED = (AttentionTransfer, PKT, SimilarityPreserving, Hinton)
EVERY = (Vanilla, Hinton, *MAPS, TOKD)

STUDENT = {8: (2, 5, 5), 16: (3, 4, 4), 32: (4, 2, 2)}
TEACHER = {8: (3, 4, 4), 16: (3, 4, 4), 32: (2, 3, 3)}
LABELS = torch.tensor([0, 1, 1, 0])


def maps_of(shapes, batch=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        stride: torch.randn(batch, *shape, generator=generator, dtype=dtype)
        for stride, shape in shapes.items()
    }


def student_output(shapes=STUDENT, batch=4, dtype=torch.float64):
    """Return an output whose logits and maps are leaves."""
    maps = maps_of(shapes, batch, dtype, seed=1)
    logits = torch.linspace(-1, 1, 2 * batch, dtype=dtype).reshape(batch, 2)
    leaves = {stride: m.requires_grad_() for stride, m in maps.items()}
    return StudentOutput(logits.requires_grad_(), leaves)


def teacher_output(shapes=TEACHER, batch=4, dtype=torch.float64, grad=False):
    rgb, frequency = (maps_of(shapes, batch, dtype, seed) for seed in (2, 3))
    logits = torch.linspace(2, -1, 2 * batch, dtype=dtype).reshape(batch, 2)
    for tensor in (logits, *rgb.values(), *frequency.values()):
        tensor.requires_grad_(grad)
    return TeacherOutput(logits, rgb, frequency)


def made(method, student=STUDENT, teacher=TEACHER, **options):
    torch.manual_seed(5)
    if method is TOKD:
        options = {"width": 4, "dim": 8, "teacher_projectors": "frozen", **options}
    return method(student, teacher, **options).double()


def total(losses):
    return torch.stack(list(losses.values())).sum()
