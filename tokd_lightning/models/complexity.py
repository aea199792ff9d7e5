"""Parameters and multiply-accumulates as Table 1 counts them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokd_lightning.frequency import HighPass
from tokd_lightning.models.probe import meta_copy

# Two for each element of the input: a batch norm's scale and shift, and twice the elements that a
# ReLU or a pooling reads. ptflops, which counts these modules and the functions they call, gives
# the four figures of Table 1 this way.
_TWICE_PER_ELEMENT = (
    *("native_batch_norm", "_native_batch_norm_legit_no_training"),
    *("relu", "relu_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "_prelu_kernel"),
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
)


class Complexity(NamedTuple):
    """Size of a network (Table 1).

    Attributes:
        parameters: Number of parameters, including frozen ones.
        macs: Multiply-accumulates for one image.
    """

    parameters: int
    macs: int


@torch.no_grad()
def complexity(network: nn.Module, size: int) -> Complexity:
    """Count parameters and MACs as Table 1 does.

    Convolutions, linear layers and matrix products (attention included) count by PyTorch's own
    formulas, whichever module or function computes them; their biases do not count. Batch norms,
    ReLUs and poolings count two per element: the paper does not say what it counted, and this gives
    its figures. Everything else is left out, including other normalisations and activations and the
    transform of Eq. 1.

    Fixed transforms of detectors (phase, DCT) are left out too: on the meta device they return
    tensors of the right shape without computing.

    Args:
        network: Module from images ``(B, 3, size, size)``; not modified.
        size: Side of the image in pixels; 299 in the paper.

    Returns:
        Both counts.

    Raises:
        RuntimeError: The network does not run on such an image.
    """
    copy = meta_copy(network)
    for module in copy.modules():
        if isinstance(module, HighPass):
            module.cutoff = 0.0  # the identity, at no cost
    dtype = next((p.dtype for p in copy.parameters() if p.is_floating_point()), torch.float32)
    image = torch.empty(1, 3, size, size, dtype=dtype, device="meta")
    elementwise = {getattr(torch.ops.aten, name): _two_per_element for name in _TWICE_PER_ELEMENT}
    counter = FlopCounterMode(display=False, custom_mapping=elementwise)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no formula
    try:
        with counter, sdpa_kernel(SDPBackend.MATH):
            copy(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    macs = counter.get_total_flops() // 2
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), macs)


def _two_per_element(shape: Sequence[int], *_: object, **__: object) -> int:
    return 4 * math.prod(shape)  # in FLOPs; a MAC is two
