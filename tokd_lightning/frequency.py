"""The frequency view of an image, x^F (Sec. 3, Eq. 1), and its bands."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
import torch_dct
from torch import Tensor, nn


def high_pass(x: Tensor, cutoff: float) -> Tensor:
    r"""Keep the high spatial frequencies of an image, Eq. (1).

    .. math:: \mathbf{x}^F = D^{-1}(\mathcal{F}(D(\mathbf{x})))

    :math:`D` is the orthonormal 2-D DCT-II over the last two axes; :math:`\mathcal{F}` zeroes its
    top-left triangle, the coefficients with ``u / H + v / W < cutoff``. Only the corner that holds
    the triangle is computed and subtracted, :math:`x - B_H^T (M \circ (B_H x B_W^T)) B_W`, with
    the first rows :math:`B` of the DCT matrices and the triangle :math:`M`.

    Args:
        x: Images, ``(B, C, H, W)``, floating point; computed in at least float32 regardless of
            autocast and the TF32 settings.
        cutoff: Legs of the zeroed triangle in units of ``H`` and ``W``, in ``[0, 2]``: 0 keeps
            everything, 2 nothing. The paper gives no value.

    Returns:
        Images of the same shape, ``promote_types(x.dtype, float32)``. Their channel means are zero
        for any ``cutoff > 0``.

    Raises:
        ValueError: ``cutoff`` outside ``[0, 2]``, or ``x`` not 4-D floating point.
    """
    _check_cutoff(cutoff)
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x must be (B, C, H, W) and floating point, got {x.ndim}-D {x.dtype}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    height, width = x.shape[-2:]
    low = _low_frequencies(height, width, cutoff, dtype, x.device)
    with without_autocast(x.device):
        return _subtract(x, low).to(dtype)


def split_bands(x: Tensor, edges: Sequence[float]) -> Iterator[Tensor]:
    r"""Split an image into bands of ``u / H + v / W``, the frequency of Eq. (1).

    .. math:: x = \bar{x} + \sum_k D^{-1}(M_k \circ D(x))

    :math:`M_k` is 1 at the coefficients with ``edges[k] <= u / H + v / W < edges[k + 1]`` except
    ``u = v = 0``, which belongs to no band: the channel means :math:`\bar{x}` are in none of them.
    ``x`` minus the bands below a cutoff is ``high_pass(x, cutoff)`` plus the channel means.

    Args:
        x: Images, ``(B, C, H, W)``, floating point; computed in at least float32 regardless of
            autocast and the TF32 settings.
        edges: Band edges, increasing, in ``[0, 2]``; edges from 0 to 2 cover all frequencies.

    Yields:
        One band at a time, shaped like ``x``, ``promote_types(x.dtype, float32)``.

    Raises:
        ValueError: ``edges`` do not increase within ``[0, 2]``, or ``x`` not 4-D floating point.
    """
    if len(edges) < 2 or list(edges) != sorted(set(edges)) or edges[0] < 0 or edges[-1] > 2:
        raise ValueError(f"edges must increase within [0, 2], got {list(edges)}")
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x must be (B, C, H, W) and floating point, got {x.ndim}-D {x.dtype}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    # With a cutoff of 2 the corner is the whole transform.
    whole = _low_frequencies(*x.shape[-2:], 2.0, dtype, x.device)
    vertical, horizontal, ones = whole
    frequency = band_frequencies(*x.shape[-2:]).to(x.device)
    with without_autocast(x.device):
        coefficients = vertical @ x.to(ones.dtype) @ horizontal.T
    for low, high in pairwise(edges):
        mask = (frequency >= low) & (frequency < high) & (frequency > 0)
        with without_autocast(x.device):
            band = vertical.T @ (coefficients * mask) @ horizontal
        yield band.to(dtype)


def band_frequencies(height: int, width: int) -> Tensor:
    """Return ``u / H + v / W`` of every coefficient of the DCT, ``(H, W)``, float64."""
    u = torch.arange(height, dtype=torch.float64, device="cpu") / height
    v = torch.arange(width, dtype=torch.float64, device="cpu") / width
    return u[:, None] + v


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix D, ``(size, size)``, float64: D x is the DCT of x."""
    identity = torch.eye(size, dtype=torch.float64, device="cpu")
    matrix: Tensor = torch_dct.dct(identity, norm="ortho").T
    return matrix.contiguous()


