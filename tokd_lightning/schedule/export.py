"""Export of a plan as a SLURM job array, in a script that only needs ``tokd``."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text
from tokd_lightning.schedule.cohorts import in_cohorts
from tokd_lightning.schedule.plan import Plan, jobs_of, looker_of
from tokd_lightning.schedule.progress import say
from tokd_lightning.schedule.slurm import slurm_parameters
from tokd_lightning.tables.grid import GridCell

# Parameters that are not options of sbatch.
_OURS = {"array_parallelism", "setup", "signal_delay_s"}

_TIMEOUTS = 20  # how often an element is requeued after reaching its time limit
_LEAD = 120  # seconds before the time limit, unless --slurm signal_delay_s is given

_SCRIPT = """\
#!/bin/bash
{options}
#
# {title}
# {counted}, written by tokd --export sbatch.
# Start it in this folder, with tokd on the PATH:
#
#   {launch}
#
# Where SLURM takes fewer jobs at a time, start parts of it: --array=0-99, later --array=100-199.
#
# An element fits its run and tests it. What is finished is reused and what was interrupted goes on
# from its last checkpoint, so that elements may be started, preempted and requeued at will. At
# scancel, preemption and requeueing a run saves before it ends; so it does before the time limit,
# after which its element goes back into the queue, {timeouts} times at most. Students wait for all
# teachers (afterok), and are cancelled when one of them fails.

set -euo pipefail

# As on one machine: what a CPU computes depends on the number of threads. Data are loaded by
# processes, for which cpus_per_task is.
export OMP_NUM_THREADS=1
export PYTHONUNBUFFERED=1
export WANDB_RUN_GROUP={group}

elements={number}
element=${{SLURM_ARRAY_TASK_ID:?is not set: start it with sbatch --array}}
if ! [[ $element =~ ^(0|[1-9][0-9]*)$ ]] || ((element >= elements)); then
  echo "there are elements 0 to $((elements - 1)), no $element" >&2
  exit 2
fi
job=${{SLURM_ARRAY_JOB_ID:-}}_$element
{setup}
# SLURM tells this shell to end, bash would die of it, and SLURM kills what is left of a job whose
# shell has ended. So it hands the signal on, and waits for tokd to save.
child='' told='' at_limit=''
hand_on() {{
  told=1
  if [[ $child ]]; then kill -USR1 "$child" 2>/dev/null || true; fi
}}
trap hand_on TERM
trap 'at_limit=1; hand_on' USR1

run() {{
  local code=0
  if [[ ! $told ]]; then
    "$@" &
    child=$!
    if [[ $told ]]; then hand_on; fi
    while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
    wait "$child" || code=$?
    child=''
    if ((code == 0)); then return; fi
  fi
  # 138 is what USR1 ends that has nothing to save.
  if [[ $at_limit && $code =~ ^(0|138|143)$ && ${{SLURM_RESTART_COUNT:-0}} -lt {timeouts} ]]; then
    scontrol requeue "$job"
  fi
  exit "$((code ? code : 143))"
}}

# One process at a time works on a run, here and under tokd table.
work_on() {{
  scontrol update "JobId=$job" "JobName=$2" 2>/dev/null || true
  mkdir -p "$(dirname "$1")"
  exec 9>>"$1"
  if command -v flock >/dev/null; then run flock 9; fi
}}

# The other runs of a cohort, which one process fits.
and_on() {{
  local lock
  exec {{lock}}>>"$1"
  if command -v flock >/dev/null; then run flock "$lock"; fi
}}

tested() {{
  grep -qs '"test/frame/acc"' "$1/metrics.json"
}}

