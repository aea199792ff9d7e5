"""Grad-CAM: which places of a network's maps speak for fake."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tokd_lightning.errors import TokdError
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher


class Heat(NamedTuple):
    """Grad-CAM on one map.

    Attributes:
        branch: ``student``, or the teacher's ``rgb`` or ``frequency``.
        stride: Of the map.
        values: The weighted sum before the ReLU, ``(B, h, w)``: above 0 it speaks for fake and is
            Grad-CAM for fake; below 0 for real, and its negative is Grad-CAM for real.
    """

    branch: str
    stride: int
    values: Tensor


def grad_cam(
    network: Student | DualBranchTeacher, x: Tensor, strides: Sequence[int] = (32,)
) -> tuple[Tensor, list[Heat]]:
    r"""Weigh the channels of a map with what the score gains by them, Grad-CAM.

    .. math:: L = \sum_c \alpha_c A_c, \quad
        \alpha_c = \frac{1}{hw} \sum_{yx} \frac{\partial s}{\partial A_{cyx}}, \quad
        s = l^{fake} - l^{real}

    The score s is what P(fake) is the sigmoid of: a softmax over two classes does not see what both
    logits share, and the gradient of one alone would hold it. On the last map of a student, before
    average pooling and a linear layer, L is the class activation map divided by hw.

    Args:
        network: The student, or the teacher, of which every branch has its own map; in ``eval()``.
        x: Normalised images, ``(B, 3, H, W)``.
        strides: Of the maps: 8, 16 or 32. The teacher's are those after its RFAMs.

    Returns:
        Logits ``(B, 2)``, and the maps of every branch, in the order of ``strides``.

    Raises:
        TokdError: There is no map at a stride.

    Source:
        R. R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based
        localization", ICCV 2017.
    """
    with torch.inference_mode(False), torch.enable_grad():
        output = network(x.clone().requires_grad_())  # where no weight wants a gradient, this does
        if isinstance(network, DualBranchTeacher):
            of = {branch: getattr(output, branch) for branch in network.branches}
        else:
            of = {"student": output.maps}
        seen = [(branch, stride) for branch in of for stride in strides]
        for branch, stride in seen:
            if stride not in of[branch]:
                there = ", ".join(map(str, sorted(of[branch])))
                raise TokdError(f"the network has no map at stride {stride}: it has {there}")
        maps = [of[branch][stride] for branch, stride in seen]
        score = (output.logits[:, 1] - output.logits[:, 0]).sum()
        gradients = torch.autograd.grad(score, maps)
    heats = [
        Heat(*name, (gradient.mean(dim=(2, 3), keepdim=True) * at.detach()).sum(dim=1))
        for name, gradient, at in zip(seen, gradients, maps, strict=True)
    ]
    return output.logits.detach(), heats
