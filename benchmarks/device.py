"""`python -m benchmarks --device cuda`: the GPU figures, in a table and in JSON.

Also runs on the CPU with `--tiny`, as a smoke test.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import feed, frequency, rotation, step, teacher
from benchmarks.figures import Row, exactly, milliseconds, milliseconds_of
from benchmarks.naive import Naive
from benchmarks.timing import clock_of, compare, ratio
from benchmarks.training import Batches
from tokd_lightning.distillation.rotation_optimizer import POLISH_EVERY
from tokd_lightning.files import write_json
from tokd_lightning.frequency import high_pass
from tokd_lightning.models import DualBranchTeacher, frozen
from tokd_lightning.runs.provenance import versions

LEAD = 4.0


class Sizes(NamedTuple):
    """Sizes of each measurement; the defaults are the paper's."""

    batch: int = 64
    size: int = 299
    dim: int = 1024
    student: str = "resnet18_thin"
    backbone: str = "xception"
    precision: str = "bf16-mixed"
    repeats: int = 15
    batches: int = 200
    steps: int = 60
    skipped: int = 40
    workers: int = os.cpu_count() or 1


TINY = Sizes(4, 64, 64, "resnet18_thin", "test_resnet", "bf16-mixed", 2, 6, 4, 2, 1)


