"""A distillation step of `DistillModule` against its lower bound.

The lower bound is the work that no distillation can avoid: the forward of the folded channels_last
teacher, and forward, backward and Adam of the student. The step is the real one, from Lightning's
`on_train_batch_start` to `on_train_batch_end`, interleaved with the bound during one fit, in the
same precision. On a GPU both are timed on its stream.
"""

import argparse
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import CPU, Spread, clock_of, ratio, spread, threads
from benchmarks.training import Batches, distill_module, methods, mixed, quiet_trainer, save_teacher
from tokd_lightning.distillation import VID, FitNet
from tokd_lightning.models import DualBranchTeacher, Student, frozen
from tokd_lightning.models.complexity import complexity


class LowerBound:
    """The folded teacher's forward, and forward, backward and Adam of the student.

    Args:
        teacher: The teacher returned by :func:`frozen`, on the device.
        student: Name of the student.
        precision: Lightning's name of the precision, ``32-true`` or ``bf16-mixed``.
    """

    def __init__(
        self, teacher: DualBranchTeacher, student: str, precision: str = "32-true"
    ) -> None:
        self.teacher = teacher
        self.precision = precision
        device = next(teacher.parameters()).device
        self.student = Student(student).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-4)

    def __call__(self, batch: dict[str, Tensor]) -> None:
        """Do the work of one batch."""
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        with mixed(self.precision, image.device):
            with torch.no_grad():
                self.teacher(image)
            loss = functional.cross_entropy(self.student(image).logits, batch["label"])
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()


class Stopwatch(Callback):
    """Times each step, and the lower bound after it, and reads the peak memory of both.

    Args:
        bound: The lower bound.
        device: Device whose clock is used.
        warmup: Steps that are not timed.
    """

    def __init__(self, bound: LowerBound, device: torch.device, warmup: int = 2) -> None:
        self.bound = bound
        self.warmup = warmup
        self.cuda = device.type == "cuda"
        self.clock = clock_of(device)
        self.marks: list[tuple[Any, Any, Any]] = []
        self.peak = {"step": 0, "bound": 0}

    def seconds(self) -> dict[str, list[float]]:
        """Return the seconds of each timed step and bound."""
        timed = self.marks[self.warmup :]
        return {
            "step": [self.clock.seconds(start, middle) for start, middle, _ in timed],
            "bound": [self.clock.seconds(middle, end) for _, middle, end in timed],
        }

    def _note_peak(self, name: str) -> None:
        if self.cuda:
            self.peak[name] = max(self.peak[name], torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the timing of the step."""
        self.started = self.clock.mark()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop it, and time the bound on the same batch."""
        stopped = self.clock.mark()
        self._note_peak("step")
        with torch.enable_grad():
            self.bound(batch)
        self.marks.append((self.started, stopped, self.clock.mark()))
        self._note_peak("bound")


class Measured(NamedTuple):
    """Steps of one method and their lower bound.

    Attributes:
        ratio: Step / lower bound.
        step: Seconds per step.
        bound: Seconds of the bound.
        peak: Peak bytes allocated on the device during a step and during the bound, 0 on the CPU.
    """

    ratio: Spread
    step: Spread
    bound: Spread
    peak: dict[str, int]


def head_macs(
    student: str = "resnet18_thin", size: int = 128, backbone: str = "xception"
) -> dict[str, float]:
    """Count the MACs of the heads of VID and FitNet, for both branches, relative to the student.

    Their steps exceed the lower bound by this work: forward and backward of 1x1 convolutions as
    wide as the teacher's maps.

    Args:
        student: Name of the student.
        size: Side of the images in pixels.
        backbone: Backbone of the teacher's branches.

    Returns:
        Method -> multiply-accumulates of its heads / those of the student.
    """
    network = Student(student)
    ours = network.shapes(size)
    theirs = DualBranchTeacher(backbone, pretrained=False).shapes(size)
    whole, found = complexity(network, size).macs, {}
    for name, method in (("FitNet both", FitNet), ("VID both", VID)):
        macs = 0
        for key, weight in method(ours, theirs).heads.named_parameters():
            tap = int(key.split(".")[1])
            grid = [min(a, b) for a, b in zip(ours[tap][1:], theirs[tap][1:], strict=True)]
            macs += weight.numel() * math.prod(grid) if weight.dim() == 4 else 0
        found[name] = macs / whole
    return found


def measure(
    student: str = "resnet18_thin",
    batch: int = 8,
    size: int = 128,
    dim: int = 1024,
    repeats: int = 12,
    num_threads: int = 1,
    direction: str = "normalized",
    device: torch.device = CPU,
    precision: str = "32-true",
    backbone: str = "xception",
    only: Collection[str] = (),
    makers: Mapping[str, Any] | None = None,
    **teacher: Any,
) -> Iterator[tuple[str, Measured]]:
    """Time a step of each method, one method after the other.

    Args:
        student: Name of the student.
        batch: Images per step.
        size: Side of the images in pixels.
        dim: d.
        repeats: Timed steps per method.
        num_threads: Threads of torch.
        direction: Direction of the rotation optimizer.
        device: Device to measure on.
        precision: Lightning's name of the precision.
        backbone: Backbone of the teacher's branches.
        only: Methods to measure; by default all.
        makers: Method -> its factory; by default those of :func:`methods`.
        **teacher: Options of the teacher, such as its branches.

    Yields:
        Method and its result.
    """
    with tempfile.TemporaryDirectory() as folder, threads(num_threads):
        network, path = save_teacher(Path(folder), backbone, size=size, **teacher)
        folded = frozen(network).to(device)
        del network  # of 1.2 GB with ViT-L/14
        for name, make in (methods(dim) if makers is None else makers).items():
            if only and name not in only:
                continue
            watch = Stopwatch(LowerBound(folded, student, precision), device)
            trainer = quiet_trainer(device, precision, callbacks=[watch])
            images = Batches(repeats + watch.warmup, batch, size, device)
            trainer.fit(distill_module(make, student, path, direction), datamodule=images)
            seconds = watch.seconds()
            yield (
                name,
                Measured(
                    ratio(seconds["step"], seconds["bound"]),
                    spread(seconds["step"]),
                    spread(seconds["bound"]),
                    watch.peak,
                ),
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--direction", default="normalized")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true")
    given = vars(parser.parse_args())
    given["num_threads"] = given.pop("threads")
    given["device"] = torch.device(given["device"])
    for method, found in measure(**given):
        print(f"step / lower bound, {method:23} {found.ratio}   {found.step} s")
    for method, times in head_macs(given["student"], given["size"]).items():
        print(f"MACs of the heads / the student's, {method:12} {times:.2f}")
