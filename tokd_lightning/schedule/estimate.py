"""Estimates of the time and memory that a table's cells take, from a few batches of each kind."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokd_lightning.files import write_json
from tokd_lightning.schedule.jobs import Job, clock, tokd
from tokd_lightning.schedule.plan import Plan
from tokd_lightning.tables.grid import GridCell
from tokd_lightning.tables.state import State

FILE = "estimates.json"


def probe_jobs(plan: Plan) -> list[Job]:
    """Return one job per kind of cell that times a few of its batches, teachers first.

    A teacher's probe saves a checkpoint after those batches, which its students' probes need.
    """
    place = plan.runs / ".probes"
    jobs = {}
    for cell in _kinds(plan.cells):
        arguments = [*cell.arguments(plan.roots[cell.data], place), "--out", _file(place, cell)]
        jobs[cell.name] = Job(
            cell.name,
            [tokd("probe", *arguments)],
            plan.runs / "logs" / f"probe_{cell.name}.log",
            [cell.teacher.name] if cell.teacher else [],
        )
    return list(jobs.values())


def keep_probes(plan: Plan) -> None:
    """Collect the measurements of the probes in ``estimates.json``."""
    place = plan.runs / ".probes"
    found = read_estimates(plan.runs)
    for cell in _kinds(plan.cells):
        if (path := _file(place, cell)).is_file():
            found[cell.name] = json.loads(path.read_text())
    write_json(plan.runs / FILE, found)


def read_estimates(runs: Path) -> dict[str, dict[str, Any]]:
    """Read the measurements: name of a cell with seed 0 -> seconds, memory in GiB, device."""
    try:
        return dict(json.loads((runs / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def expected_seconds(plan: Plan) -> dict[str, float]:
    """Return the expected seconds of each cell by its name, without those not yet timed."""
    known = read_estimates(plan.runs)
    names = {cell.name: replace(cell, seed=0).name for cell in plan.cells} if known else {}
    return {name: float(known[kind]["seconds"]) for name, kind in names.items() if kind in known}


def shared_seconds(plan: Plan) -> dict[str, float]:
    """Return by name what of a cell's seconds a cohort pays once: those of the teacher."""
    known = read_estimates(plan.runs)
    names = {cell.name: replace(cell, seed=0).name for cell in plan.cells} if known else {}
    return {
        name: float(known[kind]["teacher"])
        for name, kind in names.items()
        if "teacher" in known.get(kind, {})
    }


def to_go(plan: Plan, states: Mapping[str, State], jobs: Sequence[Job], workers: int) -> str:
    """Return a line on what is left of a plan and, as far as known, its time and memory.

    Args:
        plan: The plan.
        states: Name of a cell -> its state.
        jobs: The jobs that are left, in cohorts.
        workers: Number of jobs that run at a time.
    """
    left = [cell for cell in plan.cells if not plan.settled(states[cell.name])]
    kept = Counter(states[cell.name].kind for cell in plan.cells if cell not in left)
    text = f"{kept.pop('done', 0)} of {len(plan.cells)} runs need nothing"
    for kind, number in kept.items():
        text += f"; {number} {kind}: --rerun sets {'it' if number == 1 else 'them'} aside"
    if not left:
        return text
    expected, known = expected_seconds(plan), read_estimates(plan.runs)
    timed = [cell for cell in left if cell.name in expected]
    sizes = [len(job.parts) for job in jobs if job.parts]
    together = f", {_cohorts(sizes)} that share batches and teacher" if sizes else ""
    if not timed:
        return f"{text}, {len(left)} to go{together}; --estimate times a few batches of each kind"
    names = {cell.name for cell in timed}
    costs = [job.expected for job in jobs if _cells_of(job) & names]
    seconds = max(sum(costs) / workers, max(costs, default=0.0))
    probes = {cell.name: known[replace(cell, seed=0).name] for cell in timed}
    devices = ", ".join(sorted({probe["device"] for probe in probes.values()}))
    memory = max(_memory([probes[it] for it in _cells_of(job) & names]) for job in jobs)
    missing = f" ({len(left) - len(timed)} of them not timed)" if len(timed) < len(left) else ""
    return (
        f"{text}, {len(left)} to go{missing}{together}: {clock(seconds)} with {workers} at a time, "
        f"up to {memory:.1f} GiB each, on {devices}"
    )


def _cells_of(job: Job) -> set[str]:
    return {part.name for part in job.parts} or {job.name}


def _memory(probes: Sequence[Mapping[str, Any]]) -> float:
    """Return the GiB of fits that take turns: the most that one needs, and what the others keep."""
    kept = [float(probe.get("kept", 0)) for probe in probes]
    return max((float(it["memory"]) - own for it, own in zip(probes, kept, strict=True)),
               default=0.0) + sum(kept)  # fmt: skip


def _kinds(cells: Sequence[GridCell]) -> list[GridCell]:
    """Return the cells that differ in more than their seed, each with seed 0."""
    return list({(kind := replace(cell, seed=0)).name: kind for cell in cells}.values())


def _file(place: Path, cell: GridCell) -> Path:
    return place / f"{cell.name}.json"


def _cohorts(sizes: list[int]) -> str:
    """Return how many cells are in how many cohorts, ``6 of them in 2 cohorts of 3``."""
    cohorts = "1 cohort" if len(sizes) == 1 else f"{len(sizes)} cohorts"
    least, most = min(sizes), max(sizes)
    cells = str(most) if least == most else f"{least} to {most}"
    return f"{sum(sizes)} of them in {cohorts} of {cells}"
