"""Shapes and counts of a network, from a copy without data; the network is not modified."""

import copy
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from tokd_lightning.models.outputs import Shapes


def meta_copy(network: nn.Module) -> nn.Module:
    """Copy a network to the meta device in eval mode, without copying any weights.

    Args:
        network: Any network; its weights, buffers, mode, hooks and RNG are not modified.

    Returns:
        A copy that computes only shapes.
    """
    memo: dict[int, object] = {}
    with torch.no_grad():
        for tensor in chain(network.parameters(), network.buffers()):
            meta = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = (
                nn.Parameter(meta, tensor.requires_grad)
                if isinstance(tensor, nn.Parameter)
                else meta
            )
    return copy.deepcopy(network, memo).eval()


@torch.no_grad()
def map_shapes(backbone: nn.Module, size: int) -> Shapes:
    """Return the shapes of a backbone's maps for images of ``size`` x ``size`` pixels.

    Args:
        backbone: Module from images to stride -> map; not modified. It is not run if it knows them.
        size: Side of the images in pixels.

    Returns:
        Stride -> ``(C, H, W)``.
    """
    if known := getattr(backbone, "known_shapes", None):
        return cast(Shapes, known(size))
    dtype = next(backbone.parameters()).dtype
    images = torch.empty(1, 3, size, size, dtype=dtype, device="meta")
    maps: dict[int, Tensor] = meta_copy(backbone)(images)
    return {stride: (m.shape[1], m.shape[2], m.shape[3]) for stride, m in maps.items()}
