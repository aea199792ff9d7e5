"""Time profile of a TOKD step: torch.profiler over some steps, as text.

`python -m benchmarks.profiling --device cuda`
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.rotation import BRANCHES, ours
from benchmarks.training import Batches, distill_module, methods, quiet_trainer, save_teacher
from tokd_lightning.modules import distill

WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "Memcpy DtoH",
    "Memcpy HtoD",
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "cudaLaunchKernel",
    "cudaMemcpyAsync",
)


def labelled(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``call`` as a labelled part of the profile."""

    @wraps(call)
    def labelled_call(*args: Any, **options: Any) -> Any:
        with record_function(f"part: {name}"):
            return call(*args, **options)

    return labelled_call


class Profiled(Callback):
    """Profiles the last steps of a training.

    Args:
        device: Device of the training.
        skipped: Number of steps before.
    """

    def __init__(self, device: torch.device, skipped: int) -> None:
        kinds = [ProfilerActivity.CPU]
        self.cuda = device.type == "cuda"
        if self.cuda:
            kinds.append(ProfilerActivity.CUDA)
        self.profile = profile(activities=kinds)
        self.skipped = skipped
        self.steps = 0
        self.seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Label the parts of the step."""
        pl_module._teacher.teacher.forward = labelled("teacher", pl_module._teacher.teacher.forward)
        for name, owner, method in (
            ("student", pl_module.student, "forward"),
            ("distiller", pl_module.distiller, "forward"),
            ("backward", pl_module, "manual_backward"),
            ("rotation", distill, "rotate"),
            ("logging", pl_module, "log_training"),
        ):
            setattr(owner, method, labelled(name, getattr(owner, method)))

    def _wait(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start after the skipped steps."""
        if batch_idx == self.skipped:
            self._wait()
            self.profile.start()
            self.seconds = self._wait()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the last step."""
        self.steps += batch_idx >= self.skipped
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds = self._wait() - self.seconds
            self.profile.stop()


def summary(found: profile, steps: int, seconds: float, rows: int) -> str:
    """Return the profile of one step as text."""
    events = list(found.key_averages())
    device = [e for e in events if e.device_type.name == "CUDA" and not _is_label(e)]
    kernels = sum(e.self_device_time_total for e in device)
    lines = [
        f"{1e3 * seconds / steps:.2f} ms a step under the profiler, "
        f"kernels {kernels / steps / 1e3:.2f} ms"
    ]
    lines.append("\nparts, ms a step         host  device (what it launched itself)")
    for event in events:
        if event.key.startswith("part:") and event.device_type.name == "CPU":
            host, own = (t / steps / 1e3 for t in (event.cpu_time_total, event.device_time_total))
            lines.append(f"  {event.key[6:]:20} {host:7.2f} {own:7.2f}")
    lines.append("\nwaits and copies, a step")
    for name in WAITS:
        count = sum(e.count for e in events if e.key.startswith(name))
        if count:
            lines.append(f"  {name:30} {count / steps:8.1f}")
    lines.append("\nkernels by device time      calls       ms")
    for event in sorted(device, key=lambda e: -e.self_device_time_total)[:rows]:
        spent = event.self_device_time_total / steps / 1e3
        lines.append(f"  {event.count / steps:7.1f} {spent:8.3f}  {event.key[:80]}")
    lines.append("\noperators by host time      calls       ms")
    for event in sorted(events, key=lambda e: -e.self_cpu_time_total)[:rows]:
        spent = event.self_cpu_time_total / steps / 1e3
        lines.append(f"  {event.count / steps:7.1f} {spent:8.3f}  {event.key[:60]}")
    return "\n".join(lines)


def _is_label(event: Any) -> bool:
    return getattr(event, "is_user_annotation", False) or event.key.startswith(
        ("part:", "Optimizer.")
    )


def step(
    device: torch.device,
    batch: int = 64,
    size: int = 299,
    dim: int = 1024,
    precision: str = "bf16-mixed",
    backbone: str = "xception",
    method: str = "TOKD both",
    steps: int = 5,
    rows: int = 18,
) -> str:
    """Profile training steps of one method.

    Args:
        device: Device to measure on.
        batch: Images per step.
        size: Side of the images in pixels.
        dim: d.
        precision: Lightning's name of the precision.
        backbone: Backbone of the teacher's branches.
        method: One of ``benchmarks.step.methods``.
        steps: Number of profiled steps.
        rows: Number of rows of the tables.
    """
    with tempfile.TemporaryDirectory() as folder:
        _, teacher = save_teacher(Path(folder), backbone)
        watch = Profiled(device, skipped=5)
        module = distill_module(methods(dim)[method], "resnet18_thin", teacher)
        trainer = quiet_trainer(device, precision, callbacks=[watch])
        trainer.fit(module, datamodule=Batches(5 + steps, batch, size, device))
    return summary(watch.profile, watch.steps, watch.seconds, rows)


def rotations(device: torch.device, dim: int = 1024, batch: int = 64, rows: int = 10) -> str:
    """Profile steps of the rotation optimizer only, including the rows of Eq. 15."""
    v = {branch: torch.randn(batch, dim, device=device) for branch in BRANCHES}
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    call = ours(v, dim, 10)
    call()
    with profile(activities=kinds) as found:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return summary(found, 10, seconds, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--backbone", default="xception")
    parser.add_argument("--method", default="TOKD both")
    parser.add_argument("--rows", type=int, default=18)
    given = vars(parser.parse_args())
    print(f"=== {given['method']}\n{step(**given)}\n\n=== both rotation updates")
    print(rotations(given["device"], given["dim"], given["batch"], given["rows"] // 2))
