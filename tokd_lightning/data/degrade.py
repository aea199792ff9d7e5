"""Seeded chains of perturbations of training images, as compression and re-sending leave them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tokd_lightning.data.codecs import refuse_without_h264
from tokd_lightning.data.perturbations import PERTURBATIONS, STRENGTHS, chosen, perturb_by
from tokd_lightning.errors import TokdError

DegradeFor = Literal["both", "student"]
ALL = ("h264", "jpeg", "resize", "blur", "noise", "brightness")
_WHOLE = ("h264", "jpeg")  # parameters of encoders
_SALT = 5  # keeps the draws apart from a forger's of the same sample


class Degradation:
    """Chain of perturbations of one training image, drawn again for every sample.

    Each link happens with the probability ``share``; those that happen are applied in a random
    order, at a strength s drawn uniformly from [1, ``strength``]. The parameter at s is
    interpolated between the values at the strengths 1 to 5 of
    :data:`~tokd_lightning.data.perturbations.PERTURBATIONS`; a factor f of ``brightness`` becomes
    2 - f in half of the cases.

    Args:
        links: Names of the perturbations.
        share: Probability of each link, in (0, 1].
        strength: Largest strength, in [1, 5].

    Raises:
        TokdError: A name is unknown, a number is out of range, or H.264 cannot be encoded.
    """

    def __init__(
        self, links: Sequence[str] = ALL, share: float = 0.3, strength: float = 3.0
    ) -> None:
        self.links = chosen(",".join(links))
        if not 0 < share <= 1:
            raise TokdError(f"degrade_options: share is a probability above 0, not {share}")
        if not STRENGTHS[0] <= strength <= STRENGTHS[-1]:
            raise TokdError(f"degrade_options: strength is between 1 and 5, not {strength}")
        self.share = share
        self.strength = strength
        if "h264" in self.links:
            refuse_without_h264()

    def describe(self, images: DegradeFor) -> str:
        """Return a sentence on what is degraded, and how often.

        Args:
            images: Whose images are.
        """
        whole = 1 - (1 - self.share) ** len(self.links)
        whose = "teacher and student alike" if images == "both" else "the student alone"
        return (
            f"{whole:.0%} of the training images are degraded, for {whose}: each of "
            f"{', '.join(self.links)} with probability {self.share:g}, at strengths from 1 to "
            f"{self.strength:g}"
        )

    def draw(self, *key: int) -> list[tuple[str, float]]:
        """Draw the chain of a sample: perturbations and values of their parameters, in order.

        Args:
            *key: Seed, epoch and row; equal keys give equal chains.
        """
        rng = np.random.default_rng([_SALT, *key])
        happens = rng.random(len(self.links)) < self.share
        strengths = rng.uniform(1, self.strength, len(self.links))
        brighter = rng.random() < 0.5
        chain = []
        for number in rng.permutation(len(self.links)).tolist():
            if not happens[number]:
                continue
            name = self.links[number]
            value = float(np.interp(strengths[number], STRENGTHS, PERTURBATIONS[name].values))
            if name in _WHOLE:
                value = round(value)
            elif name == "brightness" and brighter:
                value = 2 - value
            chain.append((name, value))
        return chain

    def __call__(self, images: Tensor, *key: int) -> Tensor:
        """Degrade the images of one sample alike.

        Args:
            images: uint8, ``(3, H, W)``, or of a clip ``(T, 3, H, W)``.
            *key: See :meth:`draw`; noise too depends on it alone.
        """
        chain = self.draw(*key)
        if not chain:
            return images
        work = images.reshape(-1, *images.shape[-3:]).to(
            torch.float32, memory_format=torch.contiguous_format
        )
        work, keys = work / 255, [f"{key}/{number}" for number in range(len(work))]
        for name, value in chain:
            work = perturb_by(work, name, value, keys)
        return (work * 255).round().to(torch.uint8).reshape(images.shape)


def make_degradation(
    links: str | Sequence[str] | None, options: Mapping[str, Any] | None
) -> Degradation | None:
    """Make the chain of ``--data.degrade``; None without one.

    Args:
        links: Names of perturbations, as a list or with commas between them; ``all`` stands for
            :data:`ALL`.
        options: ``share`` and ``strength`` of :class:`Degradation`.

    Raises:
        TokdError: A name or an option is unknown, or a value is out of range.
    """
    if links is None:
        if options:
            raise TokdError("degrade_options belong to --data.degrade: name its links, or all")
        return None
    given = dict(options or {})
    known = [name for name in inspect.signature(Degradation).parameters if name != "links"]
    if unknown := sorted(given.keys() - {*known}):
        raise TokdError(
            f"degrade_options: no option {unknown[0]!r}; choose from {' and '.join(known)}"
        )
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TokdError(f"degrade_options: {name} must be a number, not {value!r}")
    names = links.split(",") if isinstance(links, str) else [*links]
    return Degradation(ALL if names == ["all"] else names, **given)
