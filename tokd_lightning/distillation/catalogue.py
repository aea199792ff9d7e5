"""Table of all methods: ``tokd methods``."""

import torch
from rich.console import Console
from rich.table import Table

from tokd_lightning.distillation.add import ADD
from tokd_lightning.distillation.attention_transfer import AttentionTransfer
from tokd_lightning.distillation.distiller import Distiller
from tokd_lightning.distillation.fitnet import FitNet
from tokd_lightning.distillation.hinton import Hinton
from tokd_lightning.distillation.probabilistic import PKT
from tokd_lightning.distillation.similarity import SimilarityPreserving
from tokd_lightning.distillation.tokd import TOKD
from tokd_lightning.distillation.tokd_with_add import TOKDWithADD
from tokd_lightning.distillation.vanilla import Vanilla
from tokd_lightning.distillation.variational import VID
from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.outputs import Shapes
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.terminal import keep_words

METHODS: tuple[type[Distiller], ...] = (
    Vanilla,
    Hinton,
    AttentionTransfer,
    PKT,
    VID,
    SimilarityPreserving,
    FitNet,
    ADD,
    TOKD,
    TOKDWithADD,
)


def print_methods(
    student: str = "resnet18_thin", teacher: str = "xception", size: int = 299
) -> None:
    """Print a table of all methods: source, loss, taps, weight and extra parameters.

    "Extra" counts the parameters trained in addition to the student, with the method's defaults:
    heads, variances, projectors and rotations. None of them is exported.

    Args:
        student: Backbone of the student.
        teacher: Backbone of the teacher's branches.
        size: Side of the images in pixels.

    Raises:
        TokdError: A backbone does not exist.
    """
    shapes = [_shapes(name, size) for name in (student, teacher)]
    table = Table(title=f"{student} distilled from {teacher} at {size} px")
    for column in ("method", "source", "loss", "taps", "weight", "extra (M)"):
        table.add_column(
            column,
            justify="right" if column in ("weight", "extra (M)") else "left",
            no_wrap=column == "method",
            overflow="fold",
        )
    for method in METHODS:
        distiller = _made(method, *shapes)
        table.add_row(
            method.__name__,
            method.citation,
            method.formula,
            ", ".join(map(str, distiller.taps)) or "–",
            ", ".join(f"{w:g}" for w in sorted(set(distiller.weights.values()))) or "–",
            f"{extra_parameters(distiller) / 1e6:.3f}",
        )
    console = Console()
    console.print(keep_words(table, console))


def extra_parameters(distiller: Distiller) -> int:
    """Return the number of parameters trained in addition to the student, rotations included."""
    trained = sum(p.numel() for p in distiller.parameters() if p.requires_grad)
    rotation = distiller.rotation
    if rotation is not None and rotation.learned:
        trained += sum(matrix.numel() for matrix in rotation.matrices().values())
    return trained


def _shapes(backbone: str, size: int) -> Shapes:
    try:
        with torch.device("meta"):
            return map_shapes(build_backbone(backbone, size=size, role="maps"), size)
    except (RuntimeError, ValueError) as error:
        raise TokdError(f"images of {size} px are too small for {backbone}") from error


def _made(method: type[Distiller], student: Shapes, teacher: Shapes) -> Distiller:
    make: type = method  # all methods share this interface: two shapes
    distiller: Distiller = make(student, teacher)
    return distiller
