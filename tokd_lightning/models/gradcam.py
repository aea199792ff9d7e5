"""Grad-CAM: the positions of a network's feature maps that indicate fake."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import Detector
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher


class Heat(NamedTuple):
    """Grad-CAM on one map.

    Attributes:
        branch: ``student`` or ``detector``, or the ``rgb`` or ``frequency`` of one with branches.
        stride: Stride of the map.
        values: The weighted sum before the ReLU, ``(B, h, w)``: positive values are evidence for
            fake, and are Grad-CAM for fake; negative ones for real, and their negative is Grad-CAM
            for real.
    """

    branch: str
    stride: int
    values: Tensor


def grad_cam(
    network: Student | DualBranchTeacher | Detector,
    x: Tensor,
    strides: Sequence[int] = (32,),
    extras: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, list[Heat]]:
    r"""Compute Grad-CAM: weight the channels of a map by the score's gradient.

    .. math:: L = \sum_c \alpha_c A_c, \quad
        \alpha_c = \frac{1}{hw} \sum_{yx} \frac{\partial s}{\partial A_{cyx}}, \quad
        s = l^{fake} - l^{real}

    P(fake) is the sigmoid of the score s: a softmax over two classes ignores what both logits
    share, while the gradient of one logit would include it. On the last map of a student, before
    average pooling and a linear layer, L is the class activation map divided by hw.

    Args:
        network: The student or detector, or the teacher with a map per branch; in ``eval()``.
        x: Normalised images, ``(B, 3, H, W)``.
        strides: Strides of the maps: 8, 16 or 32. The teacher's maps are those after its RFAMs; a
            detector with a single map, such as Multi-task with that at 16, has that one.
        extras: Further arguments of a detector's ``forward``.

    Returns:
        Logits ``(B, 2)``, and the maps of every branch, in the order of ``strides``.

    Raises:
        TokdError: The network has no map at a stride.

    Source:
        R. R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based
        localization", ICCV 2017.
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = x.clone().requires_grad_()  # so that frozen networks have a graph
        output = network(images, **(extras or {}))
        if isinstance(network, DualBranchTeacher):
            of = {branch: getattr(output, branch) for branch in network.branches}
        elif isinstance(network, Detector):
            of = {"rgb" if output.frequency else "detector": output.maps}
            of |= {"frequency": output.frequency} if output.frequency else {}
            strides = [*output.maps] if len(output.maps) == 1 else strides
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
