"""Processing of image batches on the device: crop, augment, normalise."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from kornia.augmentation import AugmentationSequential, ImageSequential, VideoSequential
from kornia.augmentation.base import _BasicAugmentationBase
from torch import Tensor, nn

from tokd_lightning.data.landmarks import MIRROR
from tokd_lightning.errors import TokdError

_KEYS = {"mask": "mask", "landmarks": "keypoints"}


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


def draw_corners(images: Tensor, size: int, *key: int, rank: int = 0, world: int = 1) -> Tensor:
    """Draw the upper left corner of a square crop of each image, independently.

    Corners are drawn jointly for the batches of all processes, so that one process with a batch of
    2b crops like two with b.

    Args:
        images: ``(B, …, H, W)``.
        size: Pixels along both sides of the crops, at most H and W.
        *key: Seed, not negative; equal keys give equal corners.
        rank: Rank of this process.
        world: World size.

    Returns:
        Top and left of each, ``(B, 2)``, int64.
    """
    count, (height, width) = len(images), images.shape[-2:]
    generator = torch.Generator().manual_seed(seed_of(*key))
    rest = torch.tensor([height - size + 1, width - size + 1])
    drawn = torch.rand((world, count, 2), generator=generator, dtype=torch.float64)[rank]
    return (drawn * rest).long().to(images.device, non_blocking=True)


def cut(images: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Crop a square from each image at its corner, ``(B, C, size, size)``.

    Args:
        images: ``(B, C, H, W)``, any dtype.
        offsets: Top and left of each, ``(B, 2)``.
        size: Pixels along both sides.
    """
    count = len(images)
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


def cropped(
    images: Tensor, followers: Mapping[str, Tensor], size: int | None, corners: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Crop images, their masks and landmarks; masks become float32 in [0, 1].

    Args:
        images: ``(B, 3, H, W)``.
        followers: ``mask``, uint8 ``(B, 1, H, W)``, and ``landmarks``, ``(B, 68, 2)``, if any.
        size: Pixels along both sides of the crops; None keeps the whole images.
        corners: See :func:`draw_corners`; None crops the centre.
    """
    moved = dict(followers)
    if size is not None:
        if "landmarks" in moved:
            centre = [(n - size) // 2 for n in images.shape[:-3:-1]]
            shift = torch.tensor(centre, device=images.device)
            shift = shift if corners is None else corners.flip(1)[:, None]
            moved["landmarks"] = moved["landmarks"] - shift

        def crop(pictures: Tensor) -> Tensor:
            if corners is None:
                return centre_crop(pictures, size)
            return cut(pictures, corners, size)

        images = crop(images)
        if "mask" in moved:
            moved["mask"] = crop(moved["mask"])
    if "mask" in moved:
        moved["mask"] = moved["mask"].to(torch.float32) / 255
    return images, moved


class Augmentation(nn.Sequential):
    """Modules applied in order, moved to the device of the images.

    Kornia's modules draw their random numbers on the CPU regardless of their device, so that a seed
    gives the same numbers on every device; the numbers are moved without blocking.
    """

    _device: torch.device | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Augment float images in [0, 1], ``(B, 3, H, W)``."""
        self._move_to(images.device)
        for module in self:
            images = module(images)
        return images

    def together(
        self, images: Tensor, followers: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Augment images as :meth:`forward` does, and move masks and landmarks along with them.

        Mirrored landmarks are reordered, so that each point keeps its meaning.

        Args:
            images: ``(B, 3, H, W)``, in [0, 1].
            followers: ``mask``, ``(B, 1, H, W)``, and ``landmarks``, ``(B, 68, 2)``, or one of
                them.

        Returns:
            The images, and the followers by name.

        Raises:
            TokdError: A module is not one of Kornia's, so that its followers are not known.
        """
        self._move_to(images.device)
        followers = dict(followers)
        for module in self:
            _insist_on_kornia(module, "mask and landmarks cannot follow it")
            keys = ["input", *(_KEYS[name] for name in followers)]
            work = AugmentationSequential(cast(Any, module), data_keys=keys)
            moved = work(images, *followers.values())
            before = followers.get("landmarks")
            images, followers = moved[0], dict(zip(followers, moved[1:], strict=True))
            if before is not None:
                followers["landmarks"] = _reordered(before, followers["landmarks"])
        return images, followers

    def alike(self, clips: Tensor) -> Tensor:
        """Augment float clips in [0, 1], ``(B, T, 3, H, W)``, all frames of a clip alike.

        Raises:
            TokdError: A module is not one of Kornia's, which would change each frame otherwise.
        """
        self._move_to(clips.device)
        for module in self:
            _insist_on_kornia(module, "the frames of a clip cannot be changed alike")
            clips = VideoSequential(module, data_format="BTCHW", same_on_frame=True)(clips)
        return clips

    def _move_to(self, device: torch.device) -> None:
        if self._device != device:
            self.to(device)
            for module in self.modules():
                if draw_on := getattr(module, "set_rng_device_and_dtype", None):
                    draw_on(torch.device("cpu"), torch.float32)
            self._device = device


def _insist_on_kornia(module: nn.Module, why: str) -> None:
    if not isinstance(module, _BasicAugmentationBase | ImageSequential):
        raise TokdError(
            f"--data.augmentation: {type(module).__name__} is not one of Kornia's modules: {why}; "
            "leave it out, or use Kornia's"
        )


def _reordered(before: Tensor, after: Tensor) -> Tensor:
    """Exchange left and right points of the faces that were mirrored, ``(B, 68, 2)``."""
    turned = _sense(before) * _sense(after) < 0  # False without points
    order = torch.tensor(MIRROR.tolist(), device=after.device)
    return torch.where(turned[:, None, None], after[:, order], after)


def _sense(points: Tensor) -> Tensor:
    """Return twice the signed area of the triangle of both eyes and the chin, ``(B,)``."""
    left, right, chin = points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 8]
    a, b = right - left, chin - left
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def finish(
    images: Tensor,
    followers: Mapping[str, Tensor],
    augmentation: Augmentation,
    key: tuple[int, ...] | None,
    crop: int | None,
    corners: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Crop, convert to float in [0, 1], and augment images with their masks and landmarks.

    Args:
        images: uint8, ``(B, 3, H, W)``, or clips, ``(B, T, 3, H, W)``, which have no followers.
        followers: See :func:`cropped`.
        augmentation: Applied if there is a key.
        key: Seed of the augmentation; None applies none.
        crop: Pixels along both sides of the crops; None keeps the whole images.
        corners: See :func:`draw_corners`, one for each of the B samples; None crops the centre.
    """
    shape = images.shape[:-3]
    images = images.flatten(0, -4)
    if corners is not None and len(shape) > 1:
        corners = corners.repeat_interleave(shape[1], 0)
    images, moved = cropped(images, followers, crop, corners)
    images = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
    images = images.reshape(*shape, *images.shape[1:]) if len(shape) > 1 else images
    if key is not None and len(augmentation):
        with seeded(images.device, *key):
            if moved:
                return augmentation.together(images, moved)
            work = augmentation.alike if len(shape) > 1 else augmentation
            images = work(images)
    return images, moved


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
