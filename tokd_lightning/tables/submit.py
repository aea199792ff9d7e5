"""A table's jobs in the queue of SLURM, each at most once at a time."""

import getpass
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.runs import write_atomically
from tokd_lightning.tables.cluster import FOLDER, CellJob, find_submitit
from tokd_lightning.tables.jobs import Job
from tokd_lightning.tables.locks import is_locked, take_lock
from tokd_lightning.tables.slurm import asks_for_gpus

_TIMEOUTS = 20  # how often a job that has reached its time limit goes on in a new one
# A student is cancelled when its teacher has failed, where it would wait for ever.
_ALWAYS = {"requeue": True, "kill-on-invalid-dep": "yes"}


class Slurm:
    """Submits jobs and remembers which ones are in the queue.

    Args:
        runs: Folder of all run folders.
        parameters: What ``--slurm`` says, as submitit takes it.

    Raises:
        TokdError: submitit is not installed, or this machine cannot submit jobs.
    """

    def __init__(self, runs: Path, parameters: Mapping[str, Any]) -> None:
        self._submitit = find_submitit()
        missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
        if missing:
            raise TokdError(
                f"there is no {missing[0]} here: --cluster slurm needs a machine that submits jobs "
                "to SLURM; --export sbatch writes a script to take there"
            )
        self._folder = runs / FOLDER
        self._parameters = dict(parameters)

    def submit(self, jobs: Sequence[Job], console: Console) -> int:
        """Submit the jobs that are neither in the queue nor running, each after those it needs.

        Args:
            jobs: What is left to do, each after those that it needs.
            console: Where to say what has been submitted.

        Returns:
            How many could not be submitted.

        Raises:
            TokdError: SLURM refused a job, or does not tell what is in its queue.
        """
        with _one_at_a_time(self._folder):
            queued = _queue() if jobs else set()
            known: dict[str, str] = {}  # name of a job -> id in the queue
            without: dict[str, str] = {}  # name of a job that has none -> why
            for job in jobs:
                number = self._number(job)
                lacking = [need for need in job.needs if need in without]
                if number in queued:
                    known[job.name] = str(number)
                elif is_locked(job.lock):
                    without[job.name] = "is running elsewhere"
                elif lacking:
                    without[job.name] = f"not submitted: {lacking[0]} {without[lacking[0]]}"
            before = dict(known)
            left = [job for job in jobs if job.name not in {*known, *without}]
            while left:
                ready = [job for job in left if set(job.needs) <= known.keys()]
                for after in dict.fromkeys(tuple(known[n] for n in job.needs) for job in ready):
                    group = [j for j in ready if tuple(known[n] for n in j.needs) == after]
                    known |= self._submit(group, after)
                left = [job for job in left if job not in ready]
        self._tell(jobs, known, before, without, console)
        return sum(why.startswith("not") for why in without.values())

    def _submit(self, jobs: Sequence[Job], after: Sequence[str]) -> dict[str, str]:
        """Submit jobs as one array, or a single one as it is; remember and return their numbers."""
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=_TIMEOUTS)
        dependency = {"dependency": f"afterok:{':'.join(after)}"} if after else {}
        try:
            executor.update_parameters(
                **self._parameters, **dependency, additional_parameters=_ALWAYS
            )
            with redirect_stderr(io.StringIO()):  # submitit says there what it raises
                submitted = executor.submit_array([CellJob(job) for job in jobs])
        except (RuntimeError, ValueError) as error:  # what sbatch or submitit says
            said = " ".join(str(error).split()) or "no reason given"
            raise TokdError(f"sbatch refused {jobs[0].name}: {said}") from None
        numbers = {job.name: str(it.job_id) for job, it in zip(jobs, submitted, strict=True)}
        for job in jobs:
            record = {"job": numbers[job.name], "name": job.name, "cluster": "slurm"}
            write_atomically(self._record(job), json.dumps(record) + "\n")
        return numbers

    def _record(self, job: Job) -> Path:
        return self._folder / f"{job.log.stem}.json"

    def _number(self, job: Job) -> str | None:
        try:
            return str(json.loads(self._record(job).read_text())["job"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _tell(
        self,
        jobs: Sequence[Job],
        known: Mapping[str, str],
        before: Mapping[str, str],
        without: Mapping[str, str],
        console: Console,
    ) -> None:
        width = max((len(job.name) for job in jobs), default=0)
        for job in jobs:
            if job.name in without:
                text = without[job.name]
            else:
                after = ", ".join(known[need] for need in job.needs)
                text = f"job {known[job.name]}" + (f", after {after}" if after else "")
                text += ", in the queue already" if job.name in before else ""
                text += f"  (log: {job.log})"
            _say(console, f"{job.name:{width}}  {text}")
        new = len(known) - len(before)
        _say(console, f"{new} submitted, {len(before)} in the queue already")
        if new and not asks_for_gpus(self._parameters):
            _say(console, "no GPU was asked for: --slurm gpus_per_node=1")
        if known:
            arrays = dict.fromkeys(number.partition("_")[0] for number in known.values())
            _say(console, f"squeue --jobs {','.join(arrays)}")
            _say(
                console, f"submitit's own logs: {self._folder}; the same command goes on from here"
            )


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _queue() -> set[str]:
    """Ask SLURM which of the user's jobs are in its queue, waiting or running."""
    command = ["squeue", "--noheader", "--array", "--format=%i", "--user", getpass.getuser()]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise TokdError("squeue gives no answer: nothing was submitted") from None
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise TokdError(f"squeue: {said[-1]}: nothing was submitted")
    return set(answer.stdout.split())


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep two calls from submitting one job twice."""
    while (lock := take_lock(folder / ".submitting")) is None:
        time.sleep(0.2)
    try:
        yield
    finally:
        os.close(lock)
