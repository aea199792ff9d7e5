"""Timing of alternative implementations, interleaved so that a busy machine affects all equally."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

CPU = torch.device("cpu")


class Spread(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


class ProcessClock:
    """CPU seconds of this process, summed over its threads."""

    def mark(self) -> float:
        """Read the clock."""
        return time.process_time()

    def seconds(self, start: float, stop: float) -> float:
        """Return the difference in seconds."""
        return stop - start


class CudaClock:
    """Seconds on the current CUDA stream, by events, without waiting until they are read.

    Args:
        lead: Milliseconds of idling queued on the device before each start, so that the host is
            ahead of it as in the middle of a training step; with 0, gaps between launches count if
            the host is too slow.
    """

    def __init__(self, lead: float = 0.0) -> None:
        self.lead = lead

    def mark(self) -> torch.cuda.Event:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def idle(self) -> None:
        """Queue ``lead`` milliseconds of idling on the device."""
        if self.lead:
            torch.cuda._sleep(int(self.lead * 2e6))  # in cycles, for a clock near 2 GHz

    def seconds(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        """Wait for the second event and return the seconds since the first."""
        stop.synchronize()
        return start.elapsed_time(stop) / 1000


def clock_of(device: torch.device, lead: float = 0.0) -> "ProcessClock | CudaClock":
    """Return the clock for a device."""
    return CudaClock(lead) if device.type == "cuda" else ProcessClock()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch with ``count`` threads and restore the old number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: ProcessClock | CudaClock | None = None,
) -> dict[str, list[float]]:
    """Time every candidate ``repeats`` times, interleaved: a, b, c, a, b, c, ….

    Args:
        candidates: Name -> a call without arguments.
        repeats: Timed calls per candidate, at least 1.
        warmup: Untimed calls of each candidate before.
        clock: By default the CPU's.

    Returns:
        Name -> seconds per call, in order, so that the i-th entries of two lists were measured side
        by side.
    """
    for _ in range(warmup):
        for call in candidates.values():
            call()
    clock = ProcessClock() if clock is None else clock
    marks: dict[str, list[tuple[Any, Any]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            if isinstance(clock, CudaClock):
                clock.idle()
            start = clock.mark()
            call()
            marks[name].append((start, clock.mark()))
    return {name: [clock.seconds(*pair) for pair in pairs] for name, pairs in marks.items()}


def spread(values: list[float]) -> Spread:
    """Return the median and quartiles of ``values`` (at least two)."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(numerator: list[float], denominator: list[float]) -> Spread:
    """Return the spread of the pairwise ratios of two lists from :func:`compare`."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])
