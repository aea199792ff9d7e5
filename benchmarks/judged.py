"""The figures of `make bench`: each part measures one topic and yields rows with targets."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch

from benchmarks import (
    add,
    composing,
    detecting,
    evaluation,
    exported,
    forging,
    frequency,
    loader,
    manifest,
    rotation,
    step,
)
from benchmarks import teacher as teachers
from benchmarks.figures import Row, exactly, milliseconds, milliseconds_of
from benchmarks.memory import of_steps_in_child
from benchmarks.naive import Naive
from benchmarks.timing import CPU, compare, ratio, spread, threads
from benchmarks.training import Batches
from tokd_lightning.models import DualBranchTeacher, frozen


class Sizes(NamedTuple):
    """Sizes of each measurement; the targets are given for the defaults.

    The last five are for the scaling section.
    """

    batch: int = 8
    size: int = 128
    large: int = 299
    dim: int = 1024
    samples: int = 64
    student: str = "resnet18_thin"
    students: tuple[str, ...] = ("resnet18_thin", "resnet34_thin", "xception")
    backbone: str = "xception"
    resnet: str = "resnet50"
    transformer: str = "vit_large_patch14_clip_224"
    transformers: str = "vit_base_patch16_224"  # of a dual-branch teacher
    detecting: tuple[int, int, int] = (224, 299, 380)
    efficient: str = "tf_efficientnet_b4"
    repeats: int = 10
    frames: int = 128
    identities: int = 1000
    compiled: bool = True
    sides: tuple[int, ...] = (128, 224, 299)
    map: tuple[int, int, int] = (256, 10, 10)
    dims: tuple[int, ...] = (256, 1024, 4096)
    batch_axis: tuple[int, ...] = (2, 4, 8, 16, 32)
    size_axis: tuple[int, ...] = (64, 96, 128, 192, 299)
    dim_axis: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096)
    worker_axis: tuple[int, ...] = (1, 2, 4)
    video_axis: tuple[int, ...] = (250, 1000, 4000)


TINY = Sizes(
    batch=2,
    size=64,
    large=64,
    dim=64,
    samples=4,
    students=("resnet18_thin",),
    backbone="test_resnet",
    resnet="test_resnet",
    transformer="test_vit",
    transformers="test_vit",
    detecting=(64, 64, 64),
    efficient="resnet18_thin",
    repeats=2,
    frames=4,
    identities=6,
    compiled=False,
    sides=(32, 64),
    map=(64, 2, 2),
    dims=(16, 64),
    batch_axis=(2, 4),
    size_axis=(64, 96),
    dim_axis=(16, 64),
    worker_axis=(1, 2),
    video_axis=(30, 60),
)


def filters(sizes: Sizes) -> Iterator[Row]:
    """Measure Eq. 1 against the full transforms, and against copying the images once."""
    targets = {0.1: ">= 12", 0.33: ">= 6", 0.5: ">= 3.5"}
    for row in frequency.measure(size=sizes.large, batch=sizes.batch, repeats=sizes.repeats):
        where = f"cutoff {row.cutoff}, {sizes.large} px"
        yield Row(f"torch_dct / filter, {where}", "x", row.speedup, targets[row.cutoff])
        yield Row(f"filter / copy of the images, {where}", "x", row.floor)


def rotations(sizes: Sizes) -> Iterator[Row]:
    """Measure both rotation updates: default direction, Adam's, and torch's parametrizations."""
    where = f"d {sizes.dim}, N {sizes.samples}"
    blocks = max(2, sizes.repeats // 5)
    times, ratios = rotation.measure(sizes.dim, sizes.samples, blocks)
    yield Row(f"both rotation updates, {where}", "ms", times["ours"], "<= 40")
    for how, factor in ratios.items():
        yield Row(f"torch orthogonal ({how}) / both rotation updates, {where}", "x", factor)
    v = {b: torch.randn(sizes.samples, sizes.dim) for b in rotation.BRANCHES}
    with threads(1):
        adam = {"adam": rotation.ours(v, sizes.dim, rotation.DENSE_STEPS, "adam")}
        seconds = compare(adam, blocks)["adam"]
    each = [value / rotation.DENSE_STEPS for value in seconds]
    yield Row(f"both rotation updates, Adam direction, {where}", "ms", milliseconds(each))


def loading(sizes: Sizes) -> Iterator[Row]:
    """Measure frames from files and packs against a plain loader."""
    found = loader.measure(sizes.frames, sizes.large, min(64, sizes.frames), sizes.repeats)
    for form, what, target in (("jpeg", "JPEG q75", ">= 1.8"), ("pack", "packs", ">= 10")):
        name = f"frames from {what} / Pillow and ToTensor, {sizes.large} px"
        yield Row(name, "x", found.faster[form], target)
        yield Row(f"frames from {what}, one core", "/s", found.rates[form])


def forged(sizes: Sizes) -> Iterator[Row]:
    """Measure forged samples, from JPEG files to the batch."""
    side = 320 if sizes.large >= 299 else sizes.large
    found = forging.measure(side, min(32, sizes.frames), sizes.repeats)
    for name, value in found.items():
        what = f"forged sample ({name}), {side} px, one core"
        yield Row(what, "ms", milliseconds_of(value), "<= 15")


def composed(sizes: Sizes) -> Iterator[Row]:
    """Measure degraded samples, and drawing paired and mixed batches."""
    side = min(224, sizes.large)
    for share, target in ((0.3, "<= 12"), (1.0, "")):
        found = composing.degrading(side, min(64, sizes.frames), sizes.repeats, share=share)
        what = f"degraded sample, each of six links with probability {share}, {side} px, one core"
        yield Row(what, "ms", milliseconds_of(found), target)
    frames = 160 * sizes.identities
    for name, found in composing.drawing(frames, 64, max(2, sizes.repeats // 2)).items():
        what = f"drawing a sample of {frames:,} frames, {name}"
        yield Row(what, "ms", milliseconds_of(found), "" if name == "half_batch" else "<= 0.01")


def index(sizes: Sizes) -> Iterator[Row]:
    """Measure opening the index of a data set."""
    found = manifest.measure(sizes.identities)
    videos = 5 * sizes.identities
    what = f"index of {videos} videos, {videos * manifest.FRAMES:,} frames"
    yield Row(f"{what}, remembered", "s", found["remembered"], "< 2")
    yield Row(f"{what}, from the folders", "s", found["folders"])


def teacher(sizes: Sizes) -> Iterator[Row]:
    """Measure the frozen teacher's forward against the eager one's."""
    repeats = max(3, sizes.repeats // 3)
    forms = teachers.measure(sizes.batch, sizes.large, repeats, backbone=sizes.backbone)
    yield Row(f"frozen teacher / eager, {sizes.large} px", "x", forms["frozen"], "<= 0.85")


def steps(sizes: Sizes) -> Iterator[Row]:
    """Measure a step of every method against its lower bound."""
    where = f"{sizes.size} px, batch {sizes.batch}"
    common = (sizes.student, sizes.batch, sizes.size, sizes.dim, sizes.repeats)
    for method, found in step.measure(*common, backbone=sizes.backbone):
        target = {"TOKD both": "<= 1.08", "VID both": ""}.get(method, "<= 1.25")
        yield Row(f"step / lower bound, {method}, {where}", "x", found.ratio, target)
        if method == "TOKD both":
            yield Row(f"step, {method}, {where}", "ms", milliseconds_of(found.step))
            only = [method]
            adam = step.measure(*common, 1, "adam", backbone=sizes.backbone, only=only)
            what = f"step / lower bound, {method}, Adam direction, {where}"
            yield Row(what, "x", next(adam)[1].ratio, "<= 1.6")
    for method, factor in step.head_macs(sizes.student, sizes.size, sizes.backbone).items():
        what = f"MACs of the heads / the student's, {method}, {sizes.size} px"
        yield Row(what, "x", exactly(factor))


def home_made(sizes: Sizes) -> Iterator[Row]:
    """Measure the naive loop against the lower bound of a step."""
    made = DualBranchTeacher(sizes.backbone, pretrained=False)
    batch = Batches(1, sizes.batch, sizes.size).batch
    bound = step.LowerBound(frozen(made), sizes.student)
    calls: dict[str, Callable[[], object]] = {"bound": partial(bound, batch)}
    for how in ("cayley", "matrix_exp"):
        loop = Naive(made, sizes.student, sizes.size, sizes.dim, CPU, "32-true", how)
        calls[how] = partial(loop, batch)
    with threads(1):
        seconds = compare(calls, sizes.repeats)
    for how in ("cayley", "matrix_exp"):
        what = f"naive loop ({how}) / lower bound, {sizes.size} px, batch {sizes.batch}"
        yield Row(what, "x", ratio(seconds[how], seconds["bound"]))


def evaluating(sizes: Sizes) -> Iterator[Row]:
    """Measure the validation loop of a student."""
    found = evaluation.measure(
        sizes.student, min(64, sizes.frames), sizes.large, sizes.frames, max(2, sizes.repeats // 2)
    )
    where = f"{sizes.student}, {sizes.large} px"
    yield Row(f"evaluation from JPEG files, {where}, one core", "/s", found.rate)
    yield Row(f"evaluation / forward alone, {where}", "x", found.ratio)


def in_use(sizes: Sizes) -> Iterator[Row]:
    """Measure exported networks in ONNX Runtime."""
    found = exported.measure(
        min(4, sizes.batch), sizes.large, max(2, sizes.repeats // 2), sizes.backbone
    )
    for name, one in found.items():
        yield Row(f"ONNX, {name}: images", "/s", one.rate)
        yield Row(f"ONNX, {name} / teacher, images", "x", one.faster)
        yield Row(f"ONNX, {name}: file", "MB", exactly(one.size / 1e6))
        yield Row(f"{name}: parameters", "M", exactly(one.parameters / 1e6))
    small = exported.measure_int8([sizes.student], sizes.large, max(5, sizes.repeats))
    for name, quantised in small.items():
        yield Row(f"ONNX int8 / float, {name}: images", "x", quantised.faster, ">= 2.4")
        yield Row(f"ONNX int8, {name}: file", "MB", exactly(quantised.size / 1e6))


def memory(sizes: Sizes) -> Iterator[Row]:
    """Measure the peak memory of a step, above the memory of the process after its imports."""
    where = f"{sizes.size} px, batch {sizes.batch}"
    common = (sizes.student, sizes.backbone, sizes.batch, sizes.size, sizes.dim)
    found: dict[str, list[float]] = {}
    for what in ("lower bound", "TOKD both", "naive loop"):
        found[what] = of_steps_in_child(what, *common)
        yield Row(f"peak memory, {what}, {where}", "MB", spread(found[what]))
    for what in ("TOKD both", "naive loop"):
        many = ratio(found[what], found["lower bound"])
        yield Row(f"peak memory, {what} / lower bound, {where}", "x", many)


def add_losses(sizes: Sizes) -> Iterator[Row]:
    """Measure ADD's losses as a share of its step."""
    share = add.measure(sizes.resnet, sizes.batch, sizes.size, sizes.repeats)["share"]
    what = f"ADD's losses / its step, {sizes.resnet}, {sizes.size} px, batch {sizes.batch}"
    yield Row(what, "%", share, "<= 10")


def detectors(sizes: Sizes) -> Iterator[Row]:
    """Measure the steps of three detectors against plain steps of their backbones."""
    batch, repeats = max(2, sizes.batch // 2), max(2, sizes.repeats // 2)
    backbones = sizes.backbone, sizes.efficient
    targets = {"RFM": "<= 1.75", "F3-Net": "<= 2.4", "MultiAtt": "<= 2.6"}
    found = detecting.measure(batch, repeats, sizes.detecting, *backbones)
    for (name, one), side in zip(found.items(), sizes.detecting, strict=True):
        what = f"step of {name} / plain step, {side} px, batch {batch}"
        yield Row(what, "x", one.ratio, targets[name])


Part = Callable[[Sizes], Iterator[Row]]
PARTS: tuple[Part, ...] = (
    filters,
    rotations,
    steps,
    home_made,
    teacher,
    loading,
    forged,
    composed,
    index,
    evaluating,
    in_use,
    memory,
    add_losses,
    detectors,
)
