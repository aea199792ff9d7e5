"""Detection of a non-finite loss without device synchronisation."""

import torch
from torch import Tensor


class FiniteLoss:
    """Records, on the device, the frames of the first batch whose loss is not finite."""

    def __init__(self) -> None:
        self._bad: Tensor | None = None
        self._rows: Tensor | None = None
        self._good = torch.zeros((), dtype=torch.int64)

    def note(self, loss: Tensor, rows: Tensor) -> None:
        """Check the loss of a batch, without waiting for the device.

        Args:
            loss: Scalar.
            rows: Row numbers of its frames in the split's table.
        """
        bad = ~loss.detach().isfinite()
        if self._bad is None or self._rows is None:
            self._bad, self._rows, self._good = bad, rows, torch.zeros_like(bad, dtype=torch.int64)
        elif self._rows.shape == rows.shape:
            self._rows = torch.where(self._bad, self._rows, rows)
        elif not self.broken:
            self._rows = rows
        self._bad = self._bad | bad
        self._good = self._good + ~self._bad

    @property
    def broken(self) -> bool:
        """Whether a loss was not finite; waits for the device."""
        return self._bad is not None and bool(self._bad)

    @property
    def good(self) -> int:
        """Number of batches before the first bad one."""
        return int(self._good)

    @property
    def rows(self) -> list[int]:
        """Row numbers of the first bad batch, or of the last batch if none was bad."""
        return [] if self._rows is None else self._rows.tolist()
