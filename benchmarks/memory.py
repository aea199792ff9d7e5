"""Peak host memory of a task, measured in its own process.

Memory once held by another task would count, since the kernel's high-water mark never falls. So
each task gets a process forked from one that has only run its imports.
"""

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context, set_start_method
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch.callbacks import Callback

from benchmarks.naive import Naive
from benchmarks.step import LowerBound
from benchmarks.training import Batches, distill_module, methods, quiet, quiet_trainer, save_teacher
from tokd_lightning.models import frozen

T = TypeVar("T")
_STATUS = Path("/proc/self/status")


def in_child(call: Callable[..., T], *arguments: Any) -> T:
    """Run a module's function in a fresh process and return its result."""
    forks = "forkserver" in get_all_start_methods()
    context = get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["benchmarks.scaling"])
    with ProcessPoolExecutor(1, mp_context=context) as child:
        return child.submit(_usually, call, *arguments).result()


def _usually(call: Callable[..., T], *arguments: Any) -> T:
    """Call it with the platform's default start method for processes, as in training."""
    to_default: Any = set_start_method  # None is the default, which its type leaves out
    to_default(None, force=True)
    return call(*arguments)


def high_water() -> int:
    """Return the peak memory of this process so far in bytes (VmHWM)."""
    if _STATUS.exists():
        return 1024 * int(_STATUS.read_text().split("VmHWM:")[1].split()[0])
    import resource  # not on every platform

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_high_water() -> None:
    """Reset the high-water mark to the current memory, if the kernel supports it (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


class _AfterTheFirst(Callback):
    """Resets the mark after the first step: building takes more memory than a small step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Reset the mark after the first step."""
        if trainer.global_step == 1:
            forget_high_water()


def of_steps(
    what: str, student: str, backbone: str, batch: int, size: int, dim: int, steps: int = 3
) -> float:
    """Return the peak memory of training steps in MB, above that after the imports.

    Weights, optimizers and the frozen teacher are included; building them is not (on Linux). Call
    it through :func:`in_child`.

    Args:
        what: A method of :func:`benchmarks.training.methods`, ``lower bound`` or ``naive loop``.
        student: Name of the student.
        backbone: Backbone of the teacher's branches.
        batch: Images per step.
        size: Side of the images in pixels.
        dim: d.
        steps: Number of steps; the first one is excluded.
    """
    quiet()
    torch.set_num_threads(1)
    before = high_water()
    images = Batches(steps, batch, size)
    with tempfile.TemporaryDirectory() as folder:
        teacher, path = save_teacher(Path(folder), backbone)
        call: Callable[[dict[str, torch.Tensor]], object] | None = None
        if what == "lower bound":
            call = LowerBound(frozen(teacher), student)
        elif what == "naive loop":
            call = Naive(teacher, student, size, dim, torch.device("cpu"), "32-true", "cayley")
        del teacher
        if call is None:
            trainer = quiet_trainer(torch.device("cpu"), "32-true", callbacks=[_AfterTheFirst()])
            trainer.fit(distill_module(methods(dim)[what], student, path), datamodule=images)
        else:
            call(images.batch)
            forget_high_water()
            for _ in range(steps - 1):
                call(images.batch)
    return (high_water() - before) / 1e6


def of_steps_in_child(*arguments: Any, repeats: int = 2) -> list[float]:
    """Return :func:`of_steps` for several processes."""
    return [in_child(partial(of_steps, *arguments)) for _ in range(repeats)]


def of_call(call: Callable[..., object], *arguments: Any) -> float:
    """Return the peak memory of a function in MB, above that before the call.

    Call it through :func:`in_child`.
    """
    forget_high_water()
    before = high_water()
    call(*arguments)
    return (high_water() - before) / 1e6
