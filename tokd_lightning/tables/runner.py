"""Several ``tokd`` processes side by side: what follows waits, and what is going on shows."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tokd_lightning.errors import TokdError
from tokd_lightning.tables.jobs import Job, Task, clock

_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "red", "dropped": "dim"}
_POLL = 0.2  # seconds between two looks at the processes
_GRACE = 10.0  # seconds that a stopped process has to write what it must


def run_experiments(jobs: Sequence[Job], workers: int = 2, console: Console | None = None) -> None:
    """Run jobs, each as soon as those that it needs are done, in the given order otherwise.

    Every process gets one thread (``OMP_NUM_THREADS=1``), so that results do not depend on how
    many run at once. A live table shows what happens; without a terminal, one line per change. A
    failed job drops those that need it and lets the others finish. Ctrl-C, SIGTERM and SIGHUP stop
    the processes with all their children.

    Args:
        jobs: What to run.
        workers: How many at a time, at least 1.
        console: Where to show progress; standard output by default.

    Raises:
        ValueError: A name occurs twice, a need names no job, or needs go round in a circle.
        TokdError: A job failed: its log's last line, and where the log is. Or no worker at all.
    """
    _check(jobs)
    if workers < 1:
        raise TokdError(f"--workers must be at least 1, not {workers}")
    console = console or Console()
    tasks = {job.name: Task(job) for job in jobs}
    board = Live(console=console, refresh_per_second=2) if console.is_terminal else None
    with _signals_stop_everything(), board or nullcontext():
        try:
            while any(task.state in {"waiting", "running"} for task in tasks.values()):
                changed = _advance(tasks, workers)
                if board:
                    board.update(_table(tasks.values()))
                else:
                    for task in changed:
                        console.print(task.line(), soft_wrap=True, highlight=False, markup=False)
                time.sleep(_POLL)
        finally:
            _stop([task for task in tasks.values() if task.state == "running"])
    if failed := [task for task in tasks.values() if task.state == "failed"]:
        raise TokdError("; ".join(f"{task.job.name} {task.reason}" for task in failed))


def _check(jobs: Sequence[Job]) -> None:
    known: set[str] = set()
    left = list(jobs)
    if len({job.name for job in jobs}) < len(jobs):
        raise ValueError("two jobs have one name")
    while left:
        ready = [job for job in left if set(job.needs) <= known]
        if not ready:
            names = ", ".join(job.name for job in left)
            raise ValueError(f"these jobs need each other, or one that does not exist: {names}")
        known |= {job.name for job in ready}
        left = [job for job in left if job not in ready]


def _advance(tasks: Mapping[str, Task], workers: int) -> list[Task]:
    """Look at every task once and return those whose state has changed."""
    before = {name: task.state for name, task in tasks.items()}
    for task in tasks.values():
        if task.state == "running":
            task.go_on()
    free = workers - sum(task.state == "running" for task in tasks.values())
    for task in tasks.values():
        if task.state != "waiting":
            continue
        needs = [tasks[name] for name in task.job.needs]
        if lost := [need for need in needs if need.state in {"failed", "dropped"}]:
            task.drop(lost[0].job.name)
        elif free > 0 and all(need.state == "done" for need in needs):
            task.start()
            free -= 1
    return [task for name, task in tasks.items() if task.state != before[name]]


def _table(tasks: Iterable[Task]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("left", "left", "right"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_column()  # alone in giving way on a narrow terminal
    for task in tasks:
        elapsed = clock(task.seconds) if task.seconds else ""
        # Text, because markup is nothing that a process should write.
        progress = Text(task.progress(), no_wrap=True, overflow="ellipsis")
        table.add_row(task.job.name, task.state, elapsed, progress, style=_STYLES[task.state])
    return table


def _stop(tasks: Sequence[Task]) -> None:
    """Stop processes: politely, and after the grace period for good, with all their children."""
    processes = [task.process for task in tasks if task.process is not None]
    deadline = time.monotonic() + _GRACE
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # even if Ctrl-C comes a second time
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _signals_stop_everything() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that the processes stop on the way out."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {n: signal.signal(n, leave) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
