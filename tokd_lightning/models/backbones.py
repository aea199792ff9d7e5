"""Backbones by name: CNNs cut into stages, and all other networks of timm by their own maps."""

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbone import EARLY, STRIDES, Backbone, keep_maps_from
from tokd_lightning.models.sizes import fit_size, native_size
from tokd_lightning.models.stepped import SteppedBackbone
from tokd_lightning.models.tapped import TappedBackbone
from tokd_lightning.models.weight_file import Normalisation, load_weights
from tokd_lightning.models.weights import with_downloaded_weights

__all__ = ["STRIDES", "Backbone", "Role", "adapt_stem", "build_backbone", "keep_maps_from"]

Role = Literal["stages", "maps", "steps"]
"""What a backbone is built for."""

_THIN = {"resnet18_thin": (2, 2, 2, 2), "resnet34_thin": (3, 4, 6, 3)}
_XCEPTION = ("xception", "legacy_xception")
_SUGGESTED = (
    "resnet18_thin, resnet34_thin, xception, resnet50, efficientnet_b0, mobilenetv3_small_100, "
    "convnext_tiny, regnetx_002"
)


def adapt_stem(
    backbone: Backbone, change: Callable[[Tensor], Tensor], stride: int | None = None
) -> None:
    """Replace the weight of a backbone's first convolution, for inputs of other channels.

    Args:
        backbone: Changed in place.
        change: From the weight ``(C, 3, k, k)`` to the new one, ``(C, channels, k, k)``.
        stride: New stride of the convolution; None keeps it.
    """
    stem = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        stem.weight = nn.Parameter(change(stem.weight).contiguous())
    stem.in_channels = stem.weight.shape[1]
    if stride is not None:
        stem.stride = (stride, stride)


def build_backbone(
    name: str,
    pretrained: bool | str = False,
    branch: str = "",
    size: int | None = None,
    role: Role = "stages",
) -> Backbone:
    """Build a backbone with maps at strides 8, 16 and 32 (and 4, see :func:`keep_maps_from`).

    ``resnet18_thin`` and ``resnet34_thin`` are Table 1's ResNets of 32, 64, 128 and 256 channels
    with a 32-channel stem. ``xception`` is timm's ``legacy_xception``, cut after block2 (8), block3
    and block11 (16) and act4 (32); at stride 4 it has block1. Every other name is a network of
    timm. A CNN is cut where timm takes its own features; the cut is compared with these once. Other
    networks, such as transformers, are a
    :class:`~tokd_lightning.models.tapped.TappedBackbone`, built for one size of images.
    ``module.function`` names a custom network, which its module, in the working directory or
    installed, registers with timm.

    Args:
        name: Name of the network.
        pretrained: ImageNet weights: True downloads timm's, a path loads a file, see
            :func:`~tokd_lightning.models.weight_file.load_weights`, False starts at random.
        branch: Branch of a teacher, to choose from a file that holds several networks.
        size: Side of the images in pixels; None takes the size that the network was made for.
        role: ``stages`` for a chain of modules on maps, as detectors take apart; ``maps`` for any
            network with maps; ``steps`` for one that also stops between its blocks.

    Returns:
        The backbone, in train mode.

    Raises:
        TokdError: Unknown name, a network without such maps, or weights that are unavailable.
    """
    model = _network(name, pretrained is True)
    try:
        backbone = _backbone(name, model)
    except TokdError:
        if role == "stages":
            raise
        model.train()
        backbone, model = _tapped(name, model, pretrained is True, size, role)
    if pretrained:
        known = _normalisation(name, model)
        if pretrained is not True:
            # The names of other networks are timm's, in this package's checkpoints too.
            stages = None if isinstance(backbone, TappedBackbone) else backbone
            known = load_weights(model, pretrained, stages, branch) or known
        backbone.trained_on = known
    return backbone


def _tapped(
    name: str, model: nn.Module, pretrained: bool, size: int | None, role: Role
) -> tuple[Backbone, nn.Module]:
    """Build a network for a size of images and take its own maps; return both."""
    size = size or native_size(model)
    try:
        side, options = fit_size(model, size, lambda **options: _network(name, False, **options))
        if options:
            model = _network(name, pretrained, **options)
        kind = SteppedBackbone if role == "steps" else TappedBackbone
        backbone = kind(model, name, size, side)
    except Exception as error:  # third-party networks raise any exception
        said = [*str(error).strip().splitlines(), type(error).__name__][0]
        raise TokdError(
            f"the network {name} cannot be cut at strides 8, 16 and 32 of {size} px images "
            f"({said[:160]}): take another size or network, such as {_SUGGESTED}"
        ) from error
    return backbone, model


def normalisation_to_follow(name: str) -> Normalisation | None:
    """Return the normalisation of the pretrained weights of a network that is not cut into stages.

    Args:
        name: Name of the network.

    Returns:
        None for networks in stages, for unknown ones, and where timm does not say it.
    """
    if name in (*_THIN, *_XCEPTION) or not timm.is_model(name):
        return None
    try:
        with torch.device("meta"):
            model = _network(name, False)
            _backbone(name, model)
    except TokdError:
        return _normalisation(name, model)
    return None


def _normalisation(name: str, model: nn.Module) -> Normalisation | None:
    """Return the normalisation that timm's weights of a network were trained on."""
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not cfg.get("mean") or not cfg.get("std"):
        return None
    return Normalisation(tuple(cfg["mean"]), tuple(cfg["std"]), f"timm's {name}")


