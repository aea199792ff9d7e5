"""F3-Net: two streams of frequencies that attend to each other (Qian et al., ECCV 2020)."""

from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.frequency import dct_matrix, full_precision, without_autocast
from tokd_lightning.models.backbones import Backbone, adapt_stem, build_backbone
from tokd_lightning.models.detectors.detector import (
    Detector,
    DetectorOutput,
    activation_map,
)

Bands = Literal["area", "diagonal"]
Statistic = Literal["log_of_sum", "sum_of_logs"]
_BORDERS = {"area": (1 / 2.82, 1 / 2, 2.0), "diagonal": (1 / 16, 1 / 8, 1.0)}
_WINDOW, _STRIDE, _PADDING, _LOCAL = 10, 2, 4, 6
_GREY = (0.299, 0.587, 0.114)
_SUM_EPS, _LOG_EPS = 1e-6, 1e-15
_COUPLED = ("block7", "block12")  # of Xception


def sigma(weight: Tensor) -> Tensor:
    """Return 2 sigmoid(w) - 1, in (-1, 1)."""
    return 2 * weight.sigmoid() - 1


def global_bands(size: int, bands: Bands = "area") -> Tensor:
    """Return FAD's four base filters, float64 ``(4, size, size)``.

    With s = i + j, the bands end at floor(size / 2.82), floor(size / 2) and the last coefficient
    (``area``), or at floor(size / 16), floor(size / 8) and ``size`` (``diagonal``); each takes the
    coefficients up to and including its border. The fourth is all coefficients. The first has DC.
    """
    ends = [int(size * share) for share in _BORDERS[bands]]
    s = _diagonals(size)
    first = [-1, *ends[:-1]]
    masks = [(s > low) & (s <= high) for low, high in zip(first, ends, strict=True)]
    return torch.stack([*masks, torch.ones_like(masks[0])]).double()


