"""Frequency attention distillation, the first of ADD's two losses."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tokd_lightning.distillation.distance import widened

Transform = Literal["fft", "dct"]
Weigh = Callable[[Tensor, float, Tensor], Tensor]

STEEPEST = 30.0


def frequency_attention(
    student: Tensor,
    teacher: Tensor,
    gamma: float = 1.0,
    transform: Transform = "fft",
    relative: bool = False,
) -> Tensor:
    r"""Return the distance of two maps in frequency, with larger differences weighted more.

    .. math:: L_{FR} = \frac{1}{B} \sum_{b,c,u,v} e^{\gamma \bar d_{buv}}\, d_{bcuv}, \qquad
        d = |F(A_T - A_S)|^2, \qquad \bar d_{buv} = \frac{1}{C} \sum_c d_{bcuv}

    :math:`F` is the 2-D Fourier transform divided by HW, or the orthonormal DCT-II divided by the
    root of HW. The weight is a constant: no gradient passes through it. With ``gamma`` 0 the loss
    is C times the mean squared error (Parseval) for either transform.

    Binh M. Le and Simon S. Woo, "ADD: Frequency Attention and Multi-View based Knowledge
    Distillation to Detect Low-Quality Compressed Deepfake Images", AAAI 2022.

    Args:
        student: A_S, ``(B, C, H, W)``; computed in at least float32.
        teacher: A_T, of the same shape.
        gamma: Steepness of the weight, not negative; 1 in the published configuration. The exponent
            is limited to 30 to avoid overflow.
        transform: "fft" as published, or "dct".
        relative: A variant of this package: the weight is :math:`e^{\gamma \bar d / m}`, with the
            sample's mean :math:`m` of :math:`\bar d` over the frequencies, scaled to mean 1 per
            sample. It does not depend on the scale of the maps; on maps of unit length the
            published weight is 1 up to the fifth digit.

    Raises:
        ValueError: Unknown ``transform``, or maps of different shapes.
    """
    if transform not in get_args(Transform):
        raise ValueError(f"transform {transform!r} is not one of {get_args(Transform)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"the maps have different shapes: {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    ours, theirs = widened(student, teacher)
    with torch.autocast(ours.device.type, enabled=False):
        weigh = _relative if relative else _weight
        loss: Tensor = (_Fourier if transform == "fft" else _Cosine).apply(
            ours - theirs, gamma, weigh
        )
        return loss


class _Fourier(torch.autograd.Function):
    """The weighted energy of the Fourier transform; its gradient is a weighted inverse transform.

    A real map has the same energy at (u, v) and (-u, -v). One of the two is left out and the other
    counted twice.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, gamma: float, weigh: Weigh) -> Tensor:
        width = maps.shape[-1]
        waves = torch.fft.rfft2(maps, norm="forward")
        energy = torch.view_as_real(waves).square().sum((1, 4))
        count = maps.new_full((width // 2 + 1,), 2)
        count[:1].fill_(1)  # an assignment would wait for the device
        if width % 2 == 0:
            count[-1:].fill_(1)
        weight = weigh(energy / maps.shape[1], gamma, count)
        ctx.save_for_backward(waves, weight)
        ctx.shape = maps.shape
        return (energy * weight * count).sum() / len(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        waves, weight = ctx.saved_tensors
        samples, _, *grid = ctx.shape
        factor = (gradient * 2 / samples) * weight[:, None, :, :, None]
        weighted = torch.view_as_complex(torch.view_as_real(waves) * factor)
        return torch.fft.irfft2(weighted, grid), None, None


class _Cosine(torch.autograd.Function):
    """The same for the DCT-II, where every frequency counts once."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, gamma: float, weigh: Weigh) -> Tensor:
        height, width = maps.shape[-2:]
        rows, columns = (_dct(n, maps.dtype, maps.device) for n in (height, width))
        waves = rows @ maps @ columns.T
        energy = waves.square().sum(1) / (height * width)
        weight = weigh(energy / maps.shape[1], gamma, maps.new_ones(width))
        ctx.save_for_backward(waves, weight)
        return (energy * weight).sum() / len(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        waves, weight = ctx.saved_tensors
        samples, _, height, width = waves.shape
        rows, columns = (_dct(n, waves.dtype, waves.device) for n in (height, width))
        factor = (gradient * 2 / (samples * height * width)) * weight[:, None]
        return rows.T @ (waves * factor) @ columns, None, None


def _weight(energy: Tensor, gamma: float, count: Tensor) -> Tensor:
    """Return the weight of each frequency from its mean energy over the channels.

    ``count``, the multiplicity of each frequency, is used only by :func:`_relative`.
    """
    return (gamma * energy).clamp(max=STEEPEST).exp()


def _relative(energy: Tensor, gamma: float, count: Tensor) -> Tensor:
    """Return the weight relative to the sample's mean energy, scaled to mean 1."""
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
