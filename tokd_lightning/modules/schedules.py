"""Learning rate schedules that torch does not have."""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class LateLinearLR(LRScheduler):
    r"""A constant learning rate that falls linearly at the end.

    .. math:: \eta_t = \eta_0 \, \min\!\left(1, \frac{T - t}{T - s}\right)

    It would reach 0 at T, after the last step of a run of T.

    Args:
        optimizer: The optimizer.
        start: s, the step from which it falls.
        total: T, the number of steps.

    Raises:
        ValueError: ``start`` is not from 0 to ``total`` - 1.
    """

    def __init__(self, optimizer: Optimizer, start: int, total: int) -> None:
        if not 0 <= start < total:
            raise ValueError(f"start must be from 0 to total - 1, {total - 1}, not {start}")
        self.start, self.total = start, total
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every parameter group."""
        left = max(0.0, (self.total - self.last_epoch) / (self.total - self.start))
        return [base * min(1.0, left) for base in self.base_lrs]
