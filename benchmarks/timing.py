"""Process time of rival implementations, taken in turns so that a busy machine hits all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Spread(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch with ``count`` threads and give the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(
    candidates: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time every candidate ``repeats`` times, interleaved: a, b, c, a, b, c, ….

    Args:
        candidates: Name -> a call without arguments.
        repeats: Timed calls per candidate, at least 1.
        warmup: Untimed calls of each candidate before.

    Returns:
        Name -> CPU seconds of this process (all its threads) per call, in the order taken, so that
        the i-th entries of two lists were measured side by side.
    """
    for _ in range(warmup):
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return seconds


def spread(values: list[float]) -> Spread:
    """Return the median and quartiles of ``values`` (at least two)."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(numerator: list[float], denominator: list[float]) -> Spread:
    """Return the spread of the side-by-side ratios of two lists that :func:`compare` made."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])
