"""Image sizes at which a timm network runs without losing an edge of the image."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from tokd_lightning.models.probe import meta_copy

NATIVE = 224
_MOST = 1.15  # a larger padded side would be mostly border
# Of patches, and of the strides at which windows must fit.
_MULTIPLES = (4, 7, 8, 14, 16, 28, 32, 48, 64)


class Fit(NamedTuple):
    """How a network is built for images of one size.

    Attributes:
        side: Side that the network sees; images are padded to it on the right and at the bottom.
        options: Options of the network's constructor.
    """

    side: int
    options: dict[str, int]


class Misfit(Exception):
    """Raised if a network cannot read images of a size; says why."""


def native_size(model: nn.Module) -> int:
    """Return the side of the images that a network was made for, in pixels."""
    shape = (getattr(model, "pretrained_cfg", None) or {}).get("input_size") or (3, NATIVE, NATIVE)
    return int(shape[-1])


def fit_size(model: nn.Module, size: int, make: Callable[..., nn.Module]) -> Fit:
    """Return how a network reads images of a size: unchanged, built for it, or padded.

    Args:
        model: The network; not modified.
        size: Side of the images in pixels.
        make: Builds the network with options, such as ``img_size``.

    Raises:
        Misfit: It does not read them.
    """
    if size == native_size(model):
        return Fit(size, {})
    reason = ""
    for side in _sides(size):
        for options in ({}, {"img_size": side}):
            try:
                if options:
                    with torch.device("meta"):
                        model_here = make(**options)
                else:
                    model_here = model
                run_once(model_here, side)
            except (Exception, AssertionError) as error:  # third-party networks raise anything
                said = str(error).strip().splitlines()
                if not isinstance(error, TypeError):  # of a constructor without this option
                    reason = reason or (said[0] if said else type(error).__name__)
                continue
            return Fit(side, options)
    raise Misfit(reason)


def _sides(size: int) -> Iterator[int]:
    sides = {math.ceil(size / multiple) * multiple for multiple in (1, *_MULTIPLES)}
    yield from sorted(side for side in sides if side <= _MOST * size)


@torch.no_grad()
def run_once(model: nn.Module, side: int) -> None:
    """Run a copy of a network without data, and check that it reads the whole image.

    Raises:
        Misfit: Its first convolution leaves out rows at the bottom.
        Exception: Whatever the network raises.
    """
    copy: Any = meta_copy(model)
    lost: list[int] = []

    def check(module: nn.Conv2d, args: tuple[Tensor, ...], output: Tensor) -> None:
        if args[0].shape[-1] == side and not isinstance(module, Conv2dSame):
            (kernel,), (stride,), pad = {*module.kernel_size}, {*module.stride}, module.padding[0]
            reach = (output.shape[-1] - 1) * stride - int(pad) + kernel
            lost.append(side - reach)

    for module in copy.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            module.register_forward_hook(check)
    images = torch.empty(1, 3, side, side, device="meta", dtype=next(copy.parameters()).dtype)
    copy.forward_intermediates(images)
    if max(lost, default=0) > 0:
        raise Misfit(f"it would not see the last {max(lost)} rows and columns of {side} px images")
