"""What a distillation says of itself when it does nothing: warnings, once an epoch."""

from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_warn

from tokd_lightning.distillation import Rotation

COLLAPSED = 0.2
NONE = 1e-6  # a variance at which a map was collapsed from the start, but for rounding
IDLE = 1e-2


def warn_of_collapse(now: Mapping[str, float], first: Mapping[str, float]) -> None:
    """Warn where the batch variance of a condensed map fell below a fifth of its start.

    Args:
        now: Name -> variance.
        first: The same at the start.
    """
    for name, value in now.items():
        if first[name] > NONE and value < COLLAPSED * first[name]:
            rank_zero_warn(
                f"maps/{name} fell from {first[name]:.2g} to {value:.2g}: the condensed maps "
                "collapse, the distillation loss says little from here on"
            )


def warn_of_idle_rotation(rotation: Rotation) -> None:
    """Warn where a rotation has hardly left the identity after its first epoch."""
    drift = rotation.drift()
    distance = max(float(v) for name, v in drift.items() if name.startswith("distance_"))
    if distance < IDLE:
        rank_zero_warn(
            f"after the first epoch |R - I| / sqrt(d) is {distance:.1e}: the rotation does "
            "nothing; raise the lr of rotation_optimizer or take direction: normalized"
        )
