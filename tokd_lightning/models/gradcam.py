"""Grad-CAM: the positions of a network's feature maps that indicate fake."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbone import STRIDES
from tokd_lightning.models.detectors import Detector
from tokd_lightning.models.rfam import RFAM
from tokd_lightning.models.sizes import Misfit
from tokd_lightning.models.stepped import SteppedBackbone
from tokd_lightning.models.student import Student
from tokd_lightning.models.tapped import TappedBackbone
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

    The maps of transformers are those that their blocks read, on the network's own grid.

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
        logits, of = _with_maps(network, images, extras or {}, set(strides) <= {32})
        if len(of.get("detector", ())) == 1:
            strides = [*of["detector"]]
        seen = [(branch, stride) for branch in of for stride in strides]
        for branch, stride in seen:
            if stride not in of[branch]:
                there = ", ".join(map(str, sorted(of[branch])))
                raise TokdError(f"the network has no map at stride {stride}: it has {there}")
        maps = [of[branch][stride] for branch, stride in seen]
        score = (logits[:, 1] - logits[:, 0]).sum()
        gradients = torch.autograd.grad(score, maps)
    heats = [
        Heat(*name, (gradient.mean(dim=(2, 3), keepdim=True) * at.detach()).sum(dim=1))
        for name, gradient, at in zip(seen, gradients, maps, strict=True)
    ]
    return logits.detach(), heats


def _with_maps(
    network: Student | DualBranchTeacher | Detector,
    images: Tensor,
    extras: Mapping[str, Tensor],
    only_last: bool,
) -> tuple[Tensor, dict[str, dict[int, Tensor]]]:
    """Return logits, and branch -> stride -> maps on which they depend."""
    if isinstance(network, Detector):
        found = network(images, **extras)
        of = {"rgb" if found.frequency else "detector": found.maps}
        return found.logits, of | ({"frequency": found.frequency} if found.frequency else {})
    branches = network.branches if isinstance(network, DualBranchTeacher) else ("student",)
    tapped = not only_last and any(isinstance(m, TappedBackbone) for m in network.modules())
    if tapped and len(branches) == 1:
        x = (
            cast(Any, network).high_pass(images).to(images.dtype)
            if branches == ("frequency",)
            else images
        )
        backbone = next(m for m in network.modules() if isinstance(m, TappedBackbone))
        maps = _stepped(backbone).written_maps(x)
        logits: Tensor = cast(Any, network.classifier)(maps[32].mean(dim=(2, 3)))
        return logits, {branches[0]: maps}
    with _weighted_maps(network) as weighted:
        output = network(images)
    if not isinstance(network, DualBranchTeacher):
        return output.logits, {"student": output.maps}
    of = {branch: dict(getattr(output, branch)) for branch in branches}
    for stride, pair in zip(STRIDES[:-1], weighted if tapped else (), strict=False):
        for branch, weighted_map in zip(branches, pair, strict=True):
            of[branch][stride] = weighted_map
    return output.logits, of


@contextmanager
def _weighted_maps(network: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect the pairs of maps that a network's RFAMs return."""
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        rfam.register_forward_hook(lambda module, args, output: seen.append(output))
        for rfam in network.modules()
        if isinstance(rfam, RFAM)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _stepped(backbone: TappedBackbone) -> SteppedBackbone:
    """Return a backbone that shares the network and stops between its blocks.

    Raises:
        TokdError: It cannot.
    """
    try:
        return SteppedBackbone(backbone.network, backbone.name, backbone.size, backbone.side)
    except Misfit as error:
        raise TokdError(
            f"{backbone.name}: take --strides 32, the only map with a gradient: {error}"
        ) from error
