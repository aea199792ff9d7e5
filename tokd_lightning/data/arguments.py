"""Checks of a data module's arguments."""

from tokd_lightning.data.qualities import same_quality
from tokd_lightning.data.sampling import Balance
from tokd_lightning.errors import TokdError


def check_sizes(crop: int | None, size: int, max_unpaired: float, **numbers: int | None) -> None:
    """Check the numbers of a :class:`~tokd_lightning.data.datamodule.FrameDataModule`.

    Args:
        crop: At most ``size``.
        size: At least 1.
        max_unpaired: A share.
        **numbers: ``num_workers`` and ``seed``, from 0 on; others, from 1 on, or None.

    Raises:
        TokdError: One is out of range.
    """
    if crop is not None and not 1 <= crop <= size:
        raise TokdError(f"crop must be between 1 and size {size}, not {crop}")
    for argument, value in ({"size": size} | numbers).items():
        if value is None:
            continue
        if argument in ("num_workers", "seed"):
            if value < 0:
                raise TokdError(f"{argument} must be 0 or larger, not {value}")
        elif value < 1:
            raise TokdError(f"{argument} must be at least 1, not {value}")
    if not 0 <= max_unpaired <= 1:
        raise TokdError(f"max_unpaired is a share between 0 and 1, not {max_unpaired}")


def check_sources(
    quality: str,
    teacher_quality: str | None,
    forge: str | None,
    balance: Balance,
    batch_size: int,
    clip: int | None,
) -> None:
    """Check what the samples of a data module are made of.

    Raises:
        TokdError: Arguments contradict each other.
    """
    if teacher_quality is not None and same_quality(quality, teacher_quality):
        raise TokdError(
            f"teacher_quality {teacher_quality} is the student's own quality: leave it out, or "
            "name another one of the data set"
        )
    if clip is not None and (forge or teacher_quality):
        raise TokdError("clips consist of stored frames only: leave out forge, teacher_quality")
    if forge is None:
        return
    if teacher_quality is not None:
        raise TokdError("forged frames have one quality: leave out forge or teacher_quality")
    if balance not in ("none", "half_batch", "paired"):  # a forged half is paired by its nature
        raise TokdError(f"with forge half of a batch is forged: leave out balance {balance}")
    if batch_size % 2:
        raise TokdError(f"forge needs an even batch size, not {batch_size}")
