"""Objectives on the features that the classifier reads, and a head that normalises them."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.errors import TokdError

NORMALISED = "normalised"
"""Entry of a network's ``spec`` if its head normalises the features; others have none."""

MIN_NORM = 1e-12
"""Shortest length that features are divided by."""


class NormalisedLinear(nn.Linear):
    """Linear classifier on features of unit length: y = W z / |z|_2 + b.

    The logits do not depend on the length of the features, which lie on a hypersphere.

    Source:
        A. Yermakov et al., "Deepfake detection that generalizes across benchmarks" (GenD), 2025,
        arXiv:2508.06248.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Classify features ``(B, C)``."""
        return super().forward(functional.normalize(input, dim=1, eps=MIN_NORM))


def normalise_head(network: Any) -> None:
    """Have the linear classifier of a network normalise its features; weights and names stay.

    Args:
        network: With a ``classifier`` and a ``spec``, to which :data:`NORMALISED` is added.

    Raises:
        TokdError: Its classifier is not a single linear layer of several features.
    """
    linear = getattr(network, "classifier", None)
    if type(linear) is not nn.Linear or linear.in_features == 1:
        raise TokdError(
            f"--model.normalised_head: {type(network).__name__} has no single linear classifier of "
            "features"
        )
    head = NormalisedLinear(linear.in_features, linear.out_features, device="meta")
    head.weight, head.bias = linear.weight, linear.bias
    network.classifier = head
    network.spec[NORMALISED] = True


class Objectives(NamedTuple):
    """Weights of the objectives in addition to the cross-entropy; 0 leaves one out.

    Attributes:
        label_smoothing: epsilon in [0, 1): the cross-entropy's target is 1 - epsilon / 2 for the
            class and epsilon / 2 for the other one.
        alignment: Weight of :func:`alignment`.
        uniformity: Weight of :func:`uniformity`.
    """

    label_smoothing: float = 0.0
    alignment: float = 0.0
    uniformity: float = 0.0

    def check(self) -> None:
        """Check the ranges.

        Raises:
            TokdError: A weight is negative, or the smoothing not in [0, 1).
        """
        for name, value in self._asdict().items():
            if value < 0 or (name == "label_smoothing" and value >= 1):
                below = " and below 1" if name == "label_smoothing" else ""
                raise TokdError(f"--model.{name} must be at least 0{below}, not {value}")

    @property
    def read_features(self) -> bool:
        """Whether one of them reads features."""
        return bool(self.alignment or self.uniformity)

    def on_features(self, features: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Return the weighted objectives on features ``(B, C)``, by name."""
        found: dict[str, Tensor] = {}
        if self.alignment:
            found["alignment"] = self.alignment * alignment(features, label)
        if self.uniformity:
            found["uniformity"] = self.uniformity * uniformity(features)
        return found


def alignment(features: Tensor, label: Tensor) -> Tensor:
    """Return the alignment of features of one class, at least 0 and at most 4.

    L = mean over pairs i < j with y_i = y_j of |f_i - f_j|^2, with f = z / |z|_2; 0 without such
    pairs.

    Args:
        features: z, ``(B, C)``; not normalised.
        label: y, ``(B,)``.

    Source:
        T. Wang, P. Isola, "Understanding contrastive representation learning through alignment and
        uniformity on the hypersphere", ICML 2020, Eq. of L_align with alpha = 2; positive pairs are
        those of one class, as in GenD.

    >>> alignment(torch.tensor([[3.0, 0.0], [0.0, 1.0], [5.0, 0.0]]), torch.tensor([0, 0, 1]))
    tensor(2.)
    """
    squares, first, second = _pairs(features)
    same = (label[first] == label[second]).to(squares)
    return (squares * same).sum() / same.sum().clamp_min(1)


def uniformity(features: Tensor, t: float = 2.0) -> Tensor:
    """Return the uniformity of features on the hypersphere, at least -4 t and at most 0.

    L = log mean over pairs i < j of exp(-t |f_i - f_j|^2), with f = z / |z|_2; 0 without pairs.
    It falls as the features spread.

    Args:
        features: z, ``(B, C)``; not normalised.
        t: Scale of the Gaussian potential.

    Source:
        Wang and Isola 2020, L_uniform with t = 2.

    >>> uniformity(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor(-4.)
    """
    squares, *_ = _pairs(features)
    if not len(squares):
        return features.sum() * 0
    return torch.logsumexp(-t * squares, 0) - math.log(len(squares))


def _pairs(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |f_i - f_j|^2 of all pairs i < j of a batch, and their i and j."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    unit = functional.normalize(wide, dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), 1, device=unit.device)
    return (unit[first] - unit[second]).square().sum(1), first, second
