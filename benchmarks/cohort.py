"""Cost of thirteen columns of Table 3: a cohort against one `tokd fit` for each.

Both are the real command on the same files, in processes of their own on one thread. User and
system time of a process with all its children is read when it ends; on a GPU wall-clock time
counts. Two lengths separate the cost of a step from that of start, validation and end.
``--sequential`` runs the separate fits one after another in one process: the ratio of the steps in
less time, without that of whole processes. ``--live`` adds the tensors that live when a step begins
to the peak memory, which also has what malloc keeps: weights, moments, a batch and the teacher.

    python -m benchmarks.cohort --out cohort.json
    python -m benchmarks.cohort --live --steps 3
    python -m benchmarks.cohort --size 96 --batch 48 --teacher resnet18_thin --steps 1 11
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.training import save_teacher

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "vanilla": ("vanilla", ""),
    "KD": ("hinton", ""),
    **{
        f"{method} {branches}": (method, branches)
        for method in ("at", "pkt", "vid", "sp", "fitnet")
        for branches in ("rgb", "both")
    },
    "TOKD both": ("tokd_ffpp", "both"),
}


def write_frames(root: Path, size: int, batches: int, batch: int) -> Path:
    """Write a flat tree of JPEG files with enough training frames, one video each."""
    generator = np.random.default_rng(0)
    numbers = {"train": max(batches * batch, 8), "val": batch, "test": 2}
    for split, number in numbers.items():
        for index in range(number):
            kind = "real" if index % 2 else "fake/made"
            folder = root / split / kind / f"{split}{index:04d}"
            folder.mkdir(parents=True)
            pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "0000.jpg", quality=75)
    return root


def arguments(column: str, at: argparse.Namespace, teacher: Path, runs: Path) -> list[str]:
    """Return the arguments of a column's `tokd fit`."""
    method, branches = COLUMNS[column]
    return [
        *("--config", str(ROOT / "experiments/own_res18t.yaml"), "--data.root", str(at.data)),
        *("--data.size", str(at.size), "--data.batch_size", str(at.batch)),
        *(
            "--data.samples_per_epoch",
            str(at.batch * at.now),
            "--data.num_workers",
            str(at.workers),
        ),
        *("--trainer.max_epochs", "1", "--trainer.accelerator", at.accelerator),
        *("--trainer.precision", at.precision, "--log", "none", "--runs", str(runs)),
        *("--model.student", at.student, "--model.teacher", str(teacher)),
        *("--model.distiller", str(ROOT / f"configs/distillers/{method}.yaml")),
        *(("--model.distiller.branches", branches) if branches else ()),
        *("--name", column.replace(" ", "-")),
    ]


# Runs the fits whose arguments it is given.
_ALL = "import json, sys; from tokd_lightning.cli import main; "
_ALL += "sys.exit(any([main(['fit', *args]) for args in json.loads(sys.argv[1])]))"


def joined(at: argparse.Namespace, teacher: Path, runs: Path) -> list[str]:
    """Return the arguments of a cohort of all columns."""
    first, *others = (arguments(column, at, teacher, runs) for column in at.columns)
    return [*first, *(part for one in others for part in ("--also", *one))]


