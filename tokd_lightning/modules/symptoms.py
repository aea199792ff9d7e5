"""Warnings of training that may not work as expected."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from tokd_lightning.distillation import Rotation
from tokd_lightning.models import Backbone
from tokd_lightning.models.tuning import Tune

COLLAPSED = 0.2
NONE = 1e-6  # a smaller initial variance means a map collapsed from the start, up to rounding
IDLE = 1e-2


def warn_of_collapse(now: Mapping[str, float], first: Mapping[str, float]) -> None:
    """Warn if the batch variance of a condensed map fell below a fifth of its initial value.

    Args:
        now: Name -> variance.
        first: The initial variances.
    """
    for name, value in now.items():
        if first[name] > NONE and value < COLLAPSED * first[name]:
            rank_zero_warn(
                f"maps/{name} fell from {first[name]:.2g} to {value:.2g}: the condensed maps "
                "collapse, the distillation loss means little from now on"
            )


def warn_of_idle_rotation(rotation: Rotation) -> None:
    """Warn if a rotation is still close to the identity after its first epoch."""
    drift = rotation.drift()
    distance = max(float(v) for name, v in drift.items() if name.startswith("distance_"))
    if distance < IDLE:
        rank_zero_warn(
            f"after the first epoch |R - I| / sqrt(d) is {distance:.1e}: the rotation does "
            "nothing; raise the lr of rotation_optimizer or take direction: normalized"
        )


def announce_normalisation(
    network: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]
) -> None:
    """Log a notice if pretrained weights were trained with another normalisation.

    Args:
        network: Module that holds the backbones.
        mean: Mean of the data's normalisation.
        std: Std of the data's normalisation.
    """
    known = {m.trained_on for m in network.modules() if isinstance(m, Backbone) and m.trained_on}
    for theirs in sorted(known):
        pairs = ((theirs.mean, mean), (theirs.std, std))
        if any(_channels(a) != _channels(b) for a, b in pairs):
            rank_zero_info(
                f"the weights of {theirs.of} were trained on images with mean "
                f"{_listed(theirs.mean)} and std {_listed(theirs.std)}; here these are "
                f"{_listed(mean)} and {_listed(std)}: to use the former, set --data.mean "
                f"'{_listed(theirs.mean)}' --data.std '{_listed(theirs.std)}', for teacher and "
                "student alike"
            )


def announce_tuning(network: Any, tune: Tune) -> None:
    """Log how many weights train, and warn if the frozen ones are random.

    Args:
        network: The network, with a frozen part.
        tune: What trains.
    """
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)
    rank_zero_info(f"tune {tune}: {trained:,} of {total:,} weights train ({trained / total:.3%})")
    if network.started_from is False:
        rank_zero_warn(
            f"--model.tune {tune} freezes random weights: name trained ones with "
            "--model.pretrained, or leave --model.tune all"
        )


def _channels(value: float | Sequence[float]) -> list[float]:
    values = value if isinstance(value, Sequence) else [value]
    return [round(float(v), 6) for v in (values if len(values) > 1 else [*values] * 3)]


def _listed(value: float | Sequence[float]) -> str:
    channels = _channels(value)
    return f"{channels[0]:g}" if len(set(channels)) == 1 else str(channels)