@torch.no_grad()
def filters(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure Eq. 1 against the full transforms and against copying the images once."""
    shape, targets = f"{sizes.size} px, batch {sizes.batch}", {0.1: "<= 0.15", 0.33: "<= 0.35"}
    x = torch.randn(sizes.batch, 3, sizes.size, sizes.size, device=device)
    last, copied = x.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
    frequencies = torch.arange(sizes.size, dtype=torch.float64) / sizes.size
    for cutoff in (0.1, 0.33, 0.5):
        kept = (frequencies[:, None] + frequencies >= cutoff).float().to(device)
        calls: dict[str, Callable[[], Tensor]] = {
            "ours": partial(high_pass, x, cutoff),
            "channels_last": partial(high_pass, last, cutoff),
            "torch_dct": partial(frequency.full_transform, x, kept),
            "copy": partial(copied.copy_, x),
        }
        seconds = compare(calls, 2 * sizes.repeats, 3, clock_of(device, LEAD))
        ours = seconds["ours"]
        where = f"cutoff {cutoff}, {shape}"
        yield Row(f"filter, {where}", "ms", milliseconds(ours), targets.get(cutoff, ""))
        yield Row(f"filter of channels_last, {where}", "ms", milliseconds(seconds["channels_last"]))
        yield Row(f"filter / copy of the batch, {where}", "x", ratio(ours, seconds["copy"]))
        yield Row(f"torch_dct / filter, {where}", "x", ratio(seconds["torch_dct"], ours))


def rotations(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure both rotation updates: on the device only, as launched by the host, and the peers."""
    v = {branch: torch.randn(sizes.batch, sizes.dim, device=device) for branch in rotation.BRANCHES}
    what = f"both rotation updates, d {sizes.dim}, N {sizes.batch}"
    one = {"ours": rotation.ours(v, sizes.dim, 1)}
    queued = compare(one, 2 * sizes.repeats, 3, clock_of(device, LEAD))["ours"]
    yield Row(f"{what}, host ahead", "ms", milliseconds(queued), "<= 0.5")
    block = {"ours": rotation.ours(v, sizes.dim)}
    seconds = compare(block, max(2, sizes.repeats // 5), 1, clock_of(device))["ours"]
    each = [value / POLISH_EVERY for value in seconds]
    yield Row(f"{what}, alone, with polish", "ms", milliseconds(each))
    peers = {how: rotation.peer(v, sizes.dim, how) for how in ("cayley", "matrix_exp")}
    for how, values in compare(peers, sizes.repeats, 2, clock_of(device)).items():
        yield Row(f"torch orthogonal ({how}), alone", "ms", milliseconds(values))


def teachers(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure the teacher's forward in several forms."""
    found = teacher.measure_on(device, sizes.batch, sizes.size, sizes.repeats, sizes.backbone)
    for form, values in found.items():
        yield Row(f"teacher forward, {form}", "ms", values)


def steps(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure a step of every method against its lower bound, and its memory."""
    measured = step.measure(
        sizes.student,
        sizes.batch,
        sizes.size,
        sizes.dim,
        sizes.repeats,
        torch.get_num_threads(),
        device=device,
        precision=sizes.precision,
        backbone=sizes.backbone,
    )
    for method, found in measured:
        yield Row(f"step / lower bound, {method}", "x", found.ratio, "<= 1.10")
        yield Row(f"step, {method}", "ms", milliseconds_of(found.step))
        if method == "TOKD both":
            yield Row("lower bound", "ms", milliseconds_of(found.bound))
        for what, peak in found.peak.items():
            if peak and (what == "step" or method == "TOKD both"):
                yield Row(f"peak memory, {what}, {method}", "GB", exactly(peak / 1e9))


def peers(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure the naive loop, with both of torch's parametrizations, against the lower bound."""
    made = DualBranchTeacher(sizes.backbone, pretrained=False)
    bound = step.LowerBound(frozen(made).to(device), sizes.student, sizes.precision)
    batch = Batches(1, sizes.batch, sizes.size, device).batch
    calls: dict[str, Callable[[], object]] = {"bound": partial(bound, batch)}
    for how in ("cayley", "matrix_exp"):
        options = (sizes.student, sizes.size, sizes.dim, device, sizes.precision, how)
        calls[how] = partial(Naive(made, *options), batch)
    seconds = compare(calls, sizes.repeats, 3, clock_of(device))
    for how in ("cayley", "matrix_exp"):
        yield Row(f"naive loop ({how}) / lower bound", "x", ratio(seconds[how], seconds["bound"]))
        yield Row(f"naive loop ({how})", "ms", milliseconds(seconds[how]))


def fed(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure wall-clock time from files to batches and to steps."""
    found = feed.measure(
        device,
        sizes.workers,
        sizes.batch,
        sizes.size,
        sizes.dim,
        sizes.batches,
        sizes.steps,
        sizes.skipped,
        sizes.precision,
        sizes.student,
        sizes.backbone,
    )
    for what, value, unit, target in (
        (f"JPEG files to finished batches, {sizes.workers} workers", found.loaded, "/s", ">= 5000"),
        ("the same with a TOKD training", found.trained, "/s", ""),
        ("share of it waiting for data", 100 * found.waited, "%", "<= 5"),
        ("a JPEG file", found.kilobytes, "kB", ""),
    ):
        yield Row(what, unit, exactly(value), target)


PARTS = (filters, rotations, teachers, fed, steps, peers)


def run(device: torch.device, sizes: Sizes, out: Path, only: list[str]) -> None:
    """Measure, print each figure when it is measured, and write all of them as JSON.

    Args:
        device: Device to measure on.
        sizes: Sizes of the measurements.
        out: The JSON file; written after every part, so that an interruption loses little.
        only: Names of parts; empty for all.
    """
    cuda = device.type == "cuda"
    about = {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "sizes": sizes._asdict(),
        "versions": versions(),
    }
    print(f"{about['device']}, torch {torch.__version__}, {sizes}", flush=True)
    rows: list[Row] = []
    for part in PARTS:
        if only and part.__name__ not in only:
            continue
        try:
            for row in part(device, sizes):
                rows.append(row)
                print(row, flush=True)
        except Exception as error:  # an error in one part must not end the others
            print(f"{part.__name__} failed: {type(error).__name__}: {error}", flush=True)
        if cuda:
            torch.cuda.empty_cache()
        results = [row.as_json() for row in rows]
        write_json(out, {**about, "results": results})
