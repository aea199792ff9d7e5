"""Runner for several ``tokd`` processes at a time, with dependencies and a live table."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType

from rich.console import Console
from rich.live import Live

from tokd_lightning.errors import TokdError
from tokd_lightning.schedule.jobs import BUSY, Job, Task, stop
from tokd_lightning.schedule.progress import draw

_POLL = 0.2  # seconds between two polls of the processes


def run_experiments(jobs: Sequence[Job], workers: int = 2, console: Console | None = None) -> None:
    """Run jobs as :func:`run_jobs` does, and raise an error if one failed.

    Args:
        jobs: Jobs to run.
        workers: Number of jobs that run at a time, at least 1.
        console: Console for the progress; standard output by default.

    Raises:
        ValueError: As :func:`run_jobs`.
        TokdError: A job failed (the message has its log's last line and path), or ``workers`` is
            below 1.
    """
    tasks = run_jobs(jobs, workers, console)
    if failed := [task for task in tasks if task.state == "failed"]:
        raise TokdError("; ".join(f"{task.job.name} {task.reason}" for task in failed))


def run_jobs(
    jobs: Sequence[Job],
    workers: int = 2,
    console: Console | None = None,
    gpus: Sequence[str] = (),
    start: Callable[[Job], Task] = Task,
) -> list[Task]:
    """Run each job as soon as the jobs that it needs are done, otherwise in the given order.

    Every process gets one thread (``OMP_NUM_THREADS=1``), so that results do not depend on how
    many run at once. A live table shows the progress; without a terminal, one line is printed per
    change. If a job fails, those that need it are dropped and the others finish. Ctrl-C, SIGTERM
    and SIGHUP stop the processes with all their children.

    Args:
        jobs: Jobs to run.
        workers: Number of jobs that run at a time, at least 1.
        console: Console for the progress; standard output by default.
        gpus: Values for ``CUDA_VISIBLE_DEVICES``, assigned to the workers in turn, one each.
        start: Function that makes a job a task.

    Returns:
        The ended tasks, in the order of the jobs.

    Raises:
        ValueError: A name occurs twice, or the needs name an unknown job or form a cycle.
        TokdError: ``workers`` is below 1.
    """
    _check(jobs)
    if workers < 1:
        raise TokdError(f"--workers must be at least 1, not {workers}")
    console = console or Console()
    tasks = {job.name: start(job) for job in jobs}
    board = Live(console=console, refresh_per_second=2) if console.is_terminal else None
    started = time.monotonic()
    with _signals() as told, board or nullcontext():
        try:
            while any(task.state in {"waiting", "running"} for task in tasks.values()):
                changed = _advance(tasks, workers, gpus)
                if board:
                    room = console.height - 2
                    board.update(draw(list(tasks.values()), workers, started, room))
                else:
                    for task in changed:
                        console.print(task.line(), soft_wrap=True, highlight=False, markup=False)
                time.sleep(_POLL)
                _obey(told)
        finally:
            stop([task for task in tasks.values() if task.state == "running"])
    return list(tasks.values())


def _check(jobs: Sequence[Job]) -> None:
    known: set[str] = set()
    left = list(jobs)
    if len({job.name for job in jobs}) < len(jobs):
        raise ValueError("two jobs have the same name")
    while left:
        ready = [job for job in left if set(job.needs) <= known]
        if not ready:
            names = ", ".join(job.name for job in left)
            raise ValueError(f"these jobs need each other, or one that does not exist: {names}")
        known |= {job.name for job in ready}
        left = [job for job in left if job not in ready]


def _advance(tasks: Mapping[str, Task], workers: int, gpus: Sequence[str]) -> list[Task]:
    """Poll every task once, start those that can run, and return those whose state has changed."""
    before = {name: (task.state, task.reason == BUSY) for name, task in tasks.items()}
    for task in tasks.values():
        if task.state == "running":
            task.go_on()
    taken = {task.slot for task in tasks.values() if task.state == "running"}
    free = [slot for slot in range(workers) if slot not in taken]
    for task in tasks.values():
        if task.state != "waiting":
            continue
        needs = [tasks[name] for name in task.job.needs]
        if lost := [need for need in needs if need.state in {"failed", "dropped"}]:
            task.drop(lost[0].job.name)
        elif free and all(need.state == "done" for need in needs):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[free[0] % len(gpus)]} if gpus else {}
            if task.start(free[0], gpu):
                free.pop(0)
    return [t for name, t in tasks.items() if (t.state, t.reason == BUSY) != before[name]]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that would stop this process, for :func:`_obey`.

    An exception raised in a signal handler can be lost in a destructor, and the signal with it.
    """
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in stopping}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _obey(told: Sequence[int]) -> None:
    if not told:
        return
    if told[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + told[0])
