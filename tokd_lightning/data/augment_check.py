"""Checks of an augmentation before training: mixed samples, changed size, normalisation, errors."""

import copy
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import kornia.augmentation
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from tokd_lightning.data.augment import Augmentation, seeded
from tokd_lightning.errors import TokdError

_COUNT = 4  # samples of a trial
_KEPT = (0, 1, 3)  # samples whose neighbours are exchanged, one trial each
_TOLERANCE = 1e-3
_MARGIN = 0.25  # by which the mean of a black or a white image may leave [0, 1]
# Base classes of Kornia and torchvision whose subclasses mix or rearrange samples.
_MIXING = {"MixAugmentationBaseV2", "_BaseMixUpCutMix"}
_WITHIN = {"RandomJigsaw"}  # exchanges parts of one image
_NOT_FINITE = "--data.augmentation makes numbers that are not finite, or integers: remove the cause"
_NORMALISING = {"Normalize", "Denormalize"}


@torch.no_grad()
def check_augmentation(augmentation: Augmentation, size: int) -> None:
    """Raise if labels or image size are wrong after an augmentation.

    It is tried on a few batches, with every module applied regardless of its probability.
    Evaluation images are not augmented, so changes of size or value range belong elsewhere.

    Args:
        augmentation: Left unchanged, as are all random generators.
        size: Side in pixels of the images in training.

    Raises:
        TokdError: It mixes the samples of a batch, changes the size, normalises, or fails.
    """
    if all(type(module) is kornia.augmentation.RandomHorizontalFlip for module in augmentation):
        return
    _check_classes(augmentation)
    tried = _always(augmentation)
    images = torch.rand(_COUNT, 3, size, size, generator=torch.Generator().manual_seed(0))
    _check_shape(tried, images)
    _check_range(tried, images)
    if not torch.allclose(_run(tried, images, 0, True), _run(tried, images, 0, True)):
        rank_zero_warn(
            "--data.augmentation draws random numbers that torch's seed does not fix: the run "
            "cannot be repeated, nor resumed bit for bit; draw them with torch"
        )
        if not torch.allclose(_run(tried, images, 0), _run(tried, images, 0)):
            return  # nothing can be compared
    for kept in _KEPT:
        if _mixes(tried, images, kept):
            culprit = next((m for m in tried if _mixes(Augmentation(m), images, kept)), tried)
            raise TokdError(_mixing(culprit))


def _check_classes(augmentation: nn.Module) -> None:
    for module in augmentation.modules():
        names = {kind.__name__ for kind in type(module).__mro__}
        if names & _MIXING and not names & _WITHIN:
            raise TokdError(_mixing(module))
        if names & _NORMALISING:
            raise TokdError(_normalising(module))


def _always(augmentation: Augmentation) -> Augmentation:
    """Copy an augmentation and make its random modules always apply."""
    tried = copy.deepcopy(augmentation)
    for module in tried.modules():
        for name in ("p", "p_batch"):
            if 0 < _number(getattr(module, name, None)) < 1:
                setattr(module, name, 1.0)
    return tried


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _check_shape(tried: Augmentation, images: Tensor) -> None:
    now = images
    changed: nn.Module = tried
    with _repeatable(0):
        for module in tried:
            before = now.shape
            now = _applied(module, now)
            changed = module if now.shape != before else changed
    if now.shape != images.shape:
        was, new = (" x ".join(map(str, shape[1:])) for shape in (images.shape, now.shape))
        raise TokdError(
            f"--data.augmentation: {_name(changed)} makes {new} of {was}, but validation and "
            f"test see {was}: set the size with --data.size, and random crops with --data.crop"
        )
    if not now.is_floating_point() or not bool(now.isfinite().all()):
        raise TokdError(_NOT_FINITE)


def _check_range(tried: Augmentation, images: Tensor) -> None:
    for value in (0.0, 1.0):
        mean = float(_run(tried, torch.full_like(images, value), 0).mean())
        if not math.isfinite(mean):
            raise TokdError(_NOT_FINITE)
        if not -_MARGIN <= mean <= 1 + _MARGIN:
            raise TokdError(_normalising(tried))


def _mixes(tried: Augmentation, images: Tensor, kept: int) -> bool:
    """Return whether the result for a sample changes when the rest of its batch is replaced."""
    others = (1 - images.flip(-1)) / 4  # other pixels, of another mean and range
    others[kept] = images[kept]
    try:
        one, two = (_run(tried, batch, kept)[kept] for batch in (images, others))
    except TokdError:  # a single module may need the output of an earlier one
        return False
    return not torch.allclose(one, two, atol=_TOLERANCE)


def _run(tried: Augmentation, images: Tensor, seed: int, alone: bool = False) -> Tensor:
    """Apply an augmentation; ``alone`` seeds only torch's generators."""
    with seeded(images.device, seed) if alone else _repeatable(seed):
        return _applied(tried, images)


def _applied(module: nn.Module, images: Tensor) -> Tensor:
    try:
        output = module(images.clone())
    except Exception as error:  # custom modules may raise anything
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise TokdError(
            f"--data.augmentation: {_name(module)} fails on a batch of images: "
            f"{reason[:160] or type(error).__name__}"
        ) from error
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise TokdError(
            f"--data.augmentation: {_name(module)} returns a {kind}, not a tensor of images"
        )
    return output


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seed torch, NumPy and Python for a block, and restore their states after it."""
    ours, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # what others draw from
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        with seeded(torch.device("cpu"), seed):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpy)  # noqa: NPY002


def _name(module: nn.Module) -> str:
    return "the list" if isinstance(module, Augmentation) else type(module).__name__


def _mixing(module: nn.Module) -> str:
    return (
        f"--data.augmentation: {_name(module)} mixes the samples of a batch, while their labels "
        "stay as they are: remove it"
    )


def _normalising(module: nn.Module) -> str:
    return (
        f"--data.augmentation: {_name(module)} normalises images, which validation and test would "
        "not be: set --data.mean and --data.std instead"
    )