def local_bands() -> Tensor:
    """Return LFS's six base filters of a window, float64 ``(6, 10, 10)``; s cut at k 20 / 6."""
    s = _diagonals(_WINDOW)
    borders = [-1, *(2 * _WINDOW * k // _LOCAL for k in range(1, _LOCAL + 1))]
    pairs = pairwise(borders)
    return torch.stack([(s > low) & (s <= high) for low, high in pairs]).double()


def _diagonals(size: int) -> Tensor:
    steps = torch.arange(size)
    return steps[:, None] + steps


class FAD(nn.Module):
    r"""Frequency-aware decomposition: an image in four learnable bands, stacked as channels.

    .. math:: y_k = D^{-1}\!\left(D(x) \circ (b_k + 2 \sigma(w_k) - 1)\right)

    D is the orthonormal 2-D DCT-II, b a base filter of :func:`global_bands`, w is learned.

    Args:
        size: Side of the images, to which the filters are tied.
        bands: Borders of the bands, see :func:`global_bands`.
    """

    dct: Tensor
    base: Tensor

    def __init__(self, size: int, bands: Bands = "area") -> None:
        super().__init__()
        self.register_buffer("dct", dct_matrix(size).float(), persistent=False)
        self.register_buffer("base", global_bands(size, bands).float(), persistent=False)
        self.weight = nn.Parameter(torch.empty(4, size, size).normal_(0, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the bands of images ``(B, 3, N, N)``: ``(B, 12, N, N)``, band by band."""
        if x.is_meta:  # only shapes are needed
            return x.new_empty(len(x), 12, *x.shape[-2:])
        wide = full_precision(x.dtype, x.device)
        with without_autocast(x.device):
            d = self.dct.to(wide)
            spectrum = d @ x.to(wide) @ d.T
            filters = self.base.to(wide) + sigma(self.weight.to(wide))
            parts = d.T @ (spectrum[:, None] * filters[None, :, None]) @ d
        return parts.flatten(1, 2).to(x.dtype)


class LFS(nn.Module):
    r"""Local frequency statistics: the energy of six bands in sliding windows of 10 px.

    .. math:: q_k = \log_{10} \sum |D(p) \circ (b_k + 2 \sigma(w_k) - 1)|

    for each window p of the grey image in 0..255, at steps of 2 px after padding by 4 px.

    Args:
        statistic: ``log_of_sum`` as above, with 1e-6 added to the sum; ``sum_of_logs`` is the sum
            of filter times :math:`\log_{10}(|D(p)| + 10^{-15})`, divided by the size of the band.
        mean: Mean of the images' normalisation.
        std: Its standard deviation.
    """

    kernels: Tensor
    base: Tensor
    grey: Tensor

    def __init__(
        self, statistic: Statistic = "log_of_sum", mean: float = 0.5, std: float = 0.5
    ) -> None:
        super().__init__()
        self.statistic = statistic
        self.mean, self.std = mean, std
        d = dct_matrix(_WINDOW).float()
        kernels = torch.einsum("ui,vj->uvij", d, d).reshape(-1, 1, _WINDOW, _WINDOW)
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("base", local_bands().float(), persistent=False)
        self.register_buffer("grey", torch.tensor(_GREY).reshape(1, 3, 1, 1), persistent=False)
        self.weight = nn.Parameter(torch.empty(_LOCAL, _WINDOW, _WINDOW).normal_(0, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics of normalised images ``(B, 3, H, W)``: ``(B, 6, H / 2, W / 2)``."""
        if x.is_meta:  # only shapes are needed
            sides = [(side + 2 * _PADDING - _WINDOW) // _STRIDE + 1 for side in x.shape[-2:]]
            return x.new_empty(len(x), _LOCAL, *sides)
        wide = full_precision(x.dtype, x.device)
        with without_autocast(x.device):
            grey = ((x.to(wide) * self.std + self.mean) * self.grey.to(wide)).sum(1, keepdim=True)
            kernels = self.kernels.to(wide)
            windows = functional.conv2d(255 * grey, kernels, stride=_STRIDE, padding=_PADDING)
            filters = (self.base.to(wide) + sigma(self.weight.to(wide))).flatten(1)
            if self.statistic == "log_of_sum":
                sums = _mixed(windows.abs(), filters.abs())
                return (sums + _SUM_EPS).log10().to(x.dtype)
            logs = (windows.abs() + _LOG_EPS).log10()
            counts = self.base.to(wide).sum(dim=(1, 2)).reshape(1, -1, 1, 1)
            return (_mixed(logs, filters) / counts).to(x.dtype)


def _mixed(windows: Tensor, filters: Tensor) -> Tensor:
    return functional.conv2d(windows, filters[:, :, None, None])


class ChannelScale(nn.Conv2d):
    """Depthwise 1x1 convolution as a product; libraries compute its groups one by one.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map times a weight per channel, plus a bias."""
        assert self.bias is not None
        return x * self.weight[:, 0].to(x.dtype) + self.bias[:, None, None].to(x.dtype)


class MixBlock(nn.Module):
    r"""Cross-attention of two square maps, row by row within each channel.

    .. math:: A = \mathrm{softmax}\!\left([q_F | q_L] [k_F | k_L]^T\right), \quad
        F' = F + \mathrm{BN}(\mathrm{conv}(L \circ A \, (2 \sigma(\gamma_L) - 1)))

    and L' alike from F with its own convolution, BN and :math:`\gamma`, which start at 0: the block
    is the identity then.

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.keys = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.gamma = nn.Parameter(torch.zeros(2))
        self.convolutions = nn.ModuleList(ChannelScale(channels) for _ in range(2))
        for name, parameter in self.convolutions.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, fad: Tensor, lfs: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps ``(B, C, W, W)``, each with what the other adds."""
        maps = fad, lfs
        q = torch.cat([make(x) for make, x in zip(self.queries, maps, strict=True)], dim=3)
        k = torch.cat([make(x) for make, x in zip(self.keys, maps, strict=True)], dim=3)
        attention = (q @ k.transpose(2, 3)).softmax(dim=-1)
        gates = sigma(self.gamma)
        added = [
            norm(convolution(other * attention * gate))
            for norm, convolution, other, gate in zip(
                self.norms, self.convolutions, (lfs, fad), gates.flip(0), strict=True
            )
        ]
        return fad + added[0], lfs + added[1]


class F3Net(Detector):
    """Two Xceptions, on the bands of :class:`FAD` and the statistics of :class:`LFS`.

    A :class:`MixBlock` couples them after block7 and block12 (for other backbones, at the end of
    the stages at strides 16 and 32). The pooled maps of both are classified together.

    Args:
        backbone: Network of each branch, for :func:`~tokd_lightning.models.build_backbone`.
        pretrained: ImageNet weights: True, False or a path.
        size: Side of the images, to which FAD's filters are tied.
        bands: Borders of FAD's bands: ``area`` or ``diagonal``, see :func:`global_bands`.
        statistic: Statistic of LFS: ``log_of_sum`` or ``sum_of_logs``.
        dropout: Dropout before the classifier.

    Raises:
        TokdError: The backbone is unknown or unsuitable, or its weights are unavailable.
        ValueError: An option is out of range.

    Source:
        Y. Qian et al., "Thinking in frequency: face forgery detection by mining frequency-aware
        clues", ECCV 2020.
    """

    name, title = "f3net", "F3-Net"
    citation = "Qian et al., ECCV 2020"
    published = 48.3
    unsettled = "borders of the bands, order of sum and logarithm"
    branches = ("rgb", "frequency")
    has_heat_map = True

    def __init__(
        self,
        backbone: str = "xception",
        pretrained: bool | str = True,
        size: int = 299,
        bands: Bands = "area",
        statistic: Statistic = "log_of_sum",
        dropout: float = 0.2,
    ) -> None:
        if bands not in get_args(Bands) or statistic not in get_args(Statistic):
            raise ValueError(f"bands: one of {get_args(Bands)}, statistic: {get_args(Statistic)}")
        options = {"backbone": backbone, "size": size, "bands": bands, "statistic": statistic}
        super().__init__(pretrained, **options, dropout=dropout)
        self.size = size
        self.fad = FAD(size, bands)
        self.lfs = LFS(statistic, self.mean, self.std)
        self.rgb = build_backbone(backbone, pretrained, "rgb")
        self.frequency = build_backbone(backbone, pretrained, "frequency")
        adapt_stem(self.rgb, lambda weight: torch.cat([weight / 4] * 4, dim=1))
        adapt_stem(self.frequency, lambda weight: torch.cat([weight / 2] * 2, dim=1), stride=1)
        self.mixers = nn.ModuleDict()
        for name, channels in _couplings(self.rgb):
            self.mixers[name] = MixBlock(channels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * self.rgb.channels[-1], 2)

    def check_size(self, size: int) -> None:
        """Check the side of the images, to which the filters are tied.

        Raises:
            TokdError: It is another one.
        """
        if size != self.size:
            raise TokdError(
                f"F3-Net's filters are tied to {self.size} px, but the images have {size} px: set "
                f"--model.detector.size {size}"
            )

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images ``(B, 3, N, N)``."""
        fad, lfs = self.fad(image), self.lfs(image)
        maps: dict[int, Tensor] = {}
        frequency: dict[int, Tensor] = {}
        stages = zip(self.rgb.stages, self.frequency.stages, self.rgb.strides, strict=True)
        for number, (one, other, stride) in enumerate(stages):
            both = zip(one.named_children(), other.children(), strict=True)
            for position, ((name, module), its_twin) in enumerate(both, start=1):
                fad, lfs = module(fad), its_twin(lfs)
                if name in self.mixers:
                    fad, lfs = self.mixers[name](fad, lfs)
                if number == 0 and position == self.rgb.early and self.rgb.finest == 4:
                    maps[4], frequency[4] = fad, lfs
            maps[stride], frequency[stride] = fad, lfs
        pooled = torch.cat([fad.mean(dim=(2, 3)), lfs.mean(dim=(2, 3))], dim=1)
        return DetectorOutput(self.classifier(self.dropout(pooled)), maps, {}, frequency)

    def features(self, output: DetectorOutput) -> Tensor:
        """Return the means of both branches' last maps."""
        return _last(output).mean(dim=(2, 3))

    def heat_map(self, output: DetectorOutput) -> Tensor:
        """Return the class activation map of both branches."""
        return activation_map(_last(output), self.classifier)


def _last(output: DetectorOutput) -> Tensor:
    return torch.cat([output.maps[32], output.frequency[32]], dim=1)


def _couplings(backbone: Backbone) -> list[tuple[str, int]]:
    """Return the modules after which the branches are coupled, and their channels."""
    there = {name for stage in backbone.stages for name, _ in stage.named_children()}
    if there >= set(_COUPLED):
        return [("block7", backbone.channels[2]), ("block12", 1024)]
    ends = {
        stride: ([name for name, _ in stage.named_children()][-1], channels)
        for stage, stride, channels in zip(
            backbone.stages, backbone.strides, backbone.channels, strict=True
        )
    }
    return [ends[16], ends[32]]
