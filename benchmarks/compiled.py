"""Speed of `--model.compile true`: the frozen teacher's forward, and a step's two networks.

`python -m benchmarks.compiled`; the first call of each form compiles it and is not timed.
"""

import argparse
import copy
import time
from functools import partial

import torch

from benchmarks.step import LowerBound
from benchmarks.timing import Spread, clock_of, compare, ratio, threads
from benchmarks.training import mixed
from tokd_lightning.models import DualBranchTeacher, TeacherOutput, frozen
from tokd_lightning.modules.compile import compile_in_place


def measure(
    device: torch.device,
    batch: int = 8,
    size: int = 128,
    backbone: str = "xception",
    student: str = "resnet18_thin",
    precision: str = "32-true",
    repeats: int = 8,
) -> tuple[dict[str, Spread], float]:
    """Time compiled networks against eager ones, interleaved.

    Args:
        device: Device to measure on.
        batch: Images per step.
        size: Side of the images in pixels.
        backbone: Backbone of the teacher's branches.
        student: Name of the student.
        precision: Lightning's name of the precision.
        repeats: Calls per form.

    Returns:
        Part -> compiled time / eager time: "teacher", the forward of the frozen teacher;
        "student", forward, backward and Adam; "step", both. And the total compile time in seconds.
    """
    folded = frozen(DualBranchTeacher(backbone, pretrained=False)).to(device)
    eager = LowerBound(folded, student, precision)
    fast = LowerBound(copy.deepcopy(folded), student, precision)
    image = torch.randn(batch, 3, size, size, device=device)
    data = {"image": image, "label": torch.arange(batch, device=device) % 2}
    last = image.contiguous(memory_format=torch.channels_last)

    def forward(bound: LowerBound) -> TeacherOutput:
        with torch.no_grad(), mixed(precision, device):
            output: TeacherOutput = bound.teacher(last)
            return output

    compile_in_place(fast.teacher, fast.student)
    started = time.perf_counter()
    fast(data)
    took = time.perf_counter() - started
    calls = {
        "teacher": partial(forward, eager),
        "compiled teacher": partial(forward, fast),
        "step": partial(eager, data),
        "compiled step": partial(fast, data),
    }
    seconds = compare(calls, repeats, warmup=2, clock=clock_of(device))
    students = [
        [
            whole - part
            for whole, part in zip(seconds[f"{how}step"], seconds[f"{how}teacher"], strict=True)
        ]
        for how in ("compiled ", "")
    ]
    found = {
        part: ratio(seconds[f"compiled {part}"], seconds[part]) for part in ("teacher", "step")
    }
    return found | {"student": ratio(*students)}, took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--backbone", default="xception")
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--repeats", type=int, default=8)
    with threads(1):
        spreads, spent = measure(**vars(parser.parse_args()))
    for part, spread in spreads.items():
        print(f"{part}, compiled / as it is  {spread}")
    print(f"compiled in {spent:.0f} s")
