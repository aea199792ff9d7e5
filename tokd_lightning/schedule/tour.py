"""The complete pipeline on the demo data, as run by ``make demo``."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.report.compare import compare_runs
from tokd_lightning.runs.folder import Run
from tokd_lightning.schedule.jobs import Job, tokd
from tokd_lightning.schedule.runner import run_experiments

_EXPERIMENTS = Path("experiments")
_QUALITIES = ("c23", "c40")  # those that `tokd demo` makes
# Log lines of a fit: an epoch, or a run that is already finished.
_PROGRESS = r"^epoch \d|: finished, reused$"


class _Experiment(NamedTuple):
    """One of the demo's four networks."""

    title: str
    file: str
    run: str  # the part of the run's name between data and seed
    options: tuple[str, ...] = ()

    @property
    def distils(self) -> bool:
        return self.file == "demo_tokd.yaml"

    def job(self, quality: str, seed: int) -> str:
        return f"{self.title} {quality} s{seed}"

    def name(self, quality: str, seed: int) -> str:
        return f"synthetic-{quality}_{self.run}_s{seed}"


_TEACHER = _Experiment("teacher", "demo_teacher.yaml", "teacher-both")
# Slowest first; the distilled networks wait for the teacher.
_ALL = (
    _TEACHER,
    _Experiment("vanilla", "demo_vanilla.yaml", "resnet18_thin_vanilla-none"),
    _Experiment(
        "TOKD rgb",
        "demo_tokd.yaml",
        "resnet18_thin_tokd-rgb",
        ("--model.distiller.branches", "rgb"),
    ),
    _Experiment("TOKD both", "demo_tokd.yaml", "resnet18_thin_tokd-both"),
)


def run_demo(
    data: Path,
    runs: Path,
    quality: Sequence[str] = ("c23",),
    seed: Sequence[int] = (0,),
    workers: int = 2,
) -> int:
    """Make the data, train and test teacher, vanilla, TOKD rgb and TOKD both, and compare them.

    Results that an earlier call has finished are reused.

    Args:
        data: Folder of the mini-FF++; created if it does not exist.
        runs: Folder of all run folders; logs go to ``logs`` in it, the comparison to ``compare``.
        quality: Qualities to train on, out of ``c23`` and ``c40``.
        seed: Training seeds; the data stay the same.
        workers: Number of processes that run at a time, with one thread each.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: The demo data do not have a quality, ``workers`` is below 1, or a process failed.
    """
    for unknown in set(quality) - set(_QUALITIES):
        raise TokdError(
            f"quality {unknown} is not in the demo data: take {' or '.join(_QUALITIES)}"
        )
    cells = [(e, q, s) for e in _ALL for q in dict.fromkeys(quality) for s in dict.fromkeys(seed)]
    making = Job(
        "data",
        [tokd("demo", "--out", data)],
        runs / "logs" / "data.log",
        progress=r"^demo: |: made earlier",
    )
    jobs = [_job(experiment, q, s, data, runs) for experiment, q, s in cells]
    run_experiments([making, *jobs], workers)

    folders = [runs / experiment.name(q, s) for experiment, q, s in cells]
    console = Console()
    written = compare_runs(folders, runs / "compare", console)
    places = [("data", data), *(("run", folder) for folder in folders), *written.items()]
    for what, path in places:
        console.print(f"{what:<14} {path}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _job(experiment: _Experiment, quality: str, seed: int, data: Path, runs: Path) -> Job:
    """Return the job that fits and tests one network, without the test if it is already done."""
    name = experiment.name(quality, seed)
    options = [
        *("--config", _EXPERIMENTS / experiment.file, "--runs", runs, "--seed_everything", seed),
        *("--data.root", data, "--data.quality", quality, "--name", name, *experiment.options),
    ]
    needs = ["data"]
    if experiment.distils:
        needs.append(_TEACHER.job(quality, seed))
        options += ["--model.teacher", Run(runs / _TEACHER.name(quality, seed)).best]
    record = Run(runs / name).results()
    tested = record is not None and record.is_tested
    commands = [tokd("fit", *options, "--reuse"), *([] if tested else [tokd("test", *options)])]
    return Job(
        experiment.job(quality, seed), commands, runs / "logs" / f"{name}.log", needs, _PROGRESS
    )
