"""Most memory that a task holds on the host, measured in a process of its own.

What was once held by another task would count: the kernel's high-water mark never falls. So each
task gets a process that is forked from one which has done nothing but its imports.
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
    """Run a function of a module in a fresh process and return what it returns."""
    forks = "forkserver" in get_all_start_methods()
    context = get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["benchmarks.scaling"])
    with ProcessPoolExecutor(1, mp_context=context) as child:
        return child.submit(_usually, call, *arguments).result()


def _usually(call: Callable[..., T], *arguments: Any) -> T:
    """Call it where processes are started as this platform does by default, as in training."""
    set_start_method(None, force=True)  # type: ignore[arg-type]  # the default
    return call(*arguments)


def high_water() -> int:
    """Return the most bytes that this process has held in memory so far (VmHWM)."""
    if _STATUS.exists():
        return 1024 * int(_STATUS.read_text().split("VmHWM:")[1].split()[0])
    import resource  # not everywhere

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_high_water() -> None:
    """Let the mark fall to what is held now, where the kernel can (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


class _AfterTheFirst(Callback):
    """Forgets the mark once a first step is made: building takes more than a small step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Do so."""
        if trainer.global_step == 1:
            forget_high_water()


def of_steps(
    what: str, student: str, backbone: str, batch: int, size: int, dim: int, steps: int = 3
) -> float:
    """Return MB that training steps held at most, above what the process had after its imports.

    Weights, optimizers and the frozen teacher are in it; building them is not (on Linux). Call it
    by :func:`in_child`.

    Args:
        what: A method of :func:`benchmarks.training.methods`, ``lower bound`` or ``naive loop``.
        student: Name of the student.
        backbone: Of the teacher's branches.
        batch: Images per step.
        size: Side of the images in pixels.
        dim: d.
        steps: Steps; the first one does not count.
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
    """Return :func:`of_steps` of several processes."""
    return [in_child(partial(of_steps, *arguments)) for _ in range(repeats)]


def of_call(call: Callable[..., object], *arguments: Any) -> float:
    """Return MB that a function held at most above what the process had before.

    Call it by :func:`in_child`.
    """
    forget_high_water()
    before = high_water()
    call(*arguments)
    return (high_water() - before) / 1e6
