"""Frequency attention distillation, the first of ADD's two losses."""

import math
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from tokd_lightning.distillation.distance import widened

Transform = Literal["fft", "dct"]

STEEPEST = 30.0


def frequency_attention(
    student: Tensor,
    teacher: Tensor,
    gamma: float = 1.0,
    transform: Transform = "fft",
    relative: bool = False,
) -> Tensor:
    r"""Return how far two maps are apart in frequency, the far frequencies counted more.

    .. math:: L_{FR} = \frac{1}{B} \sum_{b,c,u,v} e^{\gamma \bar d_{buv}}\, d_{bcuv}, \qquad
        d = |F(A_T - A_S)|^2, \qquad \bar d_{buv} = \frac{1}{C} \sum_c d_{bcuv}

    :math:`F` is the 2-D Fourier transform divided by HW, or the orthonormal DCT-II divided by the
    root of HW. The weight is a constant: no gradient passes through it. With ``gamma`` 0 the loss
    is C times the mean squared error (Parseval), whatever the transform.

    Binh M. Le and Simon S. Woo, "ADD: Frequency Attention and Multi-View based Knowledge
    Distillation to Detect Low-Quality Compressed Deepfake Images", AAAI 2022.

    Args:
        student: A_S, ``(B, C, H, W)``; computed in at least float32.
        teacher: A_T, of the same shape.
        gamma: Steepness of the weight, not negative; 1 in the published configuration. The exponent
            is cut at 30, so that nothing overflows.
        transform: "fft" as published, or "dct".
        relative: A variant of this package: the weight is :math:`e^{\gamma \bar d / m}`, with the
            sample's mean :math:`m` of :math:`\bar d` over the frequencies, brought to mean 1 per
            sample. It does not depend on the size of the maps; on maps of unit length the published
            weight is 1 up to the fifth digit.

    Raises:
        ValueError: Unknown ``transform``, or maps of different shapes.
    """
    if transform not in get_args(Transform):
        raise ValueError(f"transform {transform!r} is none of {get_args(Transform)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"the maps have different shapes: {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    ours, theirs = widened(student, teacher)
    with torch.autocast(ours.device.type, enabled=False):
        energy, count = (_fourier if transform == "fft" else _cosine)(theirs - ours)
        mean = energy.detach() / ours.shape[1]
        weight = _relative(mean, gamma, count) if relative else _weight(mean, gamma)
        return (energy * weight * count).sum() / len(energy)


def _fourier(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energy at each frequency, summed over the channels, ``(B, H, W / 2 + 1)``.

    A real map has the same energy at (u, v) and (-u, -v). One of the two is left out and counted
    twice: how often each stands for itself, ``(W / 2 + 1,)``, is returned too.
    """
    width = maps.shape[-1]
    waves = torch.view_as_real(torch.fft.rfft2(maps, norm="forward"))
    count = maps.new_full((width // 2 + 1,), 2)
    count[:1].fill_(1)  # an assignment would wait for the device
    if width % 2 == 0:
        count[-1:].fill_(1)
    return waves.square().sum((1, 4)), count


def _cosine(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same of the DCT-II, ``(B, H, W)``, where all stand for themselves alone."""
    height, width = maps.shape[-2:]
    rows, columns = (_dct(n, maps.dtype, maps.device) for n in (height, width))
    energy = (rows @ maps @ columns.T).square().sum(1) / (height * width)
    return energy, maps.new_ones(width)


def _weight(energy: Tensor, gamma: float) -> Tensor:
    """Return the weight of each frequency from its mean energy over the channels."""
    return (gamma * energy).clamp(max=STEEPEST).exp()


def _relative(energy: Tensor, gamma: float, count: Tensor) -> Tensor:
    """Return the same relative to the sample's mean energy, with mean 1."""
    every = count.expand_as(energy).flatten(1)
    flat = energy.flatten(1)
    mean = (flat * every).sum(1, keepdim=True) / every.sum(1, keepdim=True)
    exponent = gamma * flat / torch.where(mean > 0, mean, 1)
    share = (exponent + every.log()).softmax(1) / every
    return (share * every.sum(1, keepdim=True)).view_as(energy)


@lru_cache(maxsize=64)
def _dct(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II matrix, ``(size, size)``."""
    with torch.inference_mode(False), torch.no_grad():
        n = torch.arange(size, dtype=torch.float64)
        matrix = torch.cos(math.pi / size * (n + 0.5) * n[:, None]) * math.sqrt(2 / size)
        matrix[0] /= math.sqrt(2)
        return matrix.to(device, dtype)
