"""The truncated basis of Eq. 1 against torch_dct's full transforms: 299 px, process time."""

import argparse
from functools import partial
from typing import NamedTuple

import torch
import torch_dct
from torch import Tensor

from benchmarks.timing import Spread, compare, ratio, threads
from tokd_lightning.frequency import high_pass


class Row(NamedTuple):
    """Speed of the filter at one cutoff.

    Attributes:
        cutoff: Legs of the zeroed triangle.
        speedup: Time of torch_dct divided by the filter's.
        milliseconds: Median time of the filter, for the whole batch.
        floor: Time of the filter / time of copying the images once.
    """

    cutoff: float
    speedup: Spread
    milliseconds: float
    floor: Spread


def full_transform(x: Tensor, kept: Tensor) -> Tensor:
    """Filter by the full DCT, a mask and the full inverse DCT, literally Eq. 1."""
    low_free = torch_dct.dct_2d(x, norm="ortho") * kept
    filtered: Tensor = torch_dct.idct_2d(low_free, norm="ortho")
    return filtered


@torch.no_grad()
def measure(
    num_threads: int = 1,
    size: int = 299,
    batch: int = 8,
    cutoffs: tuple[float, ...] = (0.1, 0.33, 0.5),
    repeats: int = 15,
) -> list[Row]:
    """Time both forms, interleaved.

    Args:
        num_threads: Threads of torch.
        size: Side of the images in pixels.
        batch: Three-channel images per call.
        cutoffs: Cutoffs to measure at.
        repeats: Calls per form and cutoff.

    Returns:
        One row per cutoff.
    """
    x = torch.randn(batch, 3, size, size)
    copied = torch.empty_like(x)
    frequencies = torch.arange(size, dtype=torch.float64) / size
    rows = []
    for cutoff in cutoffs:
        kept = (frequencies[:, None] + frequencies >= cutoff).float()
        with threads(num_threads):
            seconds = compare(
                {
                    "torch_dct": partial(full_transform, x, kept),
                    "high_pass": partial(high_pass, x, cutoff),
                    "copy": partial(copied.copy_, x),
                },
                repeats,
            )
        median = sorted(seconds["high_pass"])[repeats // 2]
        speedup = ratio(seconds["torch_dct"], seconds["high_pass"])
        floor = ratio(seconds["high_pass"], seconds["copy"])
        rows.append(Row(cutoff, speedup, 1000 * median, floor))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for row in measure(arguments.threads, batch=arguments.batch, repeats=arguments.repeats):
        print(
            f"filter, cutoff {row.cutoff:4}: {row.speedup} times as fast as torch_dct, "
            f"{row.milliseconds:.1f} ms for {arguments.batch} images, "
            f"{row.floor} times a copy of them"
        )
