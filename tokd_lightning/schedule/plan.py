"""Plan of a ``tokd table`` call: which runs, on which data, and what is left to do."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import recipe
from tokd_lightning.schedule.jobs import Job, tokd
from tokd_lightning.tables.entries import PaperTable
from tokd_lightning.tables.grid import (
    DATASETS,
    GridCell,
    over_seeds,
    select,
    settings_of,
    with_teachers,
)
from tokd_lightning.tables.paper import PAPER, WITH_DETECTORS, paper_table
from tokd_lightning.tables.state import Looker, State

# Log lines of a fit: an epoch, or a run that is already finished.
PROGRESS = r"^epoch \d|: finished, reused$"
_AGAIN = {"stale", "unreadable"}
_OF_BATCH = {"model.accumulate", "model.compile"}  # what of a model shapes batches or the teacher


@dataclass(frozen=True)
class Plan:
    """A table and the runs that a call asks for.

    Args:
        table: The table or figure.
        cells: Its runs over all seeds, each after its teacher.
        roots: Key of a data set -> its folder.
        runs: Folder of all run folders.
        log: Value of ``tokd fit --log``.
        rerun: Whether stale runs are set aside and made again.
        datasets: The data sets of the table's entries.
        settings: Values of ``--set``.
        recipe: Training recipe of the detectors.
        cohort: Most fits that share a process; 1 gives each its own.
    """

    table: PaperTable
    cells: tuple[GridCell, ...]
    roots: Mapping[str, Path]
    runs: Path = Path("runs")
    log: str = "wandb"
    rerun: bool = False
    datasets: tuple[str, ...] = PAPER
    settings: tuple[str, ...] = ()
    recipe: str = "paper"
    cohort: int = 1

    def arguments(self, cell: GridCell) -> list[str]:
        """Return the arguments of ``tokd fit`` for a cell, with its folders."""
        return cell.arguments(self.roots[cell.data], self.runs)

    def steps(self, cell: GridCell, data: Mapping[str, Any] | None = None) -> "Steps":
        """Return the commands of a cell; ``data`` are the current hashes of its data, if known."""
        arguments = [*self.arguments(cell), "--log", self.log]
        fit, test = tokd("fit", *arguments), tokd("test", *arguments)
        return Steps(cell, self.runs, fit, test, self.rerun, data)

    @property
    def on(self) -> str:
        """Key of the data set that the table evaluates its students on (Table 7), or empty."""
        return next((entry.on for entry in self.table.entries if entry.on), "")

    def evaluation(self, cell: GridCell) -> list[str]:
        """Return the arguments of ``tokd`` that evaluate a run on the other data set."""
        on = f"{self.on}:{self.roots[self.on]}"
        again = ["--update"] if self.rerun else []
        return ["evaluate", str(self.runs / cell.name), "--on", on, *again]

    def settled(self, state: State) -> bool:
        """Return whether a cell needs nothing, or nothing unless ``--rerun`` is given."""
        return state.kind == "done" or (state.kind in _AGAIN and not self.rerun)


@dataclass(frozen=True)
class Steps:
    """The commands of a cell; a call returns those that are still left to do.

    It is plain data, so that another machine can check again hours later: another runner may have
    done the cell, or a part of it, in the meantime.

    Args:
        cell: The cell.
        runs: Folder of all run folders.
        fit: Command that trains it.
        test: Command that tests it.
        rerun: Whether a stale run is set aside and made again.
        data: Hashes of the data; None to skip their comparison.
    """

    cell: GridCell
    runs: Path
    fit: Sequence[str]
    test: Sequence[str]
    rerun: bool = False
    data: Mapping[str, Any] | None = None

    def __call__(self) -> list[list[str]]:
        """Check the state of the cell and return the commands that are left."""
        kind = self._kind()
        both = [*self._fit(kind), "--test"]  # in one process, which imports torch once
        return {"done": [], "not tested": [list(self.test)]}.get(kind, [both])

    def fitting(self) -> list[str]:
        """Check the state of the cell and return the command that fits it, if that is left."""
        return self._fit(self._kind())

    def _kind(self) -> str:
        data = {} if self.data is None else {self.cell.rows: self.data}
        return Looker(self.runs, data)(self.cell).kind

    def _fit(self, kind: str) -> list[str]:
        return [*self.fit, "--rerun" if self.rerun and kind in _AGAIN else "--reuse"]


def make_plan(
    key: str,
    *,
    dataset: Sequence[str] = (),
    student: Sequence[str] = (),
    method: Sequence[str] = (),
    branches: Sequence[str] = (),
    seeds: int = 1,
    data: Sequence[str] = (),
    runs: Path = Path("runs"),
    settings: Sequence[str] = (),
    log: str = "wandb",
    rerun: bool = False,
    recipe: str = "paper",
    cohort: int = 1,
) -> Plan:
    """Determine the runs that a call asks for.

    Args:
        key: Key of the table, such as ``table3``.
        dataset: Keys of :data:`~tokd_lightning.tables.grid.DATASETS`; empty for the paper's two.
        student: Filter of backbones.
        method: Filter of methods.
        branches: Filter of branches.
        seeds: Number of seeds that each student is trained with.
        data: ``NAME=DIR`` each, or a single folder if all cells are of one data set.
        runs: Folder of all run folders.
        settings: ``KEY=VALUE`` each: ``trainer.…`` and ``data.…`` apply to all cells, ``model.…``
            only to the students.
        log: Value of ``tokd fit --log``.
        rerun: Whether stale runs are made again.
        recipe: Training recipe of the detectors, ``paper`` or ``house``.
        cohort: Most fits that share a process.

    Raises:
        TokdError: An argument is wrong, or no cell is left.
    """
    if seeds < 1:
        raise TokdError(f"--seeds must be at least 1, not {seeds}")
    if cohort < 1:
        raise TokdError(f"--cohort must be at least 1, not {cohort}")
    if recipe != "paper" and key not in WITH_DETECTORS:
        raise TokdError(f"--recipe {recipe}: only Tables 2 and 7 have detectors with recipes")
    table = paper_table(key, dataset or PAPER, recipe)
    common = settings_of(settings)
    chosen = select(table.cells, dataset, student, method, branches)
    cells = tuple(with_teachers(over_seeds(chosen, seeds, common)))
    shown = tuple(dataset or PAPER)
    asked = (shown, tuple(settings), recipe, cohort)
    plan = Plan(table, cells, {}, runs, log, rerun, *asked)
    return replace(plan, roots=_roots(data, {*(cell.data for cell in cells), plan.on} - {""}))


def _roots(given: Sequence[str], needed: set[str]) -> dict[str, Path]:
    roots = {key: DATASETS[key].root for key in needed}
    for text in given:
        key, equals, folder = text.partition("=")
        if not equals:
            if len(needed) > 1:
                raise TokdError(f"--data {text}: say which one, {' or '.join(sorted(needed))}=DIR")
            key, folder = next(iter(needed)), text
        if key not in DATASETS:
            raise TokdError(f"--data {text}: choose from {', '.join(DATASETS)}")
        roots[key] = Path(folder)
    return roots


def looker_of(plan: Plan) -> Looker:
    """Return a :class:`Looker` that compares the data of data sets that exist and have runs."""
    looker = Looker(plan.runs)
    made = {cell.rows: cell for cell in plan.cells if looker(cell).kind != "not run"}
    for key, cell in made.items():
        if plan.roots[cell.data].is_dir():
            looker.data[key] = _data_hashes(plan.arguments(cell))
    return looker


def look(plan: Plan) -> dict[str, State]:
    """Return the state of each cell by its name."""
    looker = looker_of(plan)
    return {cell.name: looker(cell) for cell in plan.cells}


def _data_hashes(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the current hashes of a data set's rows, from a process that may load torch."""
    answer = subprocess.run(tokd("inputs", *arguments), capture_output=True, text=True, check=False)
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or ["tokd inputs gave no answer"]
        raise TokdError(said[-1].removeprefix("tokd: "))
    found = dict(yaml.safe_load(answer.stdout.strip().splitlines()[-1]))
    return {key: found[key] for key in ("data", "rows") if key in found}


