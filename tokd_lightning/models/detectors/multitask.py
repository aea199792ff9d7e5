"""Multi-task: class, mask and image from one small auto-encoder (Nguyen et al., BTAS 2019)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.models.detectors.detector import Detector, DetectorLoss, DetectorOutput

_ENCODER = ((8, 1), (8, 2), (16, 1), (16, 2), (32, 1), (32, 2), (64, 1), (64, 2), (128, 1))
_SHARED = ((64, 1), (64, 2), (32, 1), (32, 2))
_BRANCH = ((16, 1), (16, 2), (8, 1), (8, 2))
_HALF = 64


def _layers(channels: int, sizes: tuple[tuple[int, int], ...], transposed: bool) -> nn.Sequential:
    """Return 3x3 convolutions with BN and ReLU, of these widths and strides."""
    layers: list[nn.Module] = []
    for width, stride in sizes:
        if transposed:
            layers.append(nn.ConvTranspose2d(channels, width, 3, stride, 1, stride - 1))
        else:
            layers.append(nn.Conv2d(channels, width, 3, stride, 1))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


class MultiTask(Detector):
    """Auto-encoder whose code has a half for real and a half for fake.

    The logits are the activations, mean |·| of each half of the 128 maps at stride 16. The decoder
    sees one half, the other is zeroed: that of the label in training, that of the larger activation
    otherwise. It gives a mask (two classes) and the image.

    Args:
        pretrained: There are no weights; accepted for the interface.
        decoders: Whether the network has its decoders; evaluation needs none.

    Source:
        H. H. Nguyen et al., "Multi-task learning for detecting and segmenting manipulated facial
        images and videos", BTAS 2019.
    """

    name, title = "multitask", "Multi-task"
    citation = "Nguyen et al., BTAS 2019"
    needs = frozenset({"mask"})
    reads_in_training = ("label",)
    size = 256
    multiple = 16
    unsettled = "cross-entropy of the mask: of logits or of probabilities"
    refusal = "its code is trained to be sparse per class, its maps are not for distillation"
    has_heat_map = True

    def __init__(self, pretrained: bool | str = False, decoders: bool = True) -> None:
        super().__init__(pretrained, decoders=decoders)
        self.encoder = _layers(3, _ENCODER, False)
        self.shared: nn.Module | None = None
        if decoders:
            self.shared = _layers(128, _SHARED, True)
            self.segment = nn.Sequential(
                _layers(32, _BRANCH, True), nn.ConvTranspose2d(8, 2, 3, 1, 1)
            )
            self.reconstruct = nn.Sequential(
                _layers(32, _BRANCH, True), nn.ConvTranspose2d(8, 3, 3, 1, 1), nn.Tanh()
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.5, 0.02)

    def forward(
        self, image: Tensor, label: Tensor | None = None, **extras: Tensor
    ) -> DetectorOutput:
        """Classify normalised images.

        Args:
            image: ``(B, 3, H, W)``; sides are multiples of 16.
            label: Which half the decoder sees, ``(B,)``; None takes the larger activation.
            **extras: Not used.
        """
        code = self.encoder(image)
        activations = code.unflatten(1, (2, _HALF)).abs().mean(dim=(2, 3, 4))
        auxiliary: dict[str, Tensor] = {}
        if self.shared is not None and self.keeps():
            half = activations.argmax(dim=1) if label is None else label
            kept = functional.one_hot(half, 2).to(code.dtype).repeat_interleave(_HALF, dim=1)
            decoded = self.shared(code * kept[:, :, None, None])
            auxiliary = {
                "mask_logits": self.segment(decoded),
                "reconstruction": self.reconstruct(decoded),
            }
        return DetectorOutput(activations, {16: code}, auxiliary)

    def heat_map(self, output: DetectorOutput) -> Tensor:
        """Return the mean |·| of the half of fake minus that of real, at each place."""
        halves = torch.unflatten(output.maps[16], 1, (2, _HALF)).abs().mean(dim=2)
        return halves[:, 1] - halves[:, 0]

    def panels(self, output: DetectorOutput) -> dict[str, Tensor]:
        """Return P(manipulated) of the mask."""
        found = output.auxiliary.get("mask_logits")
        return {} if found is None else {"mask": found.softmax(dim=1)[:, 1]}

    def make_loss(self) -> "MultiTaskLoss":
        """Return :class:`MultiTaskLoss`."""
        return MultiTaskLoss(self)


class MultiTaskLoss(DetectorLoss):
    r"""Activation, segmentation and reconstruction.

    .. math:: L = |a_{fake} - y| + |a_{real} - (1 - y)| + \mathrm{CE}(mask) + \mathrm{MSE}(image)

    The cross-entropy of the logits is logged as ``ce``, without a gradient.

    Args:
        detector: The network.
        activation: Weight of the first two terms.
        segmentation: Weight of the mask's cross-entropy; 0 needs no masks.
        reconstruction: Weight of the squared error of the image.
        double_softmax: Whether the mask's cross-entropy takes probabilities for logits, as the
            published code does; its smallest value is 0.313 then.

    Raises:
        ValueError: A weight is negative, or the network has no decoders.
    """

    smooths = False
    of = "multitask"

    def __init__(
        self,
        detector: Detector,
        activation: float = 1.0,
        segmentation: float = 1.0,
        reconstruction: float = 1.0,
        double_softmax: bool = False,
    ) -> None:
        super().__init__(detector)
        self.weights = (activation, segmentation, reconstruction)
        self.double_softmax = double_softmax
        if min(self.weights) < 0:
            raise ValueError("the weights of Multi-task must not be negative")
        if max(self.weights[1:]) > 0 and not detector.spec.get("decoders", True):
            raise ValueError("Multi-task without decoders has neither mask nor image: weights 0")

    @property
    def supervision(self) -> tuple[str, ...]:
        """The masks, if they have a weight."""
        return ("mask",) if self.weights[1] else ()

    @property
    def note(self) -> str:
        """Tell that masks are not learned."""
        return "" if self.weights[1] else "Multi-task: without masks, their term is off"

    def forward(
        self, detector: Detector, output: DetectorOutput, batch: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return ``activation``, ``segmentation``, ``reconstruction``; ``ce`` has no gradient."""
        label = batch["label"]
        wide = torch.promote_types(output.logits.dtype, torch.float32)
        a = output.logits.to(wide)
        target = functional.one_hot(label, 2).to(wide)
        losses = {"activation": self.weights[0] * (a - target).abs().sum(dim=1).mean()}
        if "mask_logits" in output.auxiliary:
            logits = output.auxiliary["mask_logits"].to(wide)
            # Without masks the term is 0, but its parameters still take part in the step (DDP).
            mask = self._segmentation(logits, batch["mask"]) if self.weights[1] else logits.sum()
            losses["segmentation"] = self.weights[1] * mask
            image = batch["image"].to(wide)
            error = functional.mse_loss(output.auxiliary["reconstruction"].to(wide), image)
            losses["reconstruction"] = self.weights[2] * error
        return losses | {"ce": self.cross_entropy(a, label).detach()}

    def _segmentation(self, logits: Tensor, mask: Tensor) -> Tensor:
        known = mask.isfinite().all(dim=(1, 2, 3))
        target = (mask[:, 0] >= 0.5).long()
        scores = logits.softmax(dim=1) if self.double_softmax else logits
        each = functional.cross_entropy(scores, target, reduction="none").mean(dim=(1, 2))
        return (each * known).sum() / known.sum().clamp_min(1)
