"""The whole main job on the demo data, as ``make demo`` runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.runs import Run
from tokd_lightning.tables.compare import compare_runs
from tokd_lightning.tables.jobs import Job, tokd
from tokd_lightning.tables.runner import run_experiments

_EXPERIMENTS = Path("experiments")
_QUALITIES = ("c23", "c40")  # those that `tokd demo` makes
# What a fit says of an epoch, or of a run that it has found finished.
_PROGRESS = r"^epoch \d|: finished, reused$"


class _Experiment(NamedTuple):
    """One of the demo's four networks."""

    title: str
    file: str
    run: str  # the run's name, between data and seed
    options: tuple[str, ...] = ()

    @property
    def distils(self) -> bool:
        return self.file == "demo_tokd.yaml"

    def job(self, quality: str, seed: int) -> str:
        return f"{self.title} {quality} s{seed}"

    def name(self, quality: str, seed: int) -> str:
        return f"synthetic-{quality}_{self.run}_s{seed}"


_TEACHER = _Experiment("teacher", "demo_teacher.yaml", "teacher-both")
# The slowest first; the distilled ones wait for the teacher.
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
    """Make the data, train and test teacher, vanilla, TOKD rgb and TOKD both, compare them.

    What an earlier call has finished is reused.

    Args:
        data: Folder of the mini-FF++; made where it is not there yet.
        runs: Folder of all run folders; logs go to ``logs`` in it, the comparison to ``compare``.
        quality: Qualities to train on, of ``c23`` and ``c40``.
        seed: Seeds of training; the data stay the same.
        workers: How many processes at a time, of one thread each.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: The experiments are not in the working directory, the data will not have a
            quality, ``workers`` is below 1, or a process has failed.
    """
    if not (_EXPERIMENTS / _TEACHER.file).is_file():
        raise TokdError(
            f"no {_EXPERIMENTS}/{_TEACHER.file} here: start it where {_EXPERIMENTS}/ is"
        )
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
    """Describe fit and test of one network; a test that an earlier call has made is left out."""
    name = experiment.name(quality, seed)
    options = [
        *("--config", _EXPERIMENTS / experiment.file, "--runs", runs, "--seed_everything", seed),
        *("--data.root", data, "--data.quality", quality, "--name", name, *experiment.options),
    ]
    needs = ["data"]
    if experiment.distils:
        needs.append(_TEACHER.job(quality, seed))
        options += ["--model.teacher", Run(runs / _TEACHER.name(quality, seed)).best]
    results = Run(runs / name).results() or {}
    tested = "test/frame/acc" in results.get("metrics", {})
    commands = [tokd("fit", *options, "--reuse"), *([] if tested else [tokd("test", *options)])]
    return Job(
        experiment.job(quality, seed), commands, runs / "logs" / f"{name}.log", needs, _PROGRESS
    )