case $element in
{cases}
esac
"""


def export_sbatch(plan: Plan, given: Sequence[str], out: Path | None = None) -> int:
    """Write the sbatch script.

    Args:
        plan: The plan; finished cells are left out.
        given: Values of ``--slurm``.
        out: The file; None for ``<table>.sbatch`` in the folder of runs.

    Returns:
        The exit code: 2 if a cell was left out because its teacher cannot be used, else 0.

    Raises:
        TokdError: There is nothing left to do, a parameter is wrong, or the plan has ``rerun``.
    """
    console = Console()
    if plan.rerun:
        raise TokdError(
            "--export takes no --rerun: an element that is requeued would start again each time"
        )
    parameters = {"job_name": plan.table.key, **slurm_parameters(given)}
    looker = looker_of(plan)
    states = {cell.name: looker(cell) for cell in plan.cells}
    jobs, left_out = jobs_of(plan, looker, {})
    of = {cell.name: cell for cell in plan.cells}
    cohorts = in_cohorts([job for job in jobs if job.name in of], plan.cohort, 1)
    elements = [_element(plan, [of[it.name] for it in job.parts or [job]]) for job in cohorts]
    elements += [
        ([cell], [plan.evaluation(cell)])
        for cell in plan.cells
        if plan.on and cell.role != "teacher" and plan.settled(states[cell.name])
    ]
    if not elements:
        raise TokdError("there is nothing left to do")
    out = out or plan.runs / f"{plan.table.key}.sbatch"
    logs = plan.runs / "logs"
    logs.mkdir(parents=True, exist_ok=True)  # SLURM does not create folders
    out.parent.mkdir(parents=True, exist_ok=True)
    teachers = sum(cells[0].role == "teacher" for cells, _ in elements)
    students = sum(len(cells) for cells, _ in elements) - teachers
    launch = _launch(teachers, len(elements), parameters["array_parallelism"], out)
    script = _SCRIPT.format(
        options="\n".join(_options(parameters, len(elements), logs, plan.table.key)),
        title=" ".join(f"{plan.table.key}, {plan.table.title}".split()),
        counted=f"{teachers} teachers and {students} students",
        launch=launch,
        timeouts=_TIMEOUTS,
        group=shlex.quote(plan.table.key),
        number=len(elements),
        setup="".join(f"\nset +u\n{command}\nset -u\n" for command in parameters.get("setup", ())),
        cases="\n".join(_case(plan, i, *element) for i, element in enumerate(elements)),
    )
    write_text(out, script)
    for name, why in left_out.items():
        say(console, f"{name}: left out, {why}")
    say(console, f"{len(elements)} elements: {out}\n{launch}")
    return 2 if left_out else 0


_Element = tuple[list[GridCell], list[list[str]]]  # cells and commands


def _element(plan: Plan, cells: list[GridCell]) -> _Element:
    """Return the commands that fit, test and evaluate a cell, or a cohort of several."""
    given = [[*plan.arguments(cell), "--log", plan.log] for cell in cells]
    if len(cells) == 1:
        commands = [["fit", *given[0], "--reuse"], ["test", *given[0]]]
    else:
        others = [part for one in given[1:] for part in ("--also", *one, "--reuse")]
        commands = [["fit", "--test", "--logs", str(plan.runs / "logs"), *given[0], "--reuse"]]
        commands[0] += others
    if plan.on:
        commands += [plan.evaluation(cell) for cell in cells if cell.role != "teacher"]
    return cells, commands


def _case(plan: Plan, number: int, cells: list[GridCell], commands: list[list[str]]) -> str:
    first, more = cells[0], len(cells) - 1
    name = first.name + (f" and {more} more" if more else "")
    locks = [shlex.quote(str(plan.runs / ".locks" / cell.name)) for cell in cells]
    folder = shlex.quote(str(plan.runs / first.name))
    lines = [f"work_on {locks[0]} {shlex.quote(name)}", *(f"and_on {it}" for it in locks[1:])]
    for command in commands:
        unless = f"tested {folder} || " if command[0] == "test" else ""
        lines.append(f"{unless}run {shlex.join(['tokd', *command])}")
    body = "\n".join(f"    {line}" for line in lines)
    return f"  {number}) # {'; '.join(cell.title for cell in cells)}\n{body}\n    ;;"


def _options(parameters: Mapping[str, Any], number: int, logs: Path, key: str) -> list[str]:
    output = str(logs / f"{key}_").replace("%", "%%") + "%A_%a.out"
    options = {
        **{name: value for name, value in parameters.items() if name not in _OURS},
        "array": f"0-{number - 1}%{parameters['array_parallelism']}",
        "ntasks": 1,
        "requeue": True,
        "open-mode": "append",
        "output": output,
        "signal": f"B:USR1@{parameters.get('signal_delay_s', _LEAD)}",
    }
    return [
        f"#SBATCH --{name.replace('_', '-')}" + ("" if v is True else f"={shlex.quote(str(v))}")
        for name, v in options.items()
    ]


def _launch(teachers: int, elements: int, parallel: int, out: Path) -> str:
    """Return the command that starts the array: teachers first, if there are any."""
    file, last = shlex.quote(str(out)), elements - 1
    if not teachers or teachers == elements:
        return f"sbatch --export=ALL {file}"
    return (
        f"T=$(sbatch --parsable --export=ALL --array=0-{teachers - 1}%{parallel} {file}) && "
        'sbatch --export=ALL --dependency=afterok:"${T%%;*}" --kill-on-invalid-dep=yes '
        f"--array={teachers}-{last}%{parallel} {file}"
    )