def _backbone(name: str, model: nn.Module) -> Backbone:
    """Cut a network into stages that share its weights."""
    if name in _XCEPTION:
        stages = list(_cut(model, ("block2", "block3", "block11", "act4")))
        coupled = (False, True, True, True)
        return Backbone(
            stages, (8, 16, 16, 32), (256, 728, 728, 2048), coupled, _early(stages[0], "block1")
        )
    taps = {info["reduction"]: info["module"] for info in getattr(model, "feature_info", [])}
    try:
        stages = list(_cut(model, [taps[stride] for stride in STRIDES]))
        early = _early(stages[0], taps.get(EARLY, ""))
        channels, early = _compared(model, stages, early)
    except Exception as error:  # third-party networks raise any exception
        raise TokdError(
            f"the network {name} cannot be cut at strides 8, 16 and 32: take a CNN such as "
            f"{_SUGGESTED}"
        ) from error
    return Backbone(stages, STRIDES, channels, (True, True, True), early)


def _network(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """Build the uncut network, without classifier."""
    if name in _THIN:
        if pretrained:
            raise TokdError(f"{name} has no ImageNet weights: use `pretrained: false` or a path")
        return _thin_resnet(_THIN[name])
    timm_name = "legacy_xception" if name in _XCEPTION else _registered(name)
    if not timm.is_model(timm_name):
        near = difflib.get_close_matches(name, [*_THIN, "xception", *timm.list_models()])
        raise TokdError(f"no network is named {name}: {', '.join(near) or _SUGGESTED}?")
    if pretrained:
        return with_downloaded_weights(timm_name, **options)
    try:
        model: nn.Module = timm.create_model(timm_name, num_classes=0, **options)
    except RuntimeError as error:  # of weights that timm does not know
        raise TokdError(f"no network is named {name}: {error}") from error
    return model


def _registered(name: str) -> str:
    """Return timm's name of a network; for ``module.function``, after importing the module.

    Raises:
        TokdError: The module cannot be imported, or does not register the function.
    """
    module, _, function = name.rpartition(".")
    named = bool(module) and all(part.isidentifier() for part in name.split("."))
    if not named or timm.is_model(name) or timm.is_model(module):
        return name
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        import_module(module)
    except Exception as error:  # the user's file may raise anything
        raise TokdError(f"no network {name}: {module} cannot be imported ({error})") from error
    if not timm.is_model(function):
        raise TokdError(
            f"no network {name}: put @timm.models.register_model above {function} in {module}"
        )
    return function


def _thin_resnet(layers: tuple[int, int, int, int]) -> nn.Module:
    """Build a ResNet of half the width; with only timm's ``channels`` the stem would keep 64."""
    block: Any = BasicBlock  # timm annotates the class as an instance
    model: Any = ResNet(block, layers, channels=(32, 64, 128, 256), num_classes=0)
    model.conv1 = nn.Conv2d(3, 32, kernel_size=7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(32)
    model.layer1[0] = BasicBlock(32, 32)
    model.init_weights()
    network: nn.Module = model
    return network


def _cut(model: nn.Module, taps: Sequence[str]) -> Iterator[nn.Sequential]:
    """Yield the parts of a sequential network, each ending at one of the modules ``taps``."""
    remaining = list(taps)
    part = nn.Sequential()
    for name, module in _parts(model, taps):
        part.add_module(name.replace(".", "_"), module)
        if name == remaining[0]:
            yield part
            part = nn.Sequential()
            remaining.pop(0)
            if not remaining:
                return
    raise ValueError(f"no module {remaining[0]}")


def _parts(model: nn.Module, taps: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children, with those of each ``nn.Sequential`` that a cut divides in its place."""
    for name, module in model.named_children():
        if isinstance(module, nn.Sequential) and any(tap.startswith(f"{name}.") for tap in taps):
            yield from ((f"{name}.{child}", part) for child, part in module.named_children())
        else:
            yield name, module


def _early(stage: nn.Sequential, tap: str) -> int:
    """Return the number of modules up to the one named ``tap``; 0 if it is not one of them."""
    names = [name for name, _ in stage.named_children()]
    return names.index(tap.replace(".", "_")) + 1 if tap.replace(".", "_") in names else 0


@torch.no_grad()
def _compared(
    model: nn.Module, stages: Sequence[nn.Sequential], early: int
) -> tuple[tuple[int, ...], int]:
    """Compare the cut with timm's features, bit for bit, and return the channels and ``early``.

    Most CNNs call their children in order, each on the last one's output, and no stage overwrites
    its input, which is one of our maps, but neither is guaranteed. If that fails only at stride 4,
    there is no map there.
    """
    model.eval()
    weight = next(model.parameters())
    x = torch.linspace(-1, 1, 3 * 96 * 96, device=weight.device, dtype=weight.dtype)
    x = x.reshape(1, 3, 96, 96)
    timm_model: Any = model  # nn.Module does not declare the attributes of timm's networks
    reductions = [info["reduction"] for info in timm_model.feature_info]
    last = {reduction: index for index, reduction in enumerate(reductions)}
    strides = (EARLY, *STRIDES) if early else STRIDES
    expected = timm_model.forward_intermediates(
        x, indices=[last[stride] for stride in strides], intermediates_only=True
    )
    maps, copies = [], []
    for stage in stages:
        for number, module in enumerate(stage, start=1):
            x = module(x)
            if number == len(stage) or (stage is stages[0] and number == early):
                maps.append(x)
                copies.append(x.clone())
    wrong = [
        stride
        for stride, ours, copy, theirs in zip(strides, maps, copies, expected, strict=True)
        if ours.shape != theirs.shape
        or (not weight.is_meta and not (torch.equal(ours, copy) and torch.equal(ours, theirs)))
    ]
    if set(wrong) - {EARLY}:
        raise ValueError("the stages do not make timm's features")
    model.train()
    return tuple(x.shape[1] for x in maps[-len(STRIDES) :]), 0 if wrong else early
