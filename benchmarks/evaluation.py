"""Images per second of an evaluation: JPEG files, decoding, student, metrics at the end.

It runs `Trainer.validate` on `DistillModule` with a real data module, in the main process and on
one thread, interleaved with its lower bound: the student's forward on batches in memory.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.feed import images, tree
from benchmarks.timing import CPU, Spread, compare, ratio, spread, threads
from benchmarks.training import distill_module, quiet, quiet_trainer
from tokd_lightning.distillation import Hinton
from tokd_lightning.models import Student


class Evaluated(NamedTuple):
    """Images per second of process time, and evaluation / forward only."""

    rate: Spread
    ratio: Spread


def measure(
    student: str = "resnet18_thin",
    batch: int = 64,
    size: int = 299,
    count: int = 256,
    repeats: int = 5,
) -> Evaluated:
    """Time the validation of a student.

    Args:
        student: Name of the student.
        batch: Images per batch.
        size: Side of the images in pixels.
        count: Number of images.
        repeats: Number of passes, at least 2.
    """
    with tree(count, size, split="val") as root, threads(1):
        data = images(root, size, batch, 0, 1)
        module = distill_module(Hinton, student, None)
        trainer = quiet_trainer(CPU, "32-true", limit_val_batches=1.0)
        ready = torch.randn(batch, 3, size, size)
        calls: dict[str, Any] = {
            "evaluation": partial(trainer.validate, module, datamodule=data, verbose=False),
            "forward": partial(_forward, module.student, ready, -(-count // batch)),
        }
        seconds = compare(calls, repeats)
        assert len(module.scores) == count
    return Evaluated(
        spread([count / value for value in seconds["evaluation"]]),
        ratio(seconds["evaluation"], seconds["forward"]),
    )


@torch.no_grad()
def _forward(student: Student, ready: Tensor, batches: int) -> None:
    student.eval()
    for _ in range(batches):
        student(ready)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    quiet()
    found = measure(given.student, repeats=given.repeats)
    print(f"images / s                {found.rate}")
    print(f"evaluation / forward      {found.ratio}")
