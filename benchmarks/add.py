"""ADD's two losses against a whole step of ADD, on the CPU.

The step is the forward of the folded ResNet50 teacher, forward, backward and Adam of the ResNet50
student, and both losses of the default stages with the gradient at the student's maps. The losses
are timed on maps of the same sizes and memory format as in the step, interleaved with the rest of
the step.
"""

import argparse

import torch
from torch.nn import functional

from benchmarks.timing import Spread, compare, spread, threads
from tokd_lightning.distillation import ADD
from tokd_lightning.models import DualBranchTeacher, Student, StudentOutput, frozen


def measure(
    network: str = "resnet50",
    batch: int = 8,
    size: int = 128,
    repeats: int = 12,
    num_threads: int = 1,
) -> dict[str, Spread]:
    """Time ADD's losses and the whole step.

    Args:
        network: Backbone of student and teacher.
        batch: Images per step.
        size: Side of the images in pixels.
        repeats: Timed steps, at least 2.
        num_threads: Threads of torch.

    Returns:
        ``share``, losses / step in percent; ``losses`` and ``step``, milliseconds of process time.
    """
    torch.manual_seed(0)
    teacher = frozen(DualBranchTeacher(network, False, branches="rgb"))
    student = Student(network).to(memory_format=torch.channels_last)
    add = ADD(student.shapes(size), teacher.shapes(size))
    optimizer = torch.optim.Adam([*student.parameters(), *add.parameters()], lr=2e-4)
    image = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2
    with torch.no_grad():
        wanted, found = teacher(image), student(image)
    ours = {stride: m.clone().requires_grad_() for stride, m in found.maps.items()}

    def losses() -> None:
        parts = add.distances(StudentOutput(found.logits, ours), wanted, labels)
        torch.autograd.grad(torch.stack(list(parts.values())).sum(), list(ours.values()))

    def rest() -> None:
        with torch.no_grad():
            teacher(image)
        loss = functional.cross_entropy(student(image).logits, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    with threads(num_threads):
        seconds = compare({"losses": losses, "rest": rest}, repeats, warmup=2)
    pairs = list(zip(seconds["losses"], seconds["rest"], strict=True))
    return {
        "share": spread([100 * a / (a + b) for a, b in pairs]),
        "losses": spread([1e3 * a for a, _ in pairs]),
        "step": spread([1e3 * (a + b) for a, b in pairs]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found = measure(given.network, given.batch, given.size, given.repeats, given.threads)
    print(f"ADD's losses / its step  {found['share']} %")
    print(f"ADD's losses, its step   {found['losses']}, {found['step']} ms")
