"""``tokd table N`` and ``tokd figure N``: list, time or run the cells of a table of the paper."""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.files import is_locked
from tokd_lightning.schedule.cluster import local_tasks
from tokd_lightning.schedule.cohorts import in_cohorts
from tokd_lightning.schedule.estimate import (
    expected_seconds,
    keep_probes,
    probe_jobs,
    shared_seconds,
    to_go,
)
from tokd_lightning.schedule.jobs import Job, Task
from tokd_lightning.schedule.overview import Standing, count, overview
from tokd_lightning.schedule.plan import Plan, jobs_of, looker_of, need_data, visible_gpus
from tokd_lightning.schedule.queue import queue_of
from tokd_lightning.schedule.runner import run_jobs
from tokd_lightning.schedule.slurm import slurm_parameters
from tokd_lightning.schedule.submit import Slurm
from tokd_lightning.tables.grid import GridCell
from tokd_lightning.tables.paper import PAPER
from tokd_lightning.tables.state import Looker, State

_STYLES = {"done": "green", "stale": "yellow", "unreadable": "red"}
_STANDING = {
    **{"not run": "to do", "interrupted": "resume", "not tested": "to test", "done": "done"},
    **{"stale": "stale", "unreadable": "broken"},
}


def dry_run(
    plan: Plan,
    workers: int | None = None,
    console: Console | None = None,
    commands: bool = False,
    cluster: str | None = None,
) -> None:
    """Print the state of a table's entries, the jobs in the queue, and what is left to do.

    Args:
        plan: The plan.
        workers: Number of processes that run at a time, for the estimate of hours.
        console: Console to print to.
        commands: Whether to list the ``tokd fit`` command of every cell.
        cluster: ``slurm`` if the queue must be queried; otherwise it is queried only if jobs were
            submitted.

    Raises:
        TokdError: ``cluster`` is ``slurm`` and the queue does not answer.
    """
    console = console or Console()
    looker, workers = looker_of(plan), _workers(workers, visible_gpus())
    states = {cell.name: looker(cell) for cell in plan.cells}
    teachers = sum(cell.role == "teacher" for cell in plan.cells)
    counted = f"{_some(len(plan.cells) - teachers, 'cell')}, {_some(teachers, 'teacher')}"
    _say(console, f"{plan.table.key}: {plan.table.title}. {counted}", style="bold")
    if cluster == "slurm" and shutil.which("squeue") is None:
        raise TokdError("there is no squeue here: ask for the queue where jobs are submitted")
    silent = ""
    try:
        records, queue = queue_of(plan.runs, [cell.name for cell in plan.cells])
    except TokdError as error:
        if cluster == "slurm":
            raise
        records, queue = {}, None
        silent = str(error).removesuffix(": nothing was submitted")
    hours = {name: seconds / 3600 for name, seconds in expected_seconds(plan).items()}
    standing, notes = {}, []
    for cell in plan.cells:
        name, state = cell.name, states[cell.name]
        record = records.get(name)
        entry = queue.of(record) if queue is not None else None
        there = entry is not None and (entry.active or entry.ending)
        if is_locked(plan.runs / ".locks" / name) or (entry and entry.state == "RUNNING"):
            kind = "running"
        elif there:
            kind = "queued"
        else:
            kind = _STANDING[state.kind]
        standing[name] = Standing(kind, None if plan.settled(state) else hours.get(name))
        if there and entry is not None:
            never = ", cannot start as it is" if entry.stuck else ""
            notes.append(f"{name}: job {entry.number}, {entry}{never}")
        elif queue is not None and record is not None and not plan.settled(state):
            fate = queue.fate(record, plan.runs / "logs" / f"{name}.log")
            notes.append(f"{name}: {fate}")
        if state.kind in {"stale", "unreadable"}:
            notes.append(f"{name}: {state}" + ("" if plan.rerun else ", --rerun sets it aside"))
    for line in ["", *overview(plan.table, plan.cells, standing, console.width)]:
        _say(console, line)
    _say(console, f"\n{count(standing)}", style="bold")
    for note in notes:
        _say(console, note)
    if silent or (records and queue is None):
        why = silent or "which is not installed here"
        _say(console, f"jobs were given to SLURM, {why}: what is queued is not known")
    if commands:
        _list_commands(plan, states, console)
    jobs = _together(plan, jobs_of(plan, looker, expected_seconds(plan))[0], workers)
    _say(console, to_go(plan, states, jobs, workers))


def _list_commands(plan: Plan, states: Mapping[str, State], console: Console) -> None:
    for cell in plan.cells:
        state = states[cell.name]
        _say(console, f"\n{cell.title}: {state}", style=_STYLES.get(state.kind, ""))
        _say(console, f"  {shlex.join(['tokd', 'fit', *plan.arguments(cell)])}")
    for cell in plan.cells if plan.on else ():
        if cell.role != "teacher":
            _say(console, f"\n{cell.title} on {plan.on}")
            _say(console, f"  {shlex.join(['tokd', *plan.evaluation(cell)])}")
    _say(console, "")


