"""Two-branch recurrent network, a reconstruction (Masi et al., ECCV 2020)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.detectors.detector import Detector, DetectorLoss, DetectorOutput
from tokd_lightning.models.detectors.networks import safe_norm, timm_network

_SIGMAS = (1.0, 1.6, 2.2)
_RADII = (0.042, 1.638)  # of reals and fakes
_SCALE = 4.0  # of the logit
_HIDDEN, _EMBEDDING, _FUSED = 128, 128, 256
_SHRINK = 3.0  # of the first embedding of frames


def log_kernel(sigma: float, size: int) -> Tensor:
    """Return a Laplacian of a Gaussian with a sum of zero, float64 ``(size, size)``.

    Args:
        sigma: Standard deviation in pixels.
        size: Odd side of the kernel.
    """
    steps = torch.arange(size, dtype=torch.float64) - size // 2
    square = steps[:, None].square() + steps.square()
    kernel = (square - 2 * sigma**2) / sigma**4 * (-square / (2 * sigma**2)).exp()
    kernel = kernel / (2 * torch.pi * sigma**2)
    return kernel - kernel.mean()


def laplacian_kernel() -> Tensor:
    """Return the mean of the kernels of all widths, each of side 6 sigma + 1, odd."""
    size = max(_side(sigma) for sigma in _SIGMAS)
    kernels = []
    for sigma in _SIGMAS:
        rest = (size - _side(sigma)) // 2
        kernels.append(functional.pad(log_kernel(sigma, _side(sigma)), (rest,) * 4))
    return torch.stack(kernels).mean(dim=0)


def _side(sigma: float) -> int:
    return int(6 * sigma + 1) | 1


class LaplacianOfGaussian(nn.Module):
    """Fixed depthwise filter: the mean of Laplacians of Gaussians of several widths."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", laplacian_kernel().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter maps ``(B, C, H, W)``; borders repeat the last pixel."""
        if x.is_meta:  # only shapes are needed
            return torch.empty_like(x)
        half = self.kernel.shape[-1] // 2
        padded = functional.pad(x, (half,) * 4, mode="replicate")
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return functional.conv2d(padded, kernel, groups=x.shape[1])


class TwoBranch(Detector):
    """Reconstruction of the two-branch network, for which no code exists.

    DenseNet121: stem, two copies of its first block, one on the maps after
    :class:`LaplacianOfGaussian`, fused by a 1x1 convolution; the rest is shared. With clips, two
    bidirectional LSTM layers follow, and the mean over time. The distance d of the embedding from
    the origin is the score: logits (0, 4 (d - (r + R) / 2)).

    Args:
        backbone: ``densenet121`` or a name for :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.
        recurrent: Whether there are LSTM layers; without, frames are scored one by one.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.

    Source:
        I. Masi et al., "Two-branch recurrent network for isolating deepfakes in videos", ECCV 2020.
        Known are the branches, the LSTM and the loss; widths, radii and places are ours.
    """

    name, title = "twobranch", "Two-branch"
    citation = "Masi et al., ECCV 2020"
    size = 224
    needs = frozenset({"clip"})
    unsettled = "all but the idea: a reconstruction"
    refusal = "it embeds clips, and its loss is of distances: there are no maps per frame to distil"

    def __init__(
        self,
        backbone: str = "densenet121",
        pretrained: bool | str = True,
        recurrent: bool = True,
    ) -> None:
        super().__init__(pretrained, backbone=backbone, recurrent=recurrent)
        if recurrent:
            self.reads = ("clip",)  # a batch of clips
            self.unexported = "it scores clips, and tokd detect single frames: recurrent: false"
        stem, block, rest = _parts(backbone, pretrained)
        self.stem, self.colour, self.rest = stem, block, rest
        self.suppress = nn.Sequential(LaplacianOfGaussian(), copy.deepcopy(block))
        with torch.no_grad():
            here = block(stem(torch.zeros(1, 3, 64, 64)))
            last = rest(here).shape[1]
        channels = here.shape[1]
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.lstm: nn.LSTM | None = None
        if recurrent:
            self.lstm = nn.LSTM(last, _HIDDEN, 2, batch_first=True, bidirectional=True)
        self.embed = nn.Linear(2 * _HIDDEN if recurrent else last, _EMBEDDING)
        if not recurrent:  # distances start between the radii: beyond them, fakes have no gradient
            with torch.no_grad():
                for parameter in self.embed.parameters():
                    parameter.div_(_SHRINK)

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised clips ``(B, T, 3, H, W)``, or frames ``(B, 3, H, W)``."""
        clips = image[:, None] if image.ndim == 4 else image
        count, length = clips.shape[:2]
        x = self.stem(clips.flatten(0, 1))
        x = self.fuse(torch.cat([self.colour(x), self.suppress(x)], dim=1))
        code = self.rest(x)
        pooled = code.mean(dim=(2, 3)).unflatten(0, (count, length))
        if self.lstm is not None:
            pooled = self.lstm(pooled)[0]
        embedding = self.embed(pooled.mean(dim=1))
        d = safe_norm(embedding.to(torch.promote_types(embedding.dtype, torch.float32)))
        fake = _SCALE * (d - sum(_RADII) / 2)
        logits = torch.stack([torch.zeros_like(fake), fake], dim=1)
        auxiliary = {"distance": d, "embedding": embedding} if self.keeps() else {}
        return DetectorOutput(logits, {32: code} if length == 1 else {}, auxiliary)

    def make_loss(self) -> "RadiusLoss":
        """Return :class:`RadiusLoss`."""
        return RadiusLoss(self)


def _parts(name: str, pretrained: bool | str) -> tuple[nn.Sequential, nn.Module, nn.Sequential]:
    """Return stem, first block and the rest of a network."""
    if name.startswith("densenet"):
        features: Any = timm_network(name, pretrained).get_submodule("features")
        parts = list(features.named_children())
        at = [key for key, _ in parts].index("denseblock1")
        modules = [module for _, module in parts]
        return nn.Sequential(*modules[:at]), modules[at], nn.Sequential(*modules[at + 1 :])
    backbone: Any = build_backbone(name, pretrained)
    first = list(backbone.stages[0])
    at = backbone.early - 1 if backbone.early else len(first) - 1
    rest = [*first[at + 1 :], *(module for stage in backbone.stages[1:] for module in stage)]
    return nn.Sequential(*first[:at]), first[at], nn.Sequential(*rest)


class RadiusLoss(DetectorLoss):
    r"""Reals within a small radius of the origin, fakes beyond a large one.

    .. math:: L = \mathrm{mean}_{real} [d - r]_+ + \mathrm{mean}_{fake} [R - d]_+

    with r = 0.042 and R = 1.638. A class that a batch does not have adds 0.
    """

    of = "twobranch"

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return ``real`` and ``fake``."""
        d, fake = output.auxiliary["distance"], batch["label"] == 1
        inner, outer = _RADII
        return {
            "real": _mean((d - inner).relu(), ~fake),
            "fake": _mean((outer - d).relu(), fake),
        }


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
