"""MultiAtt: several attention maps that pool textures (Zhao et al., CVPR 2021)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.models.detectors.attention_losses import MultiAttLoss
from tokd_lightning.models.detectors.detector import Detector, DetectorOutput
from tokd_lightning.models.detectors.networks import FineMaps

Texture = Literal["v1", "v2"]
_BORDER, _GRID = 2, 24  # of the attention maps
_MIDDLE = 256
_EPS = 1e-8


class AttentionMaps(nn.Module):
    """Attention maps of a feature map: conv 3x3, BN, ReLU, conv 1x1, BN, ELU + 1.

    A border of 2/24 of the side is zeroed.

    Args:
        channels: Channels of the feature map.
        count: M, number of attention maps.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, count, 1, bias=False),
            nn.BatchNorm2d(count),
            nn.ELU(),
        )
        inside = torch.zeros(1, 1, _GRID, _GRID)
        inside[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER] = 1
        self.register_buffer("inside", inside, persistent=False)

    inside: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps ``(B, M, h, w)``, not negative."""
        maps: Tensor = self.layers(x) + 1
        return maps * functional.interpolate(self.inside, maps.shape[-2:], mode="nearest")


def attention_pool(features: Tensor, attention: Tensor) -> Tensor:
    """Return the sum of features weighted by each attention map, its rows of unit length.

    Args:
        features: ``(B, C, H, W)``, or ``(B, M, C, H, W)`` with features of each map.
        attention: ``(B, M, h, w)``; resized bilinearly, corners aligned.

    Returns:
        ``(B, M, C)``.
    """
    attention = _resized(attention, features.shape[-2:])
    kind = "bmhw,bchw->bmc" if features.ndim == 4 else "bmhw,bmchw->bmc"
    return functional.normalize(torch.einsum(kind, attention, features), dim=-1)


def _resized(attention: Tensor, size: torch.Size) -> Tensor:
    if attention.shape[-2:] == size:
        return attention
    return functional.interpolate(attention, size, mode="bilinear", align_corners=True)


class TextureBlock(nn.Module):
    """What a shallow map holds beyond its local averages, through a dense block.

    ``v1`` is shared by all attention maps: the averages are subtracted, then a 1x1 and three 3x3
    convolutions, each on all before it, and a 1x1 give four times the channels. ``v2`` has a group
    for each map: a 3x3 convolution first, the rest is multiplied by tanh of the map, which gets no
    gradient, then a 5x5 and three 3x3 convolutions.

    Args:
        channels: C, channels of the shallow map.
        count: M, number of attention maps.
        kind: ``v1`` or ``v2``.

    Attributes:
        width: Channels of the texture of each map.
    """

    def __init__(self, channels: int, count: int, kind: Texture = "v1") -> None:
        super().__init__()
        self.kind, self.channels = kind, channels
        self.groups = 1 if kind == "v1" else count
        self.width = 4 * channels if kind == "v1" else channels
        wide, last = self.groups * channels, self.groups * self.width
        self.extract: nn.Module = nn.Identity()
        if kind == "v2":
            self.extract = nn.Conv2d(channels, channels, 3, padding=1)
        first = 1 if kind == "v1" else 5
        self.first = nn.Conv2d(wide, wide, first, padding=first // 2, groups=self.groups)
        self.dense = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(number * wide),
                nn.ReLU(),
                nn.Conv2d(number * wide, wide, 3, padding=1, groups=self.groups),
            )
            for number in (1, 2, 3)
        )
        self.last = nn.Sequential(
            nn.BatchNorm2d(4 * wide),
            nn.ReLU(),
            nn.Conv2d(4 * wide, last, 1, groups=self.groups),
            nn.BatchNorm2d(last),
        )

    def forward(self, x: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Return the texture and the averages.

        Args:
            x: Shallow map, ``(B, C, H, W)``.
            attention: ``(B, M, h, w)``.

        Returns:
            ``(B, 4C, H, W)`` (v1) or ``(B, M, C, H, W)`` (v2), and ``(B, C, h, w)``.
        """
        x = self.extract(x)
        average = functional.adaptive_avg_pool2d(x, (attention.shape[-2], attention.shape[-1]))
        x = x - functional.interpolate(average, x.shape[-2:], mode="nearest")
        if self.kind == "v2":
            gate = _resized(attention.detach(), x.shape[-2:]).tanh()
            x = (x[:, None] * gate[:, :, None]).flatten(1, 2)
        x = self.first(x)
        for block in self.dense:
            x = self._joined(x, block(x))
        texture = self.last(x)
        if self.kind == "v2":
            texture = torch.unflatten(texture.relu(), 1, (self.groups, self.channels))
        return texture, average

    def _joined(self, x: Tensor, more: Tensor) -> Tensor:
        """Concatenate channels, within each group."""
        parts = [torch.unflatten(part, 1, (self.groups, -1)) for part in (x, more)]
        return torch.cat(parts, dim=2).flatten(1, 2)


