"""Exponential moving average of the weights that train."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tokd_lightning.errors import TokdError


class WeightAverage:
    """Moving average of a module's weights and of its BatchNorm statistics.

    After step t, w' <- b w' + (1 - b) w with b = min(beta, (1 + t) / (10 + t)), which forgets the
    initial weights of short runs too. Counters are copied. Only tensors that train are kept.

    Args:
        module: Module in training.
        names: Entries of its state dict that are averaged.
        decay: beta, in (0, 1).
        start: Average and number of steps of a run that is resumed; None starts at the weights.

    Attributes:
        steps: Number of steps averaged, t.
        inside: Whether the module holds the average at the moment, and this object the weights.
    """

    def __init__(
        self,
        module: nn.Module,
        names: list[str],
        decay: float,
        start: tuple[Mapping[str, Tensor], int] | None = None,
    ) -> None:
        self._module = module
        self._names = names
        self.decay = decay
        self.inside = False
        live = self._live()
        given, self.steps = (live, 0) if start is None else start
        self._other = {name: given[name].detach().to(live[name], copy=True) for name in names}

    def _live(self) -> dict[str, Tensor]:
        state = self._module.state_dict()
        return {name: state[name] for name in self._names}

    def follow(self, global_step: int) -> None:
        """Update the average if a step was made since the last call.

        Args:
            global_step: Number of steps of the run; a batch in parts has one in its last part.
        """
        if global_step > self.steps:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = self._live()
        floats = [name for name, value in live.items() if value.is_floating_point()]
        means, weights = ([of[name] for name in floats] for of in (self._other, live))
        average: Any = get_ema_multi_avg_fn  # torch's is without types
        average(decay)(means, weights, self.steps)
        for name in live.keys() - set(floats):
            self._other[name].copy_(live[name])

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the module's weights and the average, in place."""
        for name, value in self._live().items():
            kept = value.clone()
            value.copy_(self._other[name])
            self._other[name].copy_(kept)
        self.inside = not self.inside

    def both(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (average, weights) of the averaged entries.

        Args:
            state: State dict of the module now.
        """
        live = {name: state[name] for name in self._names}
        return (live, self._other) if self.inside else (self._other, live)


def check_decay(decay: float | None) -> None:
    """Check the decay of an average.

    Raises:
        TokdError: It is not between 0 and 1.
    """
    if decay is not None and not 0 < decay < 1:
        raise TokdError(f"--model.ema must be above 0 and below 1, such as 0.999, not {decay}")


WEIGHTS = "weights_in_training"
"""Entry of a checkpoint whose state dict is an average: the weights for resuming the training."""


def write_average(checkpoint: dict[str, Any], average: WeightAverage) -> None:
    """Make a checkpoint's state dict that of the average; keep the weights next to it."""
    state = checkpoint["state_dict"]
    mean, weights = average.both(state)
    checkpoint["state_dict"] = {**state, **mean}
    checkpoint[WEIGHTS] = {"steps": average.steps, "state_dict": dict(weights)}


def read_average(checkpoint: dict[str, Any]) -> tuple[dict[str, Tensor], int] | None:
    """Make a checkpoint's state dict that of training again; return the average and its steps."""
    if (kept := checkpoint.get(WEIGHTS)) is None:
        return None
    state, weights = checkpoint["state_dict"], kept["state_dict"]
    average = {name: state[name] for name in weights}
    checkpoint["state_dict"] = {**state, **weights}
    return average, int(kept["steps"])


def averaged_entries(module: Any) -> list[str]:
    """Return the entries of a module's state dict that are averaged.

    They are those that train of the network and, for a teacher, of its projectors and their
    classifier; a method's own parameters and rotations, which no reader uses, are not.

    Args:
        module: A DetectionModule.
    """
    tuning = module.tuning
    frozen = set() if tuning is None else {f"{module.kind}.{n}" for n in tuning.frozen_entries()}
    parts = (f"{module.kind}.", "projectors.", "auxiliary.")
    return [name for name in module.state_dict() if name.startswith(parts) and name not in frozen]