def jobs_of(
    plan: Plan, looker: Looker, expected: Mapping[str, float]
) -> tuple[list[Job], dict[str, str]]:
    """Return a job for each cell that has something left to do, and for each evaluation.

    Args:
        plan: The plan.
        looker: Gives the current state of a cell. The state is checked again when the job starts,
            because another runner may have done the cell by then.
        expected: Name of a cell -> its expected seconds.

    Returns:
        The jobs, and by name the cells that cannot be done because their teacher is unusable, with
        the reason.
    """
    states = {cell.name: looker(cell) for cell in plan.cells}
    jobs: dict[str, Job] = {}
    left_out: dict[str, str] = {}
    for cell in plan.cells:
        if plan.settled(states[cell.name]):
            continue
        teacher = cell.teacher
        if teacher and teacher.name not in jobs and not states[teacher.name].usable:
            left_out[cell.name] = f"its teacher {teacher.name} is {states[teacher.name]}"
            continue
        jobs[cell.name] = Job(
            cell.name,
            plan.steps(cell, looker.data.get(cell.rows)),
            plan.runs / "logs" / f"{cell.name}.log",
            [teacher.name] if teacher and teacher.name in jobs else [],
            PROGRESS,
            plan.runs / ".locks" / cell.name,
            expected.get(cell.name, 1.0),
            {"WANDB_RUN_GROUP": plan.table.key},
            _share(plan, cell),
        )
    for cell in plan.cells if plan.on else ():
        if cell.role != "teacher" and cell.name not in left_out:
            name = f"{cell.name} on {plan.on}"
            needs = [cell.name] if cell.name in jobs else []
            log = plan.runs / "logs" / f"{cell.name}_on_{plan.on}.log"
            jobs[name] = Job(name, [tokd(*plan.evaluation(cell))], log, needs)
    return list(jobs.values()), left_out


