"""Live table of the runner: finished, running and failed jobs, and the time left."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokd_lightning.schedule.jobs import State, Task, clock

_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "red", "dropped": "dim"}
# Where not all jobs fit on the screen, those with a higher rank are hidden first.
_RANK: dict[State, int] = {"running": 0, "failed": 1, "done": 2, "waiting": 3, "dropped": 4}


def draw(tasks: Sequence[Task], workers: int, started: float, room: int) -> RenderableType:
    """Draw the jobs and, below them, the number in each state and the time left.

    Args:
        tasks: All jobs.
        workers: Number of jobs that run at a time.
        started: ``time.monotonic()`` at the start.
        room: Lines available. If there are more jobs, running and failed ones are shown first,
            then the most recently finished, then the next to start.
    """
    shown = list(tasks)
    if len(tasks) > room - 1:
        latest = sorted(tasks, key=lambda task: (_RANK[task.state], -task.ended))
        kept = {id(task) for task in latest[: max(1, room - 1)]}
        shown = [task for task in tasks if id(task) in kept]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("left", "left", "right"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_column()  # the only one that shrinks on a narrow terminal
    for task in shown:
        elapsed = clock(task.seconds) if task.seconds else ""
        # Text, so that what a process prints is not interpreted as markup.
        progress = Text(task.progress(), no_wrap=True, overflow="ellipsis")
        table.add_row(task.job.name, task.state, elapsed, progress, style=_STYLES[task.state])
    return Group(table, Text(summary(tasks, workers, started), style="bold"))


def summary(tasks: Sequence[Task], workers: int, started: float) -> str:
    """Return the number of jobs in each state, the estimated time left and the time so far."""
    counted = Counter(task.state for task in tasks)
    parts = [f"{counted[state]} {state}" for state in _RANK if counted[state]]
    left = seconds_left(tasks, workers)
    if left is not None and counted["waiting"] + counted["running"]:
        parts.append(f"about {clock(left)} left")
    return ", ".join([*parts, f"{clock(time.monotonic() - started)} so far"])


def seconds_left(tasks: Sequence[Task], workers: int) -> float | None:
    """Estimate the time left from the actual against the expected time of the finished jobs.

    Returns:
        Seconds, or None while nothing has finished.
    """
    done = [task for task in tasks if task.state == "done" and task.seconds]
    if not done:
        return None
    pace = sum(task.seconds for task in done) / sum(task.job.expected for task in done)
    left = sum(
        max(0.0, pace * task.job.expected - task.seconds)
        for task in tasks
        if task.state in {"running", "waiting"}
    )
    return left / workers


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line without wrapping, markup or highlighting."""
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)
