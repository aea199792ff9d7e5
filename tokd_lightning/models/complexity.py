"""Parameters and multiply-accumulates as Table 1 counts them."""

import contextlib
import io
from typing import NamedTuple

import torch
from ptflops import get_model_complexity_info
from torch import nn

from tokd_lightning.frequency import HighPass
from tokd_lightning.models.probe import meta_copy


class Complexity(NamedTuple):
    """Size of a network (Table 1).

    Attributes:
        parameters: Number of parameters, frozen ones too.
        macs: Multiply-accumulates for one image.
    """

    parameters: int
    macs: int


@torch.no_grad()
def complexity(network: nn.Module, size: int) -> Complexity:
    """Count parameters and MACs as Table 1 does, with all that ptflops counts by default.

    That is convolutions and linear layers, and batch norms, ReLUs and poolings by their elements.
    The transform of Eq. 1 is left out, like everything that learns nothing in Table 1.

    Args:
        network: Module from images ``(B, 3, size, size)``; left as it is.
        size: Side of the image in pixels; 299 in the paper.

    Returns:
        Both counts.

    Raises:
        RuntimeError: The network does not run on such an image.
    """
    copy = meta_copy(network)
    for module in copy.modules():
        if isinstance(module, HighPass):
            module.cutoff = 0.0  # the identity, which costs nothing
    report = io.StringIO()
    with contextlib.redirect_stdout(report), contextlib.redirect_stderr(report):
        macs, _ = get_model_complexity_info(
            copy,
            (3, size, size),
            as_strings=False,
            print_per_layer_stat=False,
        )
    if macs is None:
        raise RuntimeError(f"ptflops failed: {report.getvalue().strip().splitlines()[-1]}")
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), int(macs))
