"""Processing of image batches on the device: crop, augment, normalise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError


def seed_of(*key: int) -> int:
    """Mix integers into one 63-bit seed; numpy itself treats (1, 2) and (1, 2, 0) as equal."""
    words = np.random.SeedSequence((len(key), *key)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Seed torch's global generators for a block, and restore their states after it.

    Args:
        device: The device whose generator is used in addition to the CPU's.
        *key: Not negative; equal keys give equal random numbers.
    """
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices, device_type=kind):
        torch.manual_seed(seed_of(*key))
        yield


def random_crop(images: Tensor, size: int, *key: int, rank: int = 0, world: int = 1) -> Tensor:
    """Crop a square from each image, at an independent random position.

    Positions are drawn jointly for the batches of all processes, so that one process with a batch
    of 2b crops like two with b.

    Args:
        images: ``(B, C, H, W)``, any dtype.
        size: Pixels along both sides, at most H and W.
        *key: Seed, not negative; equal keys give equal positions.
        rank: Rank of this process.
        world: World size.

    Returns:
        ``(B, C, size, size)``.
    """
    count, _, height, width = images.shape
    generator = torch.Generator().manual_seed(seed_of(*key))
    rest = torch.tensor([height - size + 1, width - size + 1])
    drawn = torch.rand((world, count, 2), generator=generator, dtype=torch.float64)[rank]
    offsets = (drawn * rest).long().to(images.device, non_blocking=True)
    steps = torch.arange(size, device=images.device)
    rows = (offsets[:, :1] + steps)[:, None, :, None]
    columns = (offsets[:, 1:] + steps)[:, None, None, :]
    samples = torch.arange(count, device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[samples, channels, rows, columns]


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Crop the central square from each image.

    Args:
        images: ``(B, C, H, W)``.
        size: Pixels along both sides, at most H and W.

    Returns:
        ``(B, C, size, size)``.
    """
    top, left = ((n - size) // 2 for n in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


class Augmentation(nn.Sequential):
    """Modules applied in order, moved to the device of the images.

    Kornia's modules draw their random numbers on the CPU regardless of their device, so that a seed
    gives the same numbers on every device; the numbers are moved without blocking.
    """

    _device: torch.device | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Augment float images in [0, 1], ``(B, 3, H, W)``."""
        if self._device != images.device:
            self.to(images.device)
            for module in self.modules():
                if draw_on := getattr(module, "set_rng_device_and_dtype", None):
                    draw_on(torch.device("cpu"), torch.float32)
            self._device = images.device
        for module in self:
            images = module(images)
        return images


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, for all channels or per channel.

    Args:
        mean: One number or three, in units of images in [0, 1].
        std: One number or three, positive.

    Raises:
        TokdError: ``mean`` or ``std`` is not one number or three, or ``std`` is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            tensor = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
            if len(tensor) not in (1, 3):
                raise TokdError(f"{name} must be one number or three, not {value}")
            self.register_buffer(name, tensor.reshape(-1, 1, 1))
        if not bool((self.std > 0).all()):
            raise TokdError(f"std must be positive, not {std}")

    def forward(self, images: Tensor) -> Tensor:
        """Normalise float images, ``(B, 3, H, W)``."""
        return (images - self.mean) / self.std
