"""Cost of thirteen columns of Table 3: a cohort against one `tokd fit` for each.

Both are the real command on the same files, in processes of their own on one thread. User and
system time of a process with all its children is read when it ends; on a GPU wall-clock time
counts. Two lengths separate the cost of a step from that of start, validation and end.

    python -m benchmarks.cohort --out cohort.json
    python -m benchmarks.cohort --size 96 --batch 48 --teacher resnet18_thin --steps 1 11
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
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


def cost_of(*args: str) -> dict[str, float]:
    """Run `tokd fit` and return its CPU and wall-clock seconds and its peak memory in MB."""
    tokd = str(Path(sys.executable).with_name("tokd"))
    started = time.monotonic()
    process = subprocess.Popen(
        [tokd, "fit", *args],
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
            every = [arguments(column, at, teacher, runs / "cohort") for column in at.columns]
            joined = [*every[0], *(part for one in every[1:] for part in ("--also", *one))]
            entry = found[str(steps)] = {"cohort": cost_of(*joined), "alone": {}}
            for column in at.columns:
                args = arguments(column, at, teacher, runs / "alone")
                entry["alone"][column] = cost_of(*args)
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
    for number in at.steps:
        together, alone = found[str(number)]["cohort"], found[str(number)]["alone"].values()
        total = sum(it[clock] for it in alone)
        totals.append((together[clock], total))
        largest = max(it["memory"] for it in alone)
        lines.append(
            f"{number} steps, whole processes: {together[clock]:.1f} / {total:.1f} s = "
            f"{together[clock] / total:.3f}; {together['memory']:.0f} MB, alone up to {largest:.0f}"
        )
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
    parser.add_argument("--out", type=Path)
    at = parser.parse_args()
    for line in summary(measure(at), at):
        print(line)


if __name__ == "__main__":
    main()