def _share(plan: Plan, cell: GridCell) -> str:
    """Return a key that is equal for cells that may share batches and a teacher; empty for none."""
    processes = [dict(cell.common).get(f"trainer.{key}", 1) for key in ("devices", "num_nodes")]
    if cell.role == "teacher" or not {str(it) for it in processes} <= {"1", "auto"}:
        return ""  # students wait for it, and a cohort is one process
    asked = recipe(plan.arguments(cell))
    common = {k: v for k, v in asked.items() if not k.startswith("model.") or k in _OF_BATCH}
    root = str(plan.roots[cell.data])
    return repr((root, sorted((key, repr(value)) for key, value in common.items())))


def need_data(plan: Plan, jobs: Sequence[Job]) -> None:
    """Check that all data sets that the jobs need exist.

    Raises:
        TokdError: A data set is missing.
    """
    names = {job.name for job in jobs}
    wanted = {cell.data for cell in plan.cells if cell.name in names}
    if any(name.endswith(f" on {plan.on}") for name in names):
        wanted.add(plan.on)
    for key in sorted(wanted):
        if not plan.roots[key].is_dir():
            raise TokdError(
                f"there is no {DATASETS[key].title} at {plan.roots[key]}: name its folder with "
                f"--data {key}=DIR, or leave it out with --dataset"
            )


def visible_gpus() -> list[str]:
    """Return the GPUs that processes may use, as in ``CUDA_VISIBLE_DEVICES``; without torch."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [name for name in asked.split(",") if name.strip() and name != "-1"]
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()