class HighPass(nn.Module):
    """:func:`high_pass` as a module, for ``nn.Sequential`` and kornia's ``ImageSequential``.

    It has no parameters and no buffers, so casting, moving or saving a network that contains it
    does not change the filter.

    Args:
        cutoff: Legs of the zeroed triangle in units of ``H`` and ``W``, in ``[0, 2]``.

    Raises:
        ValueError: ``cutoff`` outside ``[0, 2]``.
    """

    def __init__(self, cutoff: float = 0.33) -> None:
        super().__init__()
        _check_cutoff(cutoff)
        self.cutoff = cutoff

    def forward(self, x: Tensor) -> Tensor:
        """Filter images ``(B, C, H, W)``; see :func:`high_pass`."""
        return high_pass(x, self.cutoff)

    def extra_repr(self) -> str:
        """Show the cutoff in ``repr``."""
        return f"cutoff={self.cutoff}"


class _LowFrequencies(NamedTuple):
    """The corner of the DCT that holds the zeroed triangle.

    Attributes:
        vertical: B_H, the first rows of the DCT matrix over H, ``(K_H, H)``.
        horizontal: B_W, ``(K_W, W)``.
        triangle: M, 1 inside the triangle and 0 outside, ``(K_H, K_W)``.
    """

    vertical: Tensor
    horizontal: Tensor
    triangle: Tensor


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations keep the precision of their inputs."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def full_precision(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return a dtype of at least float32 whose matrix products are not rounded further.

    That is float64 where the user allows float32 products in TF32 or bfloat16: no such setting
    affects float64, in the backward pass either.
    """
    backend = {"cuda": torch.backends.cuda, "cpu": torch.backends.mkldnn}.get(device.type)
    reduced = backend is not None and backend.matmul.fp32_precision not in ("none", "ieee")
    return torch.float64 if reduced else torch.promote_types(dtype, torch.float32)


def _check_cutoff(cutoff: float) -> None:
    if not 0 <= cutoff <= 2:
        raise ValueError(f"cutoff must be in [0, 2], got {cutoff}")


def _subtract(x: Tensor, low: _LowFrequencies) -> Tensor:
    """Subtract the triangle's part of ``x``, computed in the precision of ``low``."""
    vertical, horizontal, triangle = low
    height, width = x.shape[-2:]
    rows, columns = triangle.shape
    image = x.to(triangle.dtype).reshape(-1, height, width)
    count = image.shape[0]  # len() would fix the batch size of an ONNX file
    # Rows first: this leaves a small (K_H, W) image for a single product from the right.
    corner = (vertical @ image).reshape(count * rows, width) @ horizontal.T
    corner = corner.reshape(count, rows, columns) * triangle
    lines = corner.reshape(count * rows, columns) @ horizontal
    back = vertical.T.expand(count, -1, -1)
    low_pass = lines.reshape(count, rows, width)
    return torch.baddbmm(image, back, low_pass, alpha=-1).reshape(x.shape)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no types here
def _low_frequencies(
    height: int, width: int, cutoff: float, dtype: torch.dtype, device: torch.device
) -> _LowFrequencies:
    """Return the corner for images of one size, in :func:`full_precision`."""
    low = _build(height, width, cutoff, full_precision(dtype, device), device)
    if type(low.triangle) is not Tensor:  # made under a fake-tensor mode, unusable outside it
        _build.cache_clear()
    return low


@lru_cache(maxsize=64)
def _build(
    height: int, width: int, cutoff: float, dtype: torch.dtype, device: torch.device
) -> _LowFrequencies:
    # Cached tensors outlive the caller's mode: inference tensors could not be used in training.
    with torch.inference_mode(False), torch.no_grad():
        rows, columns = (sum(i / n < cutoff for i in range(n)) for n in (height, width))
        triangle = band_frequencies(height, width)[:rows, :columns] < cutoff
        parts = _first_rows(height, rows), _first_rows(width, columns), triangle
        return _LowFrequencies(*(part.to(device, dtype) for part in parts))


def _first_rows(size: int, count: int) -> Tensor:
    """Return the first ``count`` rows of the orthonormal DCT-II matrix, ``(count, size)``."""
    return dct_matrix(size)[:count].contiguous()
