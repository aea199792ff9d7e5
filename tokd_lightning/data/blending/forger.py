"""Base class of forgers: draws of one sample, and their application to a real frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tokd_lightning.data.blending.colour import Image
from tokd_lightning.data.blending.masks import Mask
from tokd_lightning.data.blending.points import Points

_ATTEMPTS = 10


class Face(NamedTuple):
    """A real frame, RGB uint8 ``(S, S, 3)``, and its 68 points in pixels, ``(68, 2)``."""

    image: Image
    points: Points


class Forged(NamedTuple):
    """A sample: RGB uint8 ``(S, S, 3)``, and its mask m in [0, 1], ``(S, S)``, 0 if real."""

    image: Image
    mask: Mask


Donor = Callable[[np.random.Generator], Face]


class Forger(ABC):
    """Maker of forged samples from real frames.

    Both classes go through the same changes: ``__call__`` with ``fake=False`` returns the real
    counterpart, equal except for the blend, so that a network cannot learn the changes themselves.

    Attributes:
        name: Name of the method in tables.
        needs_donor: Whether a second frame, of another video, is blended in.
        nearest: A donor is drawn among this many frames with the most similar points.
    """

    name: ClassVar[str]
    needs_donor: ClassVar[bool] = False
    nearest: int = 1

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int) -> Any:
        """Draw everything random about a sample of ``size`` pixels."""

    @abstractmethod
    def apply(self, face: Face, draws: Any, fake: bool, donor: Face | None = None) -> Forged | None:
        """Make a sample from given draws; None if nothing is left of the mask."""

    def __call__(
        self, face: Face, rng: np.random.Generator, fake: bool, donor: Donor | None = None
    ) -> Forged:
        """Make a sample.

        Args:
            face: The real frame; the background of a blend.
            rng: Equal states give equal samples.
            fake: Whether to blend; otherwise the real counterpart is returned.
            donor: Chooses the foreground, if :attr:`needs_donor`.

        Raises:
            ValueError: Ten draws gave an empty mask; the message is a short reason.
        """
        other = donor(rng) if donor is not None and self.needs_donor else None
        for _ in range(_ATTEMPTS):
            made = self.apply(face, self.draw(rng, len(face.image)), fake, other)
            if made is not None:
                return made
        raise ValueError("its landmarks give an empty mask: they are outside of the picture")