def estimate(plan: Plan, workers: int | None = None, console: Console | None = None) -> int:
    """Time a few batches of each kind of cell and print the estimated total.

    Returns:
        The exit code: 2 if a probe failed, else 0.

    Raises:
        TokdError: A data set is missing, or ``workers`` is below 1.
    """
    console = console or Console()
    gpus = visible_gpus()
    workers, jobs = _workers(workers, gpus), probe_jobs(plan)
    need_data(plan, jobs)
    tasks = run_jobs(jobs, len(gpus) or 1, console, gpus)
    keep_probes(plan)
    looker = looker_of(plan)
    states = {cell.name: looker(cell) for cell in plan.cells}
    left = _together(plan, jobs_of(plan, looker, expected_seconds(plan))[0], workers)
    _say(console, to_go(plan, states, left, workers))
    return report_failures(tasks, console)


def reproduce(
    plan: Plan,
    workers: int | None = None,
    console: Console | None = None,
    cluster: str | None = None,
    slurm: Sequence[str] = (),
) -> int:
    """Run the unfinished cells of a plan on this machine, or submit them to a cluster.

    Args:
        plan: The plan.
        workers: Number of processes that run at a time; None for one per visible GPU or, without a
            GPU, two (one on a single core).
        console: Console for the progress.
        cluster: ``slurm``: each run is a job in SLURM's queue. ``local``: submitit jobs on this
            machine.
        slurm: Values of ``--slurm``.

    Returns:
        The exit code: 2 if a run failed or could not be started, or if the page could not be
        written; else 0.

    Raises:
        TokdError: A data set is missing, ``workers`` is below 1, or the cluster cannot be used.
    """
    console = console or Console()
    gpus = visible_gpus()
    workers = _workers(workers, gpus)
    parameters = slurm_parameters(slurm)
    queue = Slurm(plan.runs, parameters) if cluster == "slurm" else None
    start = local_tasks(plan.runs) if cluster == "local" else Task
    looker = looker_of(plan)
    states = {cell.name: looker(cell) for cell in plan.cells}
    jobs, left_out = jobs_of(plan, looker, expected_seconds(plan))
    need_data(plan, jobs)
    for cell in plan.cells:
        state = states[cell.name]
        if plan.settled(state) and state.kind != "done":
            _say(console, f"{cell.name}: {state}; kept, --rerun sets it aside and makes it again")
    for name, why in left_out.items():
        _say(console, f"{name}: not started, {why}")
    if queue is not None:
        jobs_at_once = parameters["array_parallelism"]
        _say(console, to_go(plan, states, _together(plan, jobs, 1), jobs_at_once))
        left = queue.submit(jobs, console, lambda jobs: _together(plan, jobs, 1))
        return 2 if left or left_out else 0
    jobs = _together(plan, jobs, workers)
    _say(console, to_go(plan, states, jobs, workers))
    tasks = run_jobs(jobs, workers, console, gpus, start)
    code = 0
    try:
        if plan.runs.is_dir():
            _report(plan, console, looker)
    except (TokdError, OSError) as error:
        _say(console, f"the page of {plan.table.key} was not made: {error}", style="red")
        code = 2
    return report_failures(tasks, console, len(left_out)) or code


def _together(plan: Plan, jobs: Sequence[Job], workers: int) -> list[Job]:
    """Return the jobs in cohorts, of a number that keeps all workers busy.

    On a cluster one worker is counted: the fewest cohorts take the fewest hours of its nodes.
    """
    return in_cohorts(jobs, plan.cohort, workers, shared_seconds(plan))


def _report(plan: Plan, console: Console, looker: Looker) -> None:
    """Print the table with the results so far, checking for changed data, and write its page."""
    from tokd_lightning.report.command import report  # numpy and the renderers

    key = plan.table.key
    name = key if set(plan.datasets) <= set(PAPER) else f"{key}-{'-'.join(plan.datasets)}"
    out = plan.runs / "report" / name

    def state(cell: GridCell, _: Path) -> tuple[str, tuple[str, ...]]:
        found = looker(cell)
        return found.kind, found.why

    shown = (plan.runs, [key], plan.datasets, out, plan.settings, False, plan.recipe)
    report(*shown, console=console, state=state)


def report_failures(tasks: Sequence[Task], console: Console, left_out: int = 0) -> int:
    """Print a line per failed job and return the exit code, 2 if not all jobs are done."""
    failed = [task for task in tasks if task.state == "failed"]
    for task in failed:
        _say(console, f"{task.job.name} {task.reason}", style="red")
    waiting = left_out + sum(task.state == "dropped" for task in tasks)
    if not failed and not waiting:
        return 0
    rest = f", {waiting} not started" if waiting else ""
    _say(console, f"{len(failed)} failed{rest}; the same command continues from here")
    return 2


def _workers(asked: int | None, gpus: Sequence[str]) -> int:
    if asked is not None and asked < 1:
        raise TokdError(f"--workers must be at least 1, not {asked}")
    return asked or len(gpus) or min(2, os.cpu_count() or 1)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
