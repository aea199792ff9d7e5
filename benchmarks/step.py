"""One distillation step by `DistillModule` against its lower bound, on the CPU.

The lower bound is what no distillation can do without: the forward of the folded channels_last
teacher, and forward, backward and Adam of the student. The step is the real one, from Lightning's
`on_train_batch_start` to `on_train_batch_end`, taken in turns with the bound during one fit.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.timing import Spread, ratio, spread, threads
from tokd_lightning.distillation import (
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    Distiller,
    FitNet,
    Hinton,
    RotationOptimizer,
    SimilarityPreserving,
)
from tokd_lightning.distillation.projectors import TeacherProjectors
from tokd_lightning.models import DualBranchTeacher, Shapes, Student, frozen
from tokd_lightning.models.complexity import complexity
from tokd_lightning.modules import DistillModule
from tokd_lightning.modules.checkpoint import HEADER


class Batches(pl.LightningDataModule):
    """The same normalised batch again and again: decoding is no part of the step.

    Args:
        count: Batches per epoch.
        batch: Images per batch.
        size: Side of the images in pixels.
    """

    mean = std = 0.5
    class_weights = None

    def __init__(self, count: int, batch: int, size: int) -> None:
        super().__init__()
        self.count = count
        self.input_size = size
        generator = torch.Generator().manual_seed(0)
        self.batch = {
            "image": torch.randn(batch, 3, size, size, generator=generator),
            "label": torch.arange(batch) % 2,
        }

    def train_dataloader(self) -> DataLoader[Any]:
        """Return ``count`` batches."""
        batches: Any = [self.batch] * self.count
        return DataLoader(batches, batch_size=None)


class LowerBound:
    """The folded teacher's forward, and forward, backward and Adam of the student.

    Args:
        teacher: The teacher, not yet folded.
        student: Name of the student.
    """

    def __init__(self, teacher: DualBranchTeacher, student: str) -> None:
        self.teacher = frozen(teacher)
        self.student = Student(student).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-4)

    def __call__(self, batch: dict[str, Tensor]) -> None:
        """Do the work of one batch."""
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            self.teacher(image)
        loss = functional.cross_entropy(self.student(image).logits, batch["label"])
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()


class Stopwatch(Callback):
    """Times each step, and the lower bound after it.

    Args:
        bound: The lower bound.
        warmup: Steps not timed.
    """

    def __init__(self, bound: LowerBound, warmup: int = 2) -> None:
        self.bound = bound
        self.warmup = warmup
        self.started = 0.0
        self.seconds: dict[str, list[float]] = {"step": [], "bound": []}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of the step."""
        self.started = time.process_time()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop it, and time the bound on the same batch."""
        stopped = time.process_time()
        with torch.enable_grad():
            self.bound(batch)
        bounded = time.process_time()
        if batch_idx >= self.warmup:
            self.seconds["step"].append(stopped - self.started)
            self.seconds["bound"].append(bounded - stopped)


def save_teacher(folder: Path) -> tuple[DualBranchTeacher, Path]:
    """Write an untrained Xception teacher as `TeacherModule` would."""
    teacher = DualBranchTeacher(pretrained=False)
    projectors = TeacherProjectors(teacher.rgb.channels[-1])
    state = {f"teacher.{key}": value for key, value in teacher.state_dict().items()}
    state |= {f"projectors.{key}": value for key, value in projectors.state_dict().items()}
    header = {"kind": "teacher", "network": teacher.spec, "mean": 0.5, "std": 0.5}
    path = folder / "teacher.ckpt"
    torch.save({"state_dict": state, HEADER: header}, path)
    return teacher, path


def tokd(rotation: str, branches: str, dim: int) -> Any:
    """Return a factory of TOKD with these options."""

    def make(student: Shapes, teacher: Shapes) -> Distiller:
        return TOKD(student, teacher, rotation=rotation, branches=branches, dim=dim)  # type: ignore[arg-type]  # names from the command line

    return make


def head_macs(student: str = "resnet18_thin", size: int = 128) -> dict[str, float]:
    """Count what the heads of VID and FitNet, both branches, do beside the student.

    Their steps stand above the lower bound by this work: forward and backward of 1x1 convolutions
    as wide as the teacher's maps.

    Args:
        student: Name of the student.
        size: Side of the images in pixels.

    Returns:
        Method -> multiply-accumulates of its heads / those of the student.
    """
    network = Student(student)
    ours, theirs = network.shapes(size), DualBranchTeacher(pretrained=False).shapes(size)
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
) -> dict[str, tuple[Spread, Spread]]:
    """Time a step of each method.

    Args:
        student: Name of the student.
        batch: Images per step.
        size: Side of the images in pixels.
        dim: d.
        repeats: Timed steps per method.
        num_threads: Threads of torch.
        direction: Direction of the rotation optimizer.

    Returns:
        Method -> (step / lower bound, seconds of process time per step).
    """
    methods: dict[str, Any] = {
        "TOKD both": tokd("learned", "both", dim),
        "TOKD both, no rotation": tokd("none", "both", dim),
        "TOKD rgb": tokd("none", "rgb", dim),
        "Hinton": Hinton,
        "AT both": AttentionTransfer,
        "PKT both": PKT,
        "SP both": SimilarityPreserving,
        "FitNet both": FitNet,
        "VID both": VID,
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder, threads(num_threads):
        teacher, path = save_teacher(Path(folder))
        for name, make in methods.items():
            watch = Stopwatch(LowerBound(teacher, student))
            module = DistillModule(
                make,
                optimizer=lambda p: torch.optim.Adam(p, lr=1e-4),
                lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.1),
                rotation_optimizer=lambda p: RotationOptimizer(p, 5e-5, direction),  # type: ignore[arg-type]  # a name from the command line
                rotation_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.05),
                student=student,
                teacher=str(path),
            )
            trainer = pl.Trainer(
                accelerator="cpu",
                max_epochs=1,
                logger=False,
                callbacks=[watch],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, datamodule=Batches(repeats + watch.warmup, batch, size))
            seconds = watch.seconds
            results[name] = (ratio(seconds["step"], seconds["bound"]), spread(seconds["step"]))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--direction", default="normalized")
    given = parser.parse_args()
    for method, (factor, seconds) in measure(
        given.student,
        given.batch,
        given.size,
        given.dim,
        given.repeats,
        given.threads,
        given.direction,
    ).items():
        print(f"step / lower bound, {method:23} {factor}   {seconds} s")
    for method, times in head_macs(given.student, given.size).items():
        print(f"MACs of the heads / the student's, {method:12} {times:.2f}")
