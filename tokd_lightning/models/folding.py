"""The frozen teacher, optimised for distillation (Sec. 4.2): same function, fewer operations."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tokd_lightning.lightning_internals import is_batchnorm

_Network = TypeVar("_Network", bound=nn.Module)
# Subclasses may compute something else from the same weights, so the types are matched exactly.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_ACTIVE = (BatchNormAct2d, SyncBatchNormAct)  # with a built-in activation
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, *_ACTIVE)


def frozen(teacher: _Network) -> _Network:
    """Copy a teacher for distillation: eval mode, batch norms folded away, channels last, frozen.

    With fixed statistics, a batch norm after a convolution is an affine map of its output and is
    folded into the weights; others stay. The copy must remain in eval mode.

    Args:
        teacher: The trained teacher T; not modified.

    Returns:
        A copy without gradients, whose outputs agree up to rounding.
    """
    network = copy.deepcopy(teacher).eval().requires_grad_(False)
    for owner, convolution, norm in list(_foldable(network)):
        _fold(owner, convolution, norm)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


class _Tracer(fx.Tracer):
    """A tracer that treats every convolution and batch norm as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True for convolutions, batch norms (custom ones too) and torch's own modules."""
        return (
            isinstance(m, nn.Conv2d)
            or is_batchnorm(m)
            or super().is_leaf_module(m, module_qualified_name)
        )


def _foldable(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield (owner, convolution, norm) names where only the norm reads the convolution.

    The symbolic trace is only read: the network keeps its own code. If a module cannot be traced,
    its children are examined one by one.
    """
    try:
        nodes = list(_Tracer().trace(module).nodes)
    except Exception:  # data-dependent code can raise anything
        for child in module.children():
            yield from _foldable(child)
        return
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    for node in nodes:
        if node.op != "call_module" or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        if source.op != "call_module" or len(source.users) > 1:
            continue
        convolution, norm = str(source.target), str(node.target)
        if calls[source.target] > 1 or calls[node.target] > 1:
            continue
        if type(module.get_submodule(convolution)) in _CONVOLUTIONS and _is_affine(
            module.get_submodule(norm)
        ):
            yield module, convolution, norm


def _is_affine(norm: nn.Module) -> bool:
    """Return whether a module is a batch norm with running statistics."""
    return type(norm) in _NORMS and norm.running_mean is not None


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    """Fold a batch norm into the convolution before it and leave its activation in place."""
    conv, bn = owner.get_submodule(convolution), owner.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert is_batchnorm(bn)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    rest: nn.Module = nn.Identity()
    if isinstance(bn, _ACTIVE):
        rest = nn.Sequential(bn.get_submodule("drop"), bn.get_submodule("act"))
    owner.set_submodule(norm, rest.eval())