def cost_of(*fits: list[str]) -> dict[str, float]:
    """Return CPU and wall-clock seconds and peak memory in MB of a process that runs some fits."""
    tokd = str(Path(sys.executable).with_name("tokd"))
    several = [sys.executable, "-c", _ALL, json.dumps(fits)]
    started = time.monotonic()
    process = subprocess.Popen(
        [tokd, "fit", *fits[0]] if len(fits) == 1 else several,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(said.decode()[-2000:])
    return {
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.monotonic() - started,
        "memory": used.ru_maxrss / 1024,
    }


def live_of(args: list[str]) -> float:
    """Return the most MB of tensors that live when a step of `tokd fit` begins."""
    code = "import sys; from benchmarks.cohort import fit_and_count; fit_and_count(sys.argv[1:])"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def fit_and_count(args: list[str]) -> None:
    """Run `tokd fit` and print the most MB of tensors that live when a step begins."""
    from tokd_lightning.cli import main
    from tokd_lightning.modules import DistillModule

    step, most = DistillModule.training_step, [0.0]

    def counted(self: Any, batch: Any, batch_idx: int) -> None:
        gc.collect()
        tensors = [it for it in gc.get_objects() if issubclass(type(it), torch.Tensor)]
        stored = [it.untyped_storage() for it in tensors if it.device.type == "cpu"]
        sizes = {it.data_ptr(): it.nbytes() for it in stored}
        most.append(sum(sizes.values()) / 2**20)
        step(self, batch, batch_idx)

    watched: Any = DistillModule
    watched.training_step = counted
    code = main(["fit", *args])
    print(max(most))
    sys.exit(code)


def measure(at: argparse.Namespace) -> dict[str, Any]:
    """Measure each length and return the seconds, written to ``--out`` as they come."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _, teacher = save_teacher(place, at.teacher)
        at.data = write_frames(place / "data", at.size, max(at.steps), at.batch)
        found: dict[str, Any] = {"columns": at.columns, "load": [os.getloadavg()]}
        for steps in at.steps:
            at.now = steps
            runs = place / f"runs{steps}"
            entry = found[str(steps)] = {"cohort": cost_of(joined(at, teacher, runs / "cohort"))}
            if at.live:
                entry["cohort"]["live"] = live_of(joined(at, teacher, runs / "live"))
            entry["alone"] = {}
            alone = {name: arguments(name, at, teacher, runs / "alone") for name in at.columns}
            groups = {name: [args] for name, args in alone.items()}
            for name, fits in ({"all": list(alone.values())} if at.sequential else groups).items():
                entry["alone"][name] = cost_of(*fits)
                if at.live and not at.sequential:
                    entry["alone"][name]["live"] = live_of([*fits[0], "--rerun"])
                _keep(found, at.out)
        found["load"].append(os.getloadavg())
    _keep(found, at.out)
    return found


def _keep(found: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")


def summary(found: dict[str, Any], at: argparse.Namespace) -> list[str]:
    """Return one line per length, and the ratio of the steps between the first and the last."""
    lines, totals = [], []
    clock = "cpu" if at.accelerator == "cpu" else "wall"
    what = "all fits" if at.sequential else "whole processes"
    for number in at.steps:
        together, alone = found[str(number)]["cohort"], found[str(number)]["alone"].values()
        total = sum(it[clock] for it in alone)
        totals.append((together[clock], total))
        largest = max(it["memory"] for it in alone)
        lines.append(
            f"{number} steps, {what}: {together[clock]:.1f} / {total:.1f} s = "
            f"{together[clock] / total:.3f}; {together['memory']:.0f} MB, alone up to {largest:.0f}"
        )
        if at.live and not at.sequential:
            most = max(it["live"] for it in alone)
            lines.append(f"tensors: {together['live']:.0f} MB, alone up to {most:.0f}")
    more = at.steps[-1] - at.steps[0]
    if more:
        (start, start_alone), (end, end_alone) = totals[0], totals[-1]
        step, step_alone = (end - start) / more, (end_alone - start_alone) / more
        images = len(at.columns) * at.batch / step
        left = 10 - at.steps[0]
        whole = (start + left * step) / (start_alone + left * step_alone)
        lines.append(
            f"a step: {step:.2f} / {step_alone:.2f} s = {step / step_alone:.3f}, "
            f"{images:.0f} student-images a second"
        )
        if not at.sequential:
            lines.append(f"ten steps, whole processes, from both lengths: {whole:.3f}")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--teacher", default="xception")
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=list(COLUMNS))
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--sequential", action="store_true", help="separate fits in one process")
    parser.add_argument("--live", action="store_true", help="count the tensors, too")
    parser.add_argument("--out", type=Path)
    at = parser.parse_args()
    for line in summary(measure(at), at):
        print(line)


if __name__ == "__main__":
    main()
