"""Backbones with a map at stride 4, for detectors that read fine maps."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone, keep_maps_from
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.models.weight_file import load_weights
from tokd_lightning.models.weights import with_downloaded_weights

_HRNET = "hrnet_"
_EFFICIENT = ("efficientnet_b", "tf_efficientnet_b")
_PROBE = 128  # px


class FineMaps(nn.Module):
    """Images to stride -> map at 4, 8, 16 and 32.

    HRNet's maps are its four branches, EfficientNet's last map is that of its head convolution;
    other names are those of :func:`~tokd_lightning.models.build_backbone`.

    Args:
        name: Name of the network.
        pretrained: ImageNet weights: True, False or a path.

    Attributes:
        channels: Stride -> channels.

    Raises:
        TokdError: The network is unknown or has no map at stride 4.
    """

    def __init__(self, name: str, pretrained: bool | str = False) -> None:
        super().__init__()
        self.kind = next((k for k in (_HRNET, *_EFFICIENT) if name.startswith(k)), "")
        if self.kind:
            self.network = timm_network(name, pretrained)
        else:
            self.network = build_backbone(name, pretrained)
        if self.kind == _HRNET:
            for part in ("incre_modules", "downsamp_modules", "final_layer"):
                setattr(self.network, part, None)
        shapes = map_shapes(self, _PROBE)
        self.channels = {stride: shape[0] for stride, shape in shapes.items()}
        if set(self.channels) != {4, 8, 16, 32}:
            raise TokdError(f"{name} has no map at stride 4: take hrnet_w48, tf_efficientnet_b4 …")

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the maps of images ``(B, 3, H, W)``."""
        network: Any = self.network
        if self.kind == _HRNET:
            return dict(zip((4, 8, 16, 32), network.forward_features(image), strict=True))
        if not self.kind:
            keep_maps_from(network, 4)  # a student's is set to what its method reads
            maps: dict[int, Tensor] = network(image)
            return {stride: maps[stride] for stride in sorted(maps)}
        x, found = network.bn1(network.conv_stem(image)), {}
        taps = {info["module"]: info["reduction"] for info in network.feature_info}
        for number, block in enumerate(network.blocks):
            x = block(x)
            if stride := taps.get(f"blocks.{number}"):
                found[stride] = x
        found[32] = network.bn2(network.conv_head(x))
        return {stride: found[stride] for stride in (4, 8, 16, 32)}


def timm_network(name: str, pretrained: bool | str) -> nn.Module:
    """Build a network of timm without classifier.

    Args:
        name: Its name.
        pretrained: ImageNet weights: True, False or a path.

    Raises:
        TokdError: The name is unknown, or the weights are unavailable.
    """
    if not timm.is_model(name):
        raise TokdError(f"no network is named {name}")
    if pretrained is True:
        return with_downloaded_weights(name)
    model: nn.Module = timm.create_model(name, num_classes=0)
    if pretrained:
        load_weights(model, str(pretrained))
    return model


def safe_norm(x: Tensor) -> Tensor:
    """Return the norm over the last axis; its gradient at zero is zero."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm
