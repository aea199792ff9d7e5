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


def activation_bytes(network: nn.Module, size: int) -> int:
    """Return the bytes per image that a training step keeps for its backward pass.

    Counted on the meta device: the distinct tensors saved by autograd in train mode, without the
    parameters, for one more image in the batch.

    Args:
        network: Module from images; not modified.
        size: Side of the images in pixels.
    """
    copy = meta_copy(network).train()
    return _saved(copy, size, 3) - _saved(copy, size, 2)


def _saved(network: nn.Module, size: int, count: int) -> int:
    parameters = {part.untyped_storage()._cdata for part in network.parameters()}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []  # storages of freed tensors could get the same address

    def note(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in parameters and key not in seen:
            kept.append(tensor)
            seen[key] = tensor.untyped_storage().nbytes()
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, unpack):
        output = network(torch.empty(count, 3, size, size, device="meta"))
    del output
    return sum(seen.values())
