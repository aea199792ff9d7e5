"""Base of methods with a loss per teacher branch: weights, and the map the branches share."""

import logging
import math
from collections.abc import Collection, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from tokd_lightning.distillation.distiller import BRANCHES, Branch, Branches, Distiller
from tokd_lightning.distillation.gradients import BranchGradients, Conflict, polar
from tokd_lightning.distillation.gradients import conflict as conflict_of
from tokd_lightning.distillation.rotation import Layout, Rotation, Target
from tokd_lightning.errors import TokdError

Rotated = Literal["none", "learned", "frozen_random"]
Start = Literal["identity", "random"]

logger = logging.getLogger("tokd_lightning")


class Branched(Distiller):
    """A method with a loss for each branch of the teacher, computed from one map of the student.

    The branches share one map z of the student. Each reads it in its own form:
    m_k = R_k z with a rotation (Eq. 11, 12), otherwise z itself. With two branches, their gradients
    at z are recorded. A subclass sets the map once (:meth:`share_map`) and calls
    :meth:`branch_maps` in its forward. Diagnostics are ``distance_<branch>``, unweighted; some
    methods add their own.

    Args:
        weights: Branch -> weight of its loss in L_S, above 0, for one branch or both.
    """

    def __init__(self, weights: Mapping[Branch, float]) -> None:
        super().__init__()
        self.weights = {str(branch): weight for branch, weight in weights.items()}
        self.branches = "both" if len(weights) == 2 else next(iter(weights))
        self.gradients: BranchGradients | None = None

    def share_map(
        self,
        shape: tuple[int, int, int],
        rotation: Rotated = "none",
        layout: Layout = "flat_prefix",
        dim: int = 1024,
        init: Start = "identity",
        target: Target = "mean",
        conflict: Conflict = "none",
        seed: int | None = None,
    ) -> None:
        """Set the map that the branches share, and how each reads it.

        With a single branch no rotation is applied, which is logged, and there is no conflict to
        resolve.

        Args:
            shape: ``(C, H, W)`` of the map z.
            rotation: "learned" (the paper), "frozen_random" (a control) or "none".
            layout: Entries of z rotated by R, see ``Rotation``.
            dim: d, the size of R.
            init: Initial value of a learned R.
            target: g_n of Eq. 15, see ``Rotation``.
            conflict: Treatment of the branches' gradients at z, see ``BranchGradients``.
            seed: Seed of random rotations; None uses ``torch.initial_seed()``.

        Raises:
            TokdError: ``dim`` does not fit the map, or ``conflict`` is set for a single branch.
            ValueError: An argument is not one of its choices.
        """
        check_choice("rotation", rotation, get_args(Rotated))
        check_choice("conflict", conflict, get_args(Conflict))
        if self.branches != "both":
            if conflict != "none":
                raise TokdError(
                    f"conflict: {conflict} is between the gradients of two branches, but only the "
                    f"{self.branches} branch is distilled: set branches: both, or conflict: none"
                )
            if rotation != "none":
                logger.info("only the %s branch is distilled: rotation none", self.branches)
        elif rotation == "none":
            self.gradients = BranchGradients(BRANCHES, conflict)
        else:
            learned = rotation == "learned"
            start = init if learned else "random"
            drawn = torch.initial_seed() % 2**62 if seed is None else seed
            self.rotation = Rotation(
                shape, dim, layout, BRANCHES, start, drawn, target, learned, conflict
            )
            self.gradients = self.rotation.gradients

    def branch_maps(self, z: Tensor) -> dict[str, Tensor]:
        """Return the map as each branch reads it: m_k (Eq. 11, 12), or the map itself.

        Args:
            z: The map that the branches share, ``(B, C, H, W)``.
        """
        if self.rotation is not None:
            maps: dict[str, Tensor] = self.rotation(z)
            return maps
        return self.gradients.aliases(z) if self.gradients is not None else {self.branches: z}

    def take_gradients(self) -> dict[str, Tensor] | None:
        """Return and clear v^k of both branches; see :meth:`Distiller.take_gradients`."""
        return None if self.gradients is None else self.gradients.pop()

    def gradient_diagnostics(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the conflict of the branches (Fig. 4); see ``Rotation.gradient_diagnostics``.

        Without a rotation "before" and "after" are equal, and only the full vector is compared.

        Args:
            gradients: The result of :meth:`take_gradients`.
        """
        if self.rotation is not None:
            return self.rotation.gradient_diagnostics(gradients, self.weights)
        if self.gradients is not None:
            return conflict_of({b: polar(v) for b, v in gradients.items()}, self.weights)
        return {}


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise a ValueError if an argument is not one of its choices."""
    if value not in choices:
        raise ValueError(f"{name} {value!r} is not one of {choices}")


def active_weights(
    weights: Mapping[Branch, float], branches: Branches, name: str = "weight"
) -> dict[Branch, float]:
    """Return the weights of the distilled branches, without those of weight 0.

    Args:
        weights: Branch -> weight, for both branches.
        branches: The requested branches.
        name: Name of the weights in error messages.

    Raises:
        TokdError: A weight is negative or not finite, or no branch is left.
        ValueError: ``branches`` is not one of its choices.
    """
    check_choice("branches", branches, get_args(Branches))
    if not all(0 <= weight < math.inf for weight in weights.values()):
        raise TokdError(f"{name} must be finite and must not be negative, got {dict(weights)}")
    active = {b: weights[b] for b in BRANCHES if branches in (b, "both") and weights[b] > 0}
    if not active:
        raise TokdError(
            f"branches: {branches} has weight 0, nothing is distilled: set its {name} above 0, or "
            "use the distiller Vanilla"
        )
    return active
