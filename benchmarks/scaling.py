"""Growth of time and memory with batch, image size, d, workers and videos.

Each row gives the exponent of the best power-law fit to the points, on logarithmic axes, and, as
quartiles, the smallest and largest exponent between neighbouring points: if they differ much, a
constant part (weights, the interpreter) hides the growth at small sizes.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks import feed, manifest, rotation, step
from benchmarks.figures import Curve, Row, exactly, milliseconds, milliseconds_of
from benchmarks.judged import Part, Sizes
from benchmarks.memory import in_child, of_call, of_steps
from benchmarks.timing import CPU, Spread, compare, ratio, spread, threads
from benchmarks.training import Batches, distill_module, methods, quiet_trainer, save_teacher
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.models import frozen


def exponent(points: list[tuple[float, Spread]]) -> Spread:
    """Fit ``cost = a size^b`` to the medians: b, and the smallest and largest b of neighbours.

    Args:
        points: Two or more sizes above 0, ascending, and their costs.
    """
    x = np.log([at for at, _ in points])
    y = np.log([value.median for _, value in points])
    local = np.diff(y) / np.diff(x)
    return Spread(float(np.polyfit(x, y, 1)[0]), float(local.min()), float(local.max()))


def grows(what: str, axis: str, unit: str, points: list[tuple[float, Spread]]) -> Row:
    """Return the row of a curve; for rates in images per second, the cost is the reciprocal."""
    quantity = "memory" if unit == "MB" else "time"
    found = Curve(axis, quantity, unit, points)
    return Row(f"{quantity} of {what}: exponent of {axis}", "", exponent(points), "", found)


def _single(points: list[tuple[float, Spread]], what: str, unit: str) -> Iterator[Row]:
    for at, value in points:
        yield Row(what.format(at), unit, value)


class Varied(Batches):
    """Batches of several shapes, interleaved, so that a slowing machine affects all equally.

    Args:
        shapes: Images per batch and their side in pixels; d must fit the maps of the first.
        rounds: Number of batches of each shape.
    """

    def __init__(self, shapes: list[tuple[int, int]], rounds: int) -> None:
        super().__init__(rounds * len(shapes), *shapes[0])
        self.shapes, self.rounds = shapes, rounds

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of all rounds."""
        batches: Any = [Batches(1, *shape).batch for shape in self.shapes] * self.rounds
        return DataLoader(batches, batch_size=None)


def steps_of(sizes: Sizes, shapes: list[tuple[int, int]], rounds: int) -> list[dict[str, Any]]:
    """Time TOKD steps, and their lower bounds, on batches of several shapes during one fit.

    Returns:
        For each shape, ``step`` and ``bound``: seconds per round.
    """
    with tempfile.TemporaryDirectory() as folder, threads(1):
        teacher, path = save_teacher(Path(folder), sizes.backbone)
        bound = step.LowerBound(frozen(teacher), sizes.student)
        watch = step.Stopwatch(bound, CPU, warmup=len(shapes))
        trainer = quiet_trainer(CPU, "32-true", callbacks=[watch])
        module = distill_module(methods(sizes.dim)["TOKD both"], sizes.student, path)
        trainer.fit(module, datamodule=Varied(shapes, 1 + rounds))
    found = watch.seconds()
    return [
        {what: values[number :: len(shapes)] for what, values in found.items()}
        for number in range(len(shapes))
    ]


def _of_steps(sizes: Sizes, axis: str, shapes: dict[int, tuple[int, int]]) -> Iterator[Row]:
    """Measure time and memory of a TOKD step along an axis, value -> batch and side."""
    found = steps_of(sizes, list(shapes.values()), max(2, sizes.repeats // 2))
    times, memories = [], []
    for (value, shape), seconds in zip(shapes.items(), found, strict=True):
        over = ratio(seconds["step"], seconds["bound"])
        yield Row(f"a TOKD step / its lower bound, {axis} {value}", "x", over)
        times.append((float(value), milliseconds(seconds["step"])))
        given = ("TOKD both", sizes.student, sizes.backbone, *shape, sizes.dim)
        memories.append((float(value), exactly(in_child(of_steps, *given))))
    for unit, points in (("ms", times), ("MB", memories)):
        quantity = "memory" if unit == "MB" else "time"
        yield from _single(points, f"{quantity} of a TOKD step, {axis} {{:g}}", unit)
        yield grows("a TOKD step", axis, unit, points)


def with_batch(sizes: Sizes) -> Iterator[Row]:
    """Measure the growth with the batch."""
    yield from _of_steps(sizes, "batch", {batch: (batch, sizes.size) for batch in sizes.batch_axis})


def with_size(sizes: Sizes) -> Iterator[Row]:
    """Measure the growth with the side of the images."""
    shapes = {side: (sizes.batch, side) for side in sizes.size_axis}
    yield from _of_steps(sizes, "pixels along a side", shapes)


def with_dim(sizes: Sizes) -> Iterator[Row]:
    """Measure the growth with d: both rotation updates without polish, and the memory of a step."""
    calls = {}
    for dim in sizes.dim_axis:
        v = {b: torch.randn(sizes.samples, dim) for b in rotation.BRANCHES}
        calls[str(dim)] = rotation.ours(v, dim, 1)
    with threads(1):
        seconds = compare(calls, 2 * sizes.repeats)
    times = [(float(dim), milliseconds(values)) for dim, values in seconds.items()]
    memories = []
    for dim in sizes.dim_axis:
        given = ("TOKD both", sizes.student, sizes.backbone, sizes.batch, sizes.size, dim)
        memories.append((float(dim), exactly(in_child(of_steps, *given))))
    yield from _single(times, "time of both rotation updates, d {:g}", "ms")
    yield grows("both rotation updates", "d", "ms", times)
    yield from _single(memories, "memory of a TOKD step, d {:g}", "MB")
    yield grows("a TOKD step", "d", "MB", memories)


def with_workers(sizes: Sizes) -> Iterator[Row]:
    """Measure the growth with dataloader workers: wall-clock ms per image, and memory."""
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
    """Load batches through the real data module.

    Args:
        workers: Number of dataloader workers.
        frames: Images per batch, at most 64; the last six of eight batches count.
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
    """Return the bytes of this process and its children, with shared pages divided (PSS)."""
    total = 0
    for process in (os.getpid(), *(child.pid for child in active_children())):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += 1024 * int(text.split("\nPss:")[1].split()[0])
    return total


def with_videos(sizes: Sizes) -> Iterator[Row]:
    """Measure the growth with the videos of a data set: opening its index, cached and not."""
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
    """Open an index from the folders and return its number of frames."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        return len(FFPPDataModule(root, quality="c40").manifest)


PARTS: tuple[Part, ...] = (with_batch, with_size, with_dim, with_workers, with_videos)