class MultiAtt(Detector):
    """EfficientNet-B4 with M attention maps that pool the texture of a shallow map.

    Attention from the map at stride 16, texture from that at stride 4; the pooled textures and the
    last map, pooled by the sum of the attention maps, are projected to 256 and classified together.

    Args:
        backbone: ``tf_efficientnet_b4`` or another name, see
            :class:`~tokd_lightning.models.detectors.networks.FineMaps`.
        pretrained: ImageNet weights: True, False or a path.
        attentions: M.
        texture: ``v1`` (the paper) or ``v2`` (default of the authors' code), see
            :class:`TextureBlock`.
        dropout: Probability that a whole attention map is dropped in training.
        dropout_final: Dropout of the pooled last map.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.
        ValueError: An option is out of range.

    Source:
        H. Zhao et al., "Multi-attentional deepfake detection", CVPR 2021.
    """

    name, title = "multiatt", "MultiAtt"
    citation = "Zhao et al., CVPR 2021"
    size = 380
    published = 417.6
    unsettled = "texture v1 or v2, loss RIL v1 or v2, weights"

    def __init__(
        self,
        backbone: str = "tf_efficientnet_b4",
        pretrained: bool | str = True,
        attentions: int = 4,
        texture: Texture = "v1",
        dropout: float = 0.25,
        dropout_final: float = 0.5,
    ) -> None:
        if attentions < 1 or texture not in get_args(Texture):
            raise ValueError(f"attentions must be at least 1, texture one of {get_args(Texture)}")
        options = {"attentions": attentions, "texture": texture, "dropout": dropout}
        super().__init__(pretrained, backbone=backbone, **options, dropout_final=dropout_final)
        self.dropout = dropout
        self.backbone = FineMaps(backbone, pretrained)
        channels = self.backbone.channels
        self.attention = AttentionMaps(channels[16], attentions)
        self.texture = TextureBlock(channels[4], attentions, texture)
        self.project_local = nn.Sequential(
            nn.Linear(attentions * self.texture.width, _MIDDLE),
            nn.Hardswish(),
            nn.Linear(_MIDDLE, _MIDDLE),
            nn.Hardswish(),
        )
        self.dropout_final = nn.Dropout(dropout_final)
        self.project_final = nn.Sequential(nn.Linear(channels[32], _MIDDLE), nn.Hardswish())
        self.classifier = nn.Sequential(
            nn.Linear(2 * _MIDDLE, _MIDDLE), nn.Hardswish(), nn.Linear(_MIDDLE, 2)
        )

    @property
    def body(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, H, W)``."""
        maps = self.backbone(image)
        attention = self.attention(maps[16])
        texture, average = self.texture(maps[4], attention)
        matrix = attention_pool(texture, attention)  # (B, M, C)
        kept = attention.new_ones(*attention.shape[:2], 1)
        if self.training:
            kept = functional.dropout(kept, self.dropout)  # whole maps
        local = self.project_local((matrix * kept).flatten(1))
        weight = _resized((attention * kept[..., None]).sum(1, keepdim=True), maps[32].shape[-2:])
        weight = weight + _EPS
        pooled = (maps[32] * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
        final = self.project_final(self.dropout_final(pooled))
        logits = self.classifier(torch.cat([local, final], dim=1))
        auxiliary = {}
        if self.keeps():
            auxiliary = {"attention": attention, "pooled": pooled_average(average, attention)}
        return DetectorOutput(logits, maps, auxiliary)

    def panels(self, output: DetectorOutput) -> dict[str, Tensor]:
        """Return the attention maps, each divided by its maximum."""
        attention = output.auxiliary["attention"]
        scaled = attention / attention.amax(dim=(2, 3), keepdim=True).clamp_min(_EPS)
        return {f"attention {n}": scaled[:, n - 1] for n in range(1, scaled.shape[1] + 1)}

    def make_loss(self) -> MultiAttLoss:
        """Return :class:`MultiAttLoss`."""
        return MultiAttLoss(self)


def pooled_average(average: Tensor, attention: Tensor) -> Tensor:
    """Return the rows ``(B, M, C)`` that RIL compares: averages, standardised, pooled.

    Args:
        average: ``(B, C, h, w)``; each channel is standardised over space.
        attention: ``(B, M, h, w)``.
    """
    centred = average - average.mean(dim=(2, 3), keepdim=True)
    standard = centred / (centred.std(dim=(2, 3), keepdim=True) + _EPS)
    return attention_pool(standard, attention)
