"""The frozen Xception teacher against the eager one: forward at 299 px."""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Spread, clock_of, compare, ratio, spread, threads
from benchmarks.training import mixed
from tokd_lightning.models import DualBranchTeacher, TeacherOutput, frozen


@torch.no_grad()
def measure(
    batch: int = 8,
    size: int = 299,
    repeats: int = 5,
    num_threads: int = 1,
    backbone: str = "xception",
    compiled: bool = False,
) -> dict[str, Spread]:
    """Time the forward pass of three or four forms of the teacher.

    Args:
        batch: Images per call.
        size: Side of the images in pixels.
        repeats: Calls per form, interleaved.
        num_threads: Threads of torch.
        backbone: Backbone of the branches.
        compiled: Whether to time the compiled frozen teacher too, which needs a C++ compiler.

    Returns:
        Form -> its time / the eager teacher's.
    """
    teacher = DualBranchTeacher(backbone, pretrained=False).eval()
    forms: dict[str, Any] = {
        "eager": teacher,
        "channels_last": copy.deepcopy(teacher).to(memory_format=torch.channels_last),
        "frozen": frozen(teacher),
    }
    if compiled:
        forms["frozen, compiled"] = torch.compile(frozen(teacher))
    x = torch.randn(batch, 3, size, size)
    with threads(num_threads):
        seconds = compare({name: partial(form, x) for name, form in forms.items()}, repeats)
    return {name: ratio(values, seconds["eager"]) for name, values in seconds.items()}


@torch.no_grad()
def measure_on(
    device: torch.device,
    batch: int = 64,
    size: int = 299,
    repeats: int = 10,
    backbone: str = "xception",
) -> dict[str, Spread]:
    """Time the forward pass on a device in both precisions, and possible optimisations.

    Args:
        device: Device to measure on.
        batch: Images per call.
        size: Side of the images in pixels.
        repeats: Calls per form, interleaved.
        backbone: Backbone of the branches.

    Returns:
        Form -> milliseconds. "autotuned" benchmarks cuDNN's algorithms, "bf16 weights" casts the
        weights once, "graph" replays a CUDA graph of "bf16 frozen".
    """
    teacher = DualBranchTeacher(backbone, pretrained=False).eval().to(device)
    folded = frozen(teacher)
    x = torch.randn(batch, 3, size, size, device=device)
    last = x.contiguous(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], Any]] = {
        "fp32 eager": partial(teacher, x),
        "fp32 frozen": partial(folded, last),
        "bf16 eager": partial(_mixed, teacher, x),
        "bf16 frozen": partial(_mixed, folded, last),
        "bf16 frozen, bf16 weights": partial(_mixed, copy.deepcopy(folded).bfloat16(), last),
    }
    if device.type == "cuda":
        calls["bf16 frozen, autotuned"] = partial(_autotuned, folded, last)
        calls["bf16 frozen, graph"] = _graph(folded, last).replay
    seconds = compare(calls, repeats, warmup=2, clock=clock_of(device))
    return {name: spread([1e3 * value for value in values]) for name, values in seconds.items()}


def _mixed(teacher: DualBranchTeacher, x: Tensor) -> TeacherOutput:
    with mixed("bf16-mixed", x.device):
        output: TeacherOutput = teacher(x)
        return output


def _autotuned(teacher: DualBranchTeacher, x: Tensor) -> TeacherOutput:
    torch.backends.cudnn.benchmark = True
    try:
        return _mixed(teacher, x)
    finally:
        torch.backends.cudnn.benchmark = False


def _graph(teacher: DualBranchTeacher, x: Tensor) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            _mixed(teacher, x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _mixed(teacher, x)
    return graph


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for form, spread in measure(
        batch=arguments.batch, repeats=arguments.repeats, num_threads=arguments.threads
    ).items():
        print(f"teacher {form:13} / eager  {spread}")
