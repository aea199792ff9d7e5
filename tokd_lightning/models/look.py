"""Maps for pictures of a network: the attention of its RFAMs, the energy of its feature maps."""

import torch
from torch import Tensor

from tokd_lightning.models.outputs import TeacherOutput
from tokd_lightning.models.rfam import RFAM
from tokd_lightning.models.teacher import DualBranchTeacher


@torch.no_grad()
def attention_maps(
    teacher: DualBranchTeacher, x: Tensor
) -> tuple[TeacherOutput, list[tuple[Tensor, Tensor]]]:
    """Run a teacher and return the maps by which its RFAMs multiply the branches (Fig. 1).

    Hooks read the maps during this call only: forward pass and state dict remain unchanged.

    Args:
        teacher: The teacher T, in train or eval mode as it should run.
        x: Normalised images, ``(B, 3, H, W)``.

    Returns:
        Its output, and for each RFAM in order the maps for T_r and for T_f, ``(B, h, w)`` in
        (0, 1): the mean over channels for ``elementwise``, no maps for ``none``.
    """
    seen: list[Tensor] = []
    rfams = [module for module in teacher.rfams.values() if isinstance(module, RFAM)]
    hooks = [
        rfam.body.register_forward_hook(lambda module, args, output: seen.append(output))
        for rfam in rfams
        if rfam.body is not None
    ]
    try:
        output: TeacherOutput = teacher(x)
    finally:
        for hook in hooks:
            hook.remove()
    halves = [attention.chunk(2, dim=1) for attention in seen]
    return output, [(r.mean(dim=1), f.mean(dim=1)) for r, f in halves]


def energy(feature_map: Tensor) -> Tensor:
    """Return the mean over channels of the squares of a map ``(B, C, h, w)``, as AT does."""
    return feature_map.float().square().mean(dim=1)
