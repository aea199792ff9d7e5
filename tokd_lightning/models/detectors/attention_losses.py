"""Losses of MultiAtt: regional independence and attention-guided augmentation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from tokd_lightning.models.detectors.detector import (
    Detector,
    DetectorLoss,
    DetectorOutput,
    extras_of,
    generators,
)
from tokd_lightning.models.detectors.hulls import gaussian_blur
from tokd_lightning.models.detectors.networks import safe_norm

Independence = Literal["v1", "v2"]
_MARGINS = {"v1": ((0.05, 0.1), 0.2), "v2": ((0.2, -0.8), 0.8)}  # (real, fake), between centres
_DECAY = 0.9  # of alpha, per epoch
_SHRINK, _KERNEL, _SIGMA, _NOISE = 0.5, 11, 7.0, 0.1
_THRESHOLD, _SLOPE = (0.4, 0.6), (3.0, 5.0)


def move_centres(centres: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """Return centres moved towards the mean of all ranks' rows, with their gradient.

    Args:
        centres: c, ``(M, C)``.
        rows: V, ``(B, M, C)``; all ranks have equally many.
        alpha: Share of the way.
    """
    mean = rows.mean(dim=0)
    if distributed.is_available() and distributed.is_initialized():
        mean = _mean_over_ranks(mean)
    return centres + alpha * (mean - centres)


def _mean_over_ranks(x: Tensor) -> Tensor:
    import torch.distributed.nn  # all_reduce with a gradient

    all_reduce: Callable[[Tensor], Tensor] = torch.distributed.nn.all_reduce
    total = all_reduce(x)
    return total / distributed.get_world_size()


def independence(
    rows: Tensor, centres: Tensor, label: Tensor, alpha: float, kind: Independence = "v1"
) -> Tensor:
    r"""Return the regional independence loss of rows, given the moved centres.

    .. math:: \frac{1}{BM} \sum_{ij} [\|V_{ij} - c_j\| - m(y_i)]_+
        + \frac{1}{M \alpha} \sum_{j<k} [m_c - \|c_j - c_k\|]_+

    m is 0.05 for real and 0.1 for fake, :math:`m_c` 0.2. ``v2`` takes one norm over all maps and
    pushes fakes away: margins 0.2, and 0.8 from below; :math:`m_c` 0.8.

    Args:
        rows: V, ``(B, M, C)``.
        centres: c, ``(M, C)``, see :func:`move_centres`.
        label: ``(B,)``, 1 is fake.
        alpha: Share of the way that the centres moved.
        kind: ``v1`` or ``v2``.
    """
    inner, between = _MARGINS[kind]
    margin = rows.new_tensor(inner)[label]
    if kind == "v1":
        within = (safe_norm(rows - centres) - margin[:, None]).relu().mean()
    else:
        apart = safe_norm((rows - centres).flatten(1))
        within = (apart * margin.sign() - margin).relu().mean()
    count = len(centres)
    j, k = torch.triu_indices(count, count, 1, device=centres.device)
    across = (between - safe_norm(centres[j] - centres[k])).relu().sum()
    return within + across / (count * alpha)


def attention_drop(image: Tensor, attention: Tensor, draws: Tensor, noise: Tensor) -> Tensor:
    """Degrade images where one attention map is high.

    The image is blended with itself, shrunk by half, blurred (sigma 7, 11 px), with noise of
    deviation 0.1, and resized back; the weight is the map, scaled to a maximum of 1, through a
    sigmoid shifted so that 0 stays 0.

    Args:
        image: ``(B, 3, H, W)``.
        attention: The map of each image, ``(B, 1, h, w)``, not negative.
        draws: Uniform numbers in [0, 1), ``(B, 2)``: threshold in 0.4 to 0.6, slope in 3 to 5.
        noise: Standard normal, ``(B, 3, H / 2, W / 2)``.
    """
    size = image.shape[-2:]
    weight = functional.interpolate(attention, size, mode="bilinear", align_corners=True)
    weight = weight / (weight.amax(dim=(2, 3), keepdim=True) + 1e-8)
    low, high = _THRESHOLD
    threshold = (low + (high - low) * draws[:, 0])[:, None, None, None]
    slope = (_SLOPE[0] + (_SLOPE[1] - _SLOPE[0]) * draws[:, 1])[:, None, None, None]
    bottom = (-threshold * slope).sigmoid()
    weight = (((weight - threshold) * slope).sigmoid() - bottom) / (1 - bottom)
    small = functional.interpolate(image, noise.shape[-2:], mode="bilinear", align_corners=True)
    small = gaussian_blur(small, _KERNEL, _SIGMA) + _NOISE * noise
    rough = functional.interpolate(small, size, mode="bilinear", align_corners=True)
    return image * (1 - weight) + rough * weight


class MultiAttLoss(DetectorLoss):
    r"""Cross-entropy, regional independence (RIL) and attention-guided augmentation (AGDA).

    AGDA runs the network again on images of which one attention map, drawn in proportion to
    :math:`\sqrt{mass + 1}`, was degraded: their cross-entropy, and the distance of the pooled
    textures of the maps that were not drawn. That pass does not move BatchNorm's statistics.

    Args:
        detector: A :class:`~tokd_lightning.models.detectors.MultiAtt`.
        independence: Weight of RIL; 1 in the paper, 0.5 in the authors' code.
        kind: RIL ``v1`` or ``v2``, see :func:`independence`.
        alpha: Share of the way that centres move per step, times 0.9 per epoch.
        agda: Weight of the cross-entropy of degraded images; 0 switches AGDA off.
        match: Weight of the distance of pooled textures.

    Attributes:
        centres: c, ``(M, C)``.

    Raises:
        ValueError: An option is out of range.
    """

    of = "multiatt"
    centres: Tensor

    def __init__(
        self,
        detector: Detector,
        independence: float = 1.0,
        kind: Independence = "v1",
        alpha: float = 0.05,
        agda: float = 1.0,
        match: float = 0.1,
    ) -> None:
        super().__init__(detector)
        if min(independence, agda, match) < 0 or not 0 < alpha <= 1:
            raise ValueError("weights of MultiAtt must not be negative, alpha within (0, 1]")
        if kind not in get_args(Independence):
            raise ValueError(f"kind must be one of {get_args(Independence)}, not {kind}")
        self.weights = (independence, agda, match)
        self.kind: Independence = kind
        self.alpha = alpha
        network: Any = detector
        shape = int(network.spec["attentions"]), int(network.texture.channels)
        self.register_buffer("centres", torch.zeros(shape))

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return ``ce``, ``independence``, and ``agda`` and ``match`` if AGDA is on."""
        label = batch["label"]
        losses = {"ce": self.cross_entropy(output.logits, label)}
        losses["independence"] = self._independence(output, label)
        if self.weights[1]:
            losses |= self._augmented(detector, output, batch)
        return losses

    def _independence(self, output: DetectorOutput, label: Tensor) -> Tensor:
        rows = output.auxiliary["pooled"]
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        alpha = self.alpha * _DECAY**self.epoch
        # v2 moves towards the reals alone
        towards = rows if self.kind == "v1" else self._reals(rows, label)
        moved = move_centres(self.centres.to(rows), towards, alpha)
        if self.training:
            self.centres.copy_(moved.detach())
        return self.weights[0] * independence(rows, moved, label, alpha, self.kind)

    def _reals(self, rows: Tensor, label: Tensor) -> Tensor:
        """Return the rows with those of fakes at the centres, which then do not move them."""
        return rows.where((label == 0)[:, None, None], self.centres.to(rows))

    def _augmented(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        image, attention = batch["image"], output.auxiliary["attention"]
        degraded, drawn = self.degrade(image, attention.detach(), batch)
        with _statistics_kept(detector):
            again = detector(degraded, **extras_of(detector, batch))
        others = 1 - functional.one_hot(drawn, attention.shape[1]).to(image.dtype)
        apart = safe_norm(again.auxiliary["pooled"] - output.auxiliary["pooled"])
        return {
            "agda": self.weights[1] * self.cross_entropy(again.logits, batch["label"]),
            "match": self.weights[2] * (apart * others).mean(),
        }

    @torch.no_grad()
    def degrade(
        self, image: Tensor, attention: Tensor, batch: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Return degraded images, and the number of the attention map of each, ``(B,)``."""
        attention = attention.float()
        chance = (attention.sum(dim=(2, 3)) + 1).sqrt()
        draws = torch.stack([torch.rand(3, generator=one) for one in generators(batch)])
        draws = draws.to(image.device)
        bounds = (chance / chance.sum(dim=1, keepdim=True)).cumsum(dim=1)
        drawn = (draws[:, :1] >= bounds).sum(dim=1).clamp_max(attention.shape[1] - 1)
        its = attention.gather(1, drawn[:, None, None, None].expand(-1, 1, *attention.shape[-2:]))
        side = [int(length * _SHRINK) for length in image.shape[-2:]]
        seeded = generators(batch, image.device)
        noise = [torch.randn(3, *side, generator=one, device=image.device) for one in seeded]
        degraded = attention_drop(image.float(), its, draws[:, 1:], torch.stack(noise))
        return degraded.to(image.dtype), drawn


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let BatchNorm use the statistics of the batch without adding them to the running ones."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
