"""Additional figures of `make bench-all`: every method, student, form and size."""

import shutil
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks import frequency, loader, rotation, step, tuning
from benchmarks import teacher as teachers
from benchmarks.figures import Row, milliseconds, milliseconds_of
from benchmarks.judged import Part, Sizes
from benchmarks.timing import compare, ratio, threads
from benchmarks.training import methods, variants
from tokd_lightning.distillation.rotation import Layout

_PEERS_UP_TO = 1024  # d: torch's parametrizations take minutes per step above it
_LAYOUTS: tuple[tuple[Layout, int], ...] = (
    ("flat_prefix", 1024),
    ("blocks", 1024),
    ("channels", 256),
)


def filter_sizes(sizes: Sizes) -> Iterator[Row]:
    """Measure the filter at several image sizes."""
    for side in sizes.sides:
        for row in frequency.measure(size=side, batch=sizes.batch, repeats=sizes.repeats):
            where = f"cutoff {row.cutoff}, {side} px, batch {sizes.batch}"
            yield Row(f"torch_dct / filter, {where}", "x", row.speedup)
            yield Row(f"filter / copy of the images, {where}", "x", row.floor)


def rotation_forms(sizes: Sizes) -> Iterator[Row]:
    """Measure rotation updates by d, direction and layout, against torch's parametrizations."""
    few = max(2, sizes.repeats // 5)
    for dim in sizes.dims:
        v = {b: torch.randn(sizes.samples, dim) for b in rotation.BRANCHES}
        calls = {
            "normalized": rotation.ours(v, dim, rotation.DENSE_STEPS),
            "adam": rotation.ours(v, dim, 1, "adam"),
        }
        if dim <= _PEERS_UP_TO:
            calls |= {how: rotation.peer(v, dim, how) for how in ("cayley", "matrix_exp")}
        with threads(1):
            seconds = compare(calls, few)
        seconds["normalized"] = [t / rotation.DENSE_STEPS for t in seconds["normalized"]]
        where = f"d {dim}, N {sizes.samples}"
        for direction in ("normalized", "adam"):
            what = f"both rotation updates, {direction}, {where}, no polish"
            yield Row(what, "ms", milliseconds(seconds[direction]))
        for how in list(calls)[2:]:
            for direction in ("normalized", "adam"):
                what = f"torch orthogonal ({how}) / {direction}, {where}"
                yield Row(what, "x", ratio(seconds[how], seconds[direction]))
    yield from _layouts(sizes, few)


def _layouts(sizes: Sizes, repeats: int) -> Iterator[Row]:
    channels, height, width = sizes.map
    entries = channels * height * width
    v = {b: torch.randn(sizes.samples, entries) for b in rotation.BRANCHES}
    for layout, largest in _LAYOUTS:
        dim = min(largest, channels if layout == "channels" else entries)
        call = rotation.ours(v, dim, rotation.DENSE_STEPS, layout=layout, shape=sizes.map)
        with threads(1):
            seconds = compare({layout: call}, repeats)[layout]
        each = [value / rotation.DENSE_STEPS for value in seconds]
        what = f"both rotation updates, layout {layout}, d {dim}, map {channels}x{height}x{width}"
        yield Row(f"{what}, N {sizes.samples}", "ms", milliseconds(each))


def _steps(student: str, sizes: Sizes) -> Iterator[Row]:
    if student not in sizes.students:
        return
    where = f"{student}, {sizes.size} px, batch {sizes.batch}"
    common = (student, sizes.batch, sizes.size, sizes.dim, sizes.repeats)
    makers = methods(sizes.dim) | variants(sizes.dim)
    for method, found in step.measure(*common, backbone=sizes.backbone, makers=makers):
        yield Row(f"step / lower bound, {method}, {where}", "x", found.ratio)
        yield Row(f"step, {method}, {where}", "ms", milliseconds_of(found.step))
    for direction in ("adam", "plain"):
        only = ["TOKD both"]
        measured = step.measure(*common, 1, direction, backbone=sizes.backbone, only=only)
        what = f"step / lower bound, TOKD both, {direction} direction, {where}"
        yield Row(what, "x", next(measured)[1].ratio)


def steps_resnet18_thin(sizes: Sizes) -> Iterator[Row]:
    """Measure every method with ResNet18-T."""
    yield from _steps("resnet18_thin", sizes)


def steps_resnet34_thin(sizes: Sizes) -> Iterator[Row]:
    """Measure every method with ResNet34-T."""
    yield from _steps("resnet34_thin", sizes)


def steps_xception(sizes: Sizes) -> Iterator[Row]:
    """Measure every method with Xception."""
    yield from _steps("xception", sizes)


def teacher_forms(sizes: Sizes) -> Iterator[Row]:
    """Measure the teacher's forward in every form, compiled too if there is a C++ compiler."""
    compiled = sizes.compiled and shutil.which("g++") is not None
    found = teachers.measure(
        sizes.batch,
        sizes.large,
        max(2, sizes.repeats // 3),
        backbone=sizes.backbone,
        compiled=compiled,
    )
    for form, factor in found.items():
        if form != "eager":
            yield Row(f"teacher, {form} / eager, {sizes.large} px", "x", factor)


def loading_with_workers(sizes: Sizes) -> Iterator[Row]:
    """Measure loaders with two dataloader workers, in wall-clock time."""
    measured = partial(loader.with_workers, 2, 4 * sizes.frames, sizes.large)
    for name, rate in measured(min(64, sizes.frames), max(2, sizes.repeats // 2)).items():
        yield Row(f"frames by 2 workers, {name}, {sizes.large} px, by the clock", "/s", rate)


def tuned_teacher(sizes: Sizes) -> Iterator[Row]:
    """Measure the memory of training a transformer, in whole and in part."""
    yield from tuning.measure(sizes.transformer, 224 if sizes.large > 224 else 64, sizes.batch)


def steps_of_transformers(sizes: Sizes) -> Iterator[Row]:
    """Measure TOKD's step with transformers as teachers, of one branch and of two."""
    side, batch = 224 if sizes.large > 224 else 64, min(2, sizes.batch)
    common = (sizes.student, batch, side, sizes.dim, max(2, sizes.repeats // 2))
    for backbone, branches in ((sizes.transformer, "rgb"), (sizes.transformers, "both")):
        method = f"TOKD {branches}"
        measured = step.measure(*common, backbone=backbone, only=[method], branches=branches)
        found = next(measured)[1]
        what = f"{method}, teacher {backbone} ({branches}), {side} px, batch {batch}"
        yield Row(f"step / lower bound, {what}", "x", found.ratio, "<= 1.08")
        yield Row(f"step, {what}", "ms", milliseconds_of(found.step))


PARTS: tuple[Part, ...] = (
    filter_sizes,
    rotation_forms,
    steps_resnet18_thin,
    steps_resnet34_thin,
    steps_xception,
    teacher_forms,
    loading_with_workers,
    tuned_teacher,
    steps_of_transformers,
)
