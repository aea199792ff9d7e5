"""How time and memory grow with batch, image size, d, workers and videos.

Of each a row gives the exponent of the power law that fits the points best, on logarithmic axes,
and, as quartiles, the least and the largest exponent between neighbouring points: where they
differ much, a constant part (weights, the interpreter) hides the growth at small sizes.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import torch

from benchmarks import feed, manifest, rotation, step
from benchmarks.figures import Curve, Row, exactly, milliseconds, milliseconds_of
from benchmarks.judged import Part, Sizes
from benchmarks.memory import in_child, of_call, of_steps
from benchmarks.timing import Spread, compare, spread, threads
from tokd_lightning.data.ffpp import FFPPDataModule


def exponent(points: list[tuple[float, Spread]]) -> Spread:
    """Fit ``cost = a size^b`` to the medians: b, and the least and largest b of neighbours.

    Args:
        points: Two or more sizes above 0, ascending, and their costs.
    """
    x = np.log([at for at, _ in points])
    y = np.log([value.median for _, value in points])
    local = np.diff(y) / np.diff(x)
    return Spread(float(np.polyfit(x, y, 1)[0]), float(local.min()), float(local.max()))


def grows(what: str, axis: str, unit: str, points: list[tuple[float, Spread]]) -> Row:
    """Return the row of a curve; of rates, images a second, time is the reciprocal."""
    quantity = "memory" if unit == "MB" else "time"
    found = Curve(axis, quantity, unit, points)
    return Row(f"{quantity} of {what}: exponent of {axis}", "", exponent(points), "", found)


def _single(points: list[tuple[float, Spread]], what: str, unit: str) -> Iterator[Row]:
    for at, value in points:
        yield Row(what.format(at), unit, value)


def _of_steps(
    sizes: Sizes, axis: str, values: tuple[int, ...], change: Callable[[int], tuple[int, int, int]]
) -> Iterator[Row]:
    """Time and memory of a TOKD step while one of batch, size and d changes."""
    repeats, method = max(2, sizes.repeats // 2), "TOKD both"
    times, memories = [], []
    for value in values:
        given = change(value)
        measured = step.measure(
            sizes.student, *given, repeats, backbone=sizes.backbone, only=[method]
        )
        times.append((float(value), milliseconds_of(next(measured)[1].step)))
        megabytes = in_child(of_steps, method, sizes.student, sizes.backbone, *given)
        memories.append((float(value), exactly(megabytes)))
    for unit, points in (("ms", times), ("MB", memories)):
        quantity = "memory" if unit == "MB" else "time"
        yield from _single(points, f"{quantity} of a TOKD step, {axis} {{:g}}", unit)
        yield grows("a TOKD step", axis, unit, points)


def with_batch(sizes: Sizes) -> Iterator[Row]:
    """Against the batch."""
    yield from _of_steps(
        sizes, "batch", sizes.batch_axis, lambda batch: (batch, sizes.size, sizes.dim)
    )


def with_size(sizes: Sizes) -> Iterator[Row]:
    """Against the side of the images."""
    yield from _of_steps(
        sizes, "pixels along a side", sizes.size_axis, lambda side: (sizes.batch, side, sizes.dim)
    )


def with_dim(sizes: Sizes) -> Iterator[Row]:
    """Against d: both rotation updates without polish, and the memory of a step."""
    times, memories = [], []
    for dim in sizes.dim_axis:
        v = {b: torch.randn(sizes.samples, dim) for b in rotation.BRANCHES}
        with threads(1):
            call = {"ours": rotation.ours(v, dim, rotation.DENSE_STEPS)}
            seconds = compare(call, max(2, sizes.repeats // 2))["ours"]
        times.append((float(dim), milliseconds(t / rotation.DENSE_STEPS for t in seconds)))
        given = ("TOKD both", sizes.student, sizes.backbone, sizes.batch, sizes.size, dim)
        memories.append((float(dim), exactly(in_child(of_steps, *given))))
    yield from _single(times, "time of both rotation updates, d {:g}", "ms")
    yield grows("both rotation updates", "d", "ms", times)
    yield from _single(memories, "memory of a TOKD step, d {:g}", "MB")
    yield grows("a TOKD step", "d", "MB", memories)


def with_workers(sizes: Sizes) -> Iterator[Row]:
    """Against the loader's processes: milliseconds of the clock for an image, and memory."""
    times, memories = [], []
    for workers in sizes.worker_axis:
        found = [
            in_child(load, workers, sizes.frames, sizes.large)
            for _ in range(max(2, sizes.repeats // 3))
        ]
        times.append((float(workers), spread([1e3 * seconds for seconds, _ in found])))
        memories.append((float(workers), spread([megabytes for _, megabytes in found])))
    names = {"ms": "time of an image from JPEG files, by the clock", "MB": "memory of loading"}
    for unit, points in (("ms", times), ("MB", memories)):
        yield from _single(points, f"{names[unit]}, workers {{:g}}", unit)
        yield grows("loading", "workers", unit, points)


def load(workers: int, frames: int, size: int) -> tuple[float, float]:
    """Load batches in the real data module.

    Args:
        workers: Decoding processes.
        frames: A batch's images, at most 64; eight batches, of which the last six count.
        size: Side of the images in pixels.

    Returns:
        Seconds per image, and MB of this process and its workers, each page counted once (Linux).
    """
    batch = min(64, frames)
    with feed.tree(2 * batch, size) as root, threads(1):
        data = feed.images(root, size, batch, workers, 8)
        data.trainer = feed.stand_in()
        start, megabytes = 0.0, 0.0
        for number, _ in enumerate(data.train_dataloader()):
            if number == 1:
                start = time.perf_counter()
            if number == 4:
                megabytes = _proportional() / 1e6
            if number == 7:
                seconds = time.perf_counter() - start
    return seconds / (6 * batch), megabytes


def _proportional() -> int:
    """Return the bytes of this process and its children, shared pages divided among them (PSS)."""
    total = 0
    for process in (os.getpid(), *(child.pid for child in active_children())):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += 1024 * int(text.split("\nPss:")[1].split()[0])
    return total


def with_videos(sizes: Sizes) -> Iterator[Row]:
    """Against the videos of a data set: opening its index, remembered and not."""
    found: dict[str, list[tuple[float, Spread]]] = {"folders": [], "remembered": [], "memory": []}
    for videos in sizes.video_axis:
        opened = manifest.measure(2 * (videos // 10), max(2, sizes.repeats // 2))
        for how, seconds in opened.items():
            found[how].append((float(videos), milliseconds_of(seconds)))
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "ffpp"
            manifest.make_tree(root, 2 * (videos // 10))
            megabytes = in_child(of_call, partial(index_of, root))
        found["memory"].append((float(videos), exactly(megabytes)))
    for how in ("folders", "remembered"):
        yield from _single(found[how], f"time of the index, {how}, {{:g}} videos", "ms")
        yield grows(f"the index, {how}", "videos", "ms", found[how])
    yield from _single(found["memory"], "memory of the index, {:g} videos", "MB")
    yield grows("the index", "videos", "MB", found["memory"])


def index_of(root: Path) -> int:
    """Open an index from the folders and return its frames."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        return len(FFPPDataModule(root, quality="c40").manifest)


PARTS: tuple[Part, ...] = (with_batch, with_size, with_dim, with_workers, with_videos)
