"""The RGB-Frequency Attention Module (Fig. 1)."""

from typing import Literal

import torch
from torch import Tensor, nn

Attention = Literal["spatial", "elementwise", "none"]
"""Granularity of an RFAM's attention."""


class RFAM(nn.Module):
    """RGB-Frequency Attention Module (Sec. 3, Fig. 1), after Chen et al., LRL, AAAI 2021.

    The two branches' maps are concatenated, two convolutional modules turn them into attention
    maps in (0, 1), these are split by channel into one part per branch, and each branch is
    multiplied by its part. The paper does not specify the body: ``Conv1x1(2C -> 2C) + BN + ReLU``
    and then

    - ``spatial``: ``Conv3x3(2C -> 2) + sigmoid``, one ``(B, 1, H, W)`` map per branch. With it
      the teacher has Table 1's size.
    - ``elementwise``: ``Conv1x1(2C -> 2C) + sigmoid``, one weight per element of each branch.
    - ``none``: no attention; the branches meet only in the classifier.

    Args:
        channels: Channels C of each branch.
        attention: The body.

    Raises:
        ValueError: Unknown ``attention``.
    """

    def __init__(self, channels: int, attention: Attention = "spatial") -> None:
        super().__init__()
        both = 2 * channels
        self.body: nn.Module | None
        if attention == "spatial":
            last = nn.Conv2d(both, 2, kernel_size=3, padding=1)
        elif attention == "elementwise":
            last = nn.Conv2d(both, both, kernel_size=1)
        elif attention == "none":
            self.body = None
            return
        else:
            raise ValueError(f"attention must be spatial, elementwise or none, got {attention!r}")
        self.body = nn.Sequential(
            nn.Conv2d(both, both, kernel_size=1, bias=False),
            nn.BatchNorm2d(both),
            nn.ReLU(inplace=True),
            last,
            nn.Sigmoid(),
        )

    def forward(self, rgb: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """Weight two maps ``(B, C, H, W)`` by the attention computed from both."""
        if self.body is None:
            return rgb, frequency
        for_rgb, for_frequency = self.body(torch.cat([rgb, frequency], dim=1)).chunk(2, dim=1)
        return rgb * for_rgb, frequency * for_frequency
