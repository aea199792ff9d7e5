"""Feature projectors: student and teacher maps to condensed maps, Sec. 4.1, Eq. 2-5."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

Norm = Literal["each", "last"]


def projector(
    channels: int, width: int, depth: int, kernel: int, normalised: Collection[int]
) -> nn.Sequential:
    """Return ``depth`` convolutions with stride 1, those in ``normalised`` with BN and ReLU.

    Args:
        channels: Channels of the input map.
        width: Channels of every map after that.
        depth: Number of convolutions.
        kernel: Odd kernel size; padding keeps the grid.
        normalised: Numbers (from 1) of the convolutions followed by BN and ReLU.

    Raises:
        ValueError: ``kernel`` is even.
    """
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {kernel}")
    layers: list[nn.Module] = []
    for number in range(1, depth + 1):
        ins, norm = (channels if number == 1 else width), number in normalised
        layers.append(nn.Conv2d(ins, width, kernel, padding=kernel // 2, bias=not norm))
        if norm:
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def student_projector(
    branch: Literal["rgb", "frequency"], channels: int, width: int, kernel: int, norm: Norm
) -> nn.Sequential:
    """Return G_Sr, two convolutions, or G_Sf, three (Sec. 4.1); arguments as in :func:`projector`.

    Args:
        branch: "rgb" for G_Sr, "frequency" for G_Sf.
        channels: Channels of S_B(x).
        width: Channels of the condensed map.
        kernel: Odd kernel size.
        norm: BN and ReLU after "each" convolution or only after the "last".
    """
    depth = {"rgb": 2, "frequency": 3}[branch]
    return projector(channels, width, depth, kernel, _normalised(depth, norm))


class TeacherProjectors(nn.Module):
    """G_Tr and G_Tf, which condense the teacher's two maps (Sec. 4.1, Eq. 4, 5).

    G_Tr has three convolutions, G_Tf five with BN and ReLU after the second and the fourth.

    Args:
        channels: Channels of each of the teacher's maps.
        width: Channels of the condensed maps.
        kernel: Odd kernel size. The paper does not specify it.
        norm: BN and ReLU of G_Tr after "each" convolution or only after the "last".
        branches: Names of the teacher's branches, "rgb" before "frequency"; each is also an
            attribute, its stack.
    """

    rgb: nn.Sequential
    frequency: nn.Sequential

    def __init__(
        self,
        channels: int,
        width: int = 256,
        kernel: int = 1,
        norm: Norm = "each",
        branches: Sequence[str] = ("rgb", "frequency"),
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "channels": channels,
            "width": width,
            "kernel": kernel,
            "norm": norm,
            "branches": list(branches),
        }
        if "rgb" in branches:
            self.rgb = projector(channels, width, 3, kernel, _normalised(3, norm))
        if "frequency" in branches:
            self.frequency = projector(channels, width, 5, kernel, (2, 4))

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Return F_Tr and F_Tf (Eq. 4, 5).

        Args:
            maps: T_r(x), T_f(x^F), or the single one, ``(B, channels, H, W)``.

        Returns:
            One condensed map for each, ``(B, width, H, W)``.
        """
        return tuple(stack(z) for stack, z in zip(self.children(), maps, strict=True))

    def misfits(self, state: Mapping[str, Tensor]) -> list[str]:
        """Return the names that are missing, unexpected or of another shape in ``state``."""
        own = {name: value.shape for name, value in self.state_dict().items()}
        other = {name: value.shape for name, value in state.items()}
        return sorted(n for n in own.keys() | other.keys() if own.get(n) != other.get(n))

    @torch.no_grad()
    def calibrate(self, *maps: Tensor) -> None:
        """Set the statistics of every BN to those of this batch, layer after layer.

        An untrained projector with the initial statistics (mean 0, variance 1) mostly passes on
        what all images have in common: the batch variance of its normalised maps is near zero, and
        there is nothing to distil. With the statistics of a batch each BN removes that part. Under
        data-parallel training the batch is that of all ranks, so they agree.

        Args:
            maps: T_r(x), T_f(x^F), or the single one, ``(B, channels, H, W)``.
        """
        for branch, z in zip(self.spec["branches"], maps, strict=True):
            stack = getattr(self, branch)
            with torch.autocast(z.device.type, enabled=False):
                _calibrate(stack, z.to(next(stack.parameters()).dtype))


class AuxiliaryClassifier(nn.Module):
    """Classifies the condensed maps, to train G_Tr and G_Tf alongside the teacher.

    Args:
        width: Channels of each condensed map.
        num_classes: Number of classes.
        branches: Number of condensed maps, 2 or 1.
    """

    def __init__(self, width: int = 256, num_classes: int = 2, branches: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(branches * width, num_classes)

    def forward(self, *condensed: Tensor) -> Tensor:
        """Return logits ``(B, num_classes)`` of the condensed maps ``(B, width, H, W)``."""
        logits: Tensor = self.linear(torch.cat(condensed, dim=1).mean(dim=(2, 3)))
        return logits


def _normalised(depth: int, norm: Norm) -> tuple[int, ...]:
    return tuple(range(1, depth + 1)) if norm == "each" else (depth,)


def _calibrate(stack: nn.Sequential, maps: Tensor) -> None:
    for layer in stack:
        if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
            mean = _mean_over_processes(maps)
            variance = _mean_over_processes((maps - mean[:, None, None]).square())
            for buffer, value in ((layer.running_mean, mean), (layer.running_var, variance)):
                if buffer is not None:
                    buffer.copy_(value)
            maps = nn.functional.batch_norm(
                maps, mean, variance, layer.weight, layer.bias, eps=layer.eps
            )
        else:
            maps = layer(maps)


def _mean_over_processes(maps: Tensor) -> Tensor:
    """Return the mean per channel over the grid and the batch of all ranks."""
    sums = torch.cat((maps.sum((0, 2, 3)), maps.new_tensor([maps[:, 0].numel()])))
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums[:-1] / sums[-1]
