"""Convolutional backbones from timm, cut into stages (S_B, T_r and T_f of Sec. 3 and 4)."""

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.recompute import blocks_of, recomputed
from tokd_lightning.models.weight_file import Normalisation, load_weights
from tokd_lightning.models.weights import with_downloaded_weights

STRIDES = (8, 16, 32)
EARLY = 4
_THIN = {"resnet18_thin": (2, 2, 2, 2), "resnet34_thin": (3, 4, 6, 3)}
_XCEPTION = ("xception", "legacy_xception")
_SUGGESTED = (
    "resnet18_thin, resnet34_thin, xception, resnet50, efficientnet_b0, mobilenetv3_small_100, "
    "convnext_tiny, regnetx_002"
)


class Backbone(nn.Module):
    """A network without classifier, as a chain of stages that other modules can interleave.

    Args:
        stages: The parts of the network, in order, each a sequence itself.
        strides: Stride at the end of each stage; of two equal ones, the later stage counts.
        channels: Channels at the end of each stage.
        coupled: Whether a dual-branch network couples its branches after the stage (Fig. 1).
        early: Number of modules of the first stage after which there is a map at stride 4; 0 if
            there is none.

    Attributes:
        finest: Finest stride of the returned maps: 8, or 4 after :func:`keep_maps_from`.
        recomputes: Whether activations inside blocks are recomputed in the backward pass, see
            :mod:`tokd_lightning.models.recompute`.
        trained_on: Normalisation of the images its pretrained weights were trained on; None without
            such weights, or if unknown.
    """

    def __init__(
        self,
        stages: Sequence[nn.Sequential],
        strides: Sequence[int],
        channels: Sequence[int],
        coupled: Sequence[bool],
        early: int = 0,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.strides = tuple(strides)
        self.channels = tuple(channels)
        self.coupled = tuple(coupled)
        self.early = early
        self.finest = STRIDES[0]
        self.recomputes = False
        self.trained_on: Normalisation | None = None

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return stride -> map ``(B, C, H / stride, W / stride)`` of images ``(B, 3, H, W)``."""
        maps: dict[int, Tensor] = {}
        for index in range(len(self.stages)):
            x = self.advance(index, x, maps)
        return maps

    def advance(self, index: int, x: Tensor, maps: dict[int, Tensor]) -> Tensor:
        """Run one stage and return its output.

        Args:
            index: Number of the stage.
            x: Output of the previous stage, or images.
            maps: Stride -> map; the stage's own maps are added.
        """
        stage = self.stages[index]
        if index == 0 and self.early and self.finest <= EARLY:
            for number, module in enumerate(stage.children(), start=1):
                x = recomputed(module, x) if self.recomputes else module(x)
                if number == self.early:
                    maps[EARLY] = x
        elif self.recomputes:
            for block in blocks_of(stage):
                x = recomputed(block, x)
        else:
            x = stage(x)
        maps[self.strides[index]] = x
        return x


def keep_maps_from(network: nn.Module, stride: int) -> None:
    """Set the finest stride of the maps that backbones in a network return; the default is 8.

    A map at stride 4 is large and rarely read. Networks without such a map return none there.

    Args:
        network: A student or a teacher; changed in place, weights and state dict are not.
        stride: The finest stride that is read, 4 or 8.
    """
    for module in network.modules():
        if isinstance(module, Backbone):
            module.finest = stride


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


def build_backbone(name: str, pretrained: bool | str = False, branch: str = "") -> Backbone:
    """Build a backbone with maps at strides 8, 16 and 32 (and 4, see :func:`keep_maps_from`).

    ``resnet18_thin`` and ``resnet34_thin`` are Table 1's ResNets of 32, 64, 128 and 256 channels
    with a 32-channel stem. ``xception`` is timm's ``legacy_xception``, cut after block2 (8), block3
    and block11 (16) and act4 (32); at stride 4 it has block1. Every other name is a timm CNN, cut
    where timm takes its own features; the cut is compared with these once. ``module.function``
    names a custom network, which its module, in the working directory or installed, registers with
    timm.

    Args:
        name: Name of the network.
        pretrained: ImageNet weights: True downloads timm's, a path loads a file, see
            :func:`~tokd_lightning.models.weight_file.load_weights`, False starts at random.
        branch: Branch of a teacher, to choose from a file that holds several networks.

    Returns:
        The backbone, in train mode.

    Raises:
        TokdError: Unknown name, a network without such maps, or weights that are unavailable.
    """
    model = _network(name, pretrained is True)
    backbone = _backbone(name, model)
    if pretrained:
        known = _normalisation(name, model)
        if pretrained is not True:
            known = load_weights(model, pretrained, backbone, branch) or known
        backbone.trained_on = known
    return backbone


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


def _network(name: str, pretrained: bool) -> nn.Module:
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
        return with_downloaded_weights(timm_name)
    try:
        model: nn.Module = timm.create_model(timm_name, num_classes=0)
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
        if not weight.is_meta and not (torch.equal(ours, copy) and torch.equal(ours, theirs))
    ]
    if set(wrong) - {EARLY}:
        raise ValueError("the stages do not make timm's features")
    model.train()
    return tuple(x.shape[1] for x in maps[-len(STRIDES) :]), 0 if wrong else early
