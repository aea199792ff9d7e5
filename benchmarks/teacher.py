"""The frozen Xception teacher against the eager one: forward at 299 px, process time."""

import argparse
import copy
from functools import partial

import torch

from benchmarks.timing import Spread, compare, ratio, threads
from tokd_lightning.models import DualBranchTeacher, frozen


@torch.no_grad()
def measure(
    batch: int = 8, size: int = 299, repeats: int = 5, num_threads: int = 1
) -> dict[str, Spread]:
    """Time the forward pass of three forms of the teacher.

    Args:
        batch: Images per call.
        size: Side of the images in pixels.
        repeats: Calls per form, interleaved.
        num_threads: Threads of torch.

    Returns:
        Form -> its time as a fraction of the eager teacher's.
    """
    teacher = DualBranchTeacher(pretrained=False).eval()
    forms = {
        "eager": teacher,
        "channels_last": copy.deepcopy(teacher).to(memory_format=torch.channels_last),
        "frozen": frozen(teacher),
    }
    x = torch.randn(batch, 3, size, size)
    with threads(num_threads):
        seconds = compare({name: partial(form, x) for name, form in forms.items()}, repeats)
    return {name: ratio(values, seconds["eager"]) for name, values in seconds.items()}


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
