"""Submission of a table's jobs to SLURM, each at most once at a time."""

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.files import is_locked, take_lock, write_text
from tokd_lightning.schedule.cluster import CellJob, find_submitit
from tokd_lightning.schedule.jobs import Job
from tokd_lightning.schedule.queue import (
    FOLDER,
    Queue,
    SubmittedJob,
    ask,
    environment,
    read_queue,
    read_record,
)
from tokd_lightning.schedule.slurm import asks_for_gpus, obeyed

_TIMEOUTS = 20  # how often a job is requeued after reaching its time limit
# Jobs are held until their records are written, so that no job can be submitted twice. A student
# is cancelled when its teacher fails; otherwise it would wait for ever.
_ALWAYS = {"requeue": True, "kill-on-invalid-dep": "yes", "hold": True, "export": "ALL"}
_LIMIT = re.compile(
    r"array|(?<!time )limit(?! is invalid)|policy|temporarily|too many|quota", re.IGNORECASE
)
_SETTLE = 4.0  # seconds for SLURM to report why a job waits
_POLL = 0.3


class _OverLimit(Exception):
    """SLURM accepts no more jobs, or none of that size; the message has its reason."""


class Slurm:
    """Submits jobs and records which ones are in the queue.

    Args:
        runs: Folder of all run folders.
        parameters: Values of ``--slurm``, as submitit takes them.

    Raises:
        TokdError: submitit is not installed, or this machine cannot submit jobs.
    """

    def __init__(self, runs: Path, parameters: Mapping[str, Any]) -> None:
        self._submitit = find_submitit()
        programs = ("sbatch", "squeue", "srun", "scontrol", "scancel")
        missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            raise TokdError(
                f"there is no {missing[0]} here: --cluster slurm needs a machine that submits jobs "
                "to SLURM; --export sbatch writes a script to take there"
            )
        self._folder = runs / FOLDER
        self._parameters = dict(parameters)
        place = hashlib.sha256(str(self._folder.resolve()).encode()).hexdigest()[:8]
        self._unfinished = f"tokd-{place}"  # name of jobs that are still being submitted

    def submit(
        self,
        jobs: Sequence[Job],
        console: Console,
        together: Callable[[Sequence[Job]], Sequence[Job]] = tuple,
    ) -> int:
        """Submit the jobs that are neither in the queue nor running, each after those it needs.

        Args:
            jobs: Jobs that are left to do, each after those that it needs.
            console: Console to print the submitted jobs to.
            together: Puts those to submit in cohorts, which are one job of SLURM each.

        Returns:
            The number of jobs that could not be submitted, or can never start.

        Raises:
            TokdError: SLURM refused a job, or its queue cannot be read.
        """
        with _one_at_a_time(self._folder):
            records = {job.name: read_record(self._record(job)) for job in jobs}
            queue = read_queue(filter(None, records.values())) if jobs else None
            known: dict[str, str] = {}  # name of a job -> id in the queue
            without: dict[str, str] = {}  # name of a job that has none -> why
            if queue is not None:
                self._clear(queue, records)
                known, without = _sort(jobs, records, queue)
            ended = {
                job.name: queue.fate(record, job.log)
                for job in jobs
                if queue is not None and job.name not in {*known, *without}
                if (record := records[job.name]) is not None
            }
            before = dict(known)
            left = [job for job in jobs if job.name not in {*known, *without}]
            refused = self._submit_all(together(left), known, queue) if queue is not None else ""
            known = {job.name: known[job.name] for job in jobs if job.name in known}
            for job in left:
                if job.name not in known:
                    without[job.name] = "not submitted"
            if queue is not None and known:
                queue = self._settled(queue, known)
        return self._tell(jobs, known, before, without, ended, queue, refused, console)

    def _clear(self, queue: Queue, records: Mapping[str, SubmittedJob | None]) -> None:
        """Cancel jobs that an earlier call submitted on hold and died before releasing."""
        names = {record.job for record in records.values() if record and record.held}
        entries = [entry for entry in queue.entries.values() if entry.active]
        for entry in entries:
            if entry.name == self._unfinished or entry.number in names:
                with suppress(TokdError):
                    ask("scancel", entry.number)

    def _submit_all(self, jobs: Sequence[Job], known: dict[str, str], queue: Queue) -> str:
        """Submit jobs in as few arrays as SLURM accepts; return why it accepted no more, or "".

        If there are several arrays, each waits for the one before it, so that no more jobs run at a
        time than were asked for.
        """
        size = max(1, len(jobs) if queue.max_array is None else queue.max_array)
        all_of_them = len(jobs)
        jobs = jobs[: queue.room]  # with more, sbatch would try for two minutes, then refuse all
        parts = [list(jobs[i : i + size]) for i in range(0, len(jobs), size)]
        before, begun = "", False
        while parts:
            part = parts.pop(0)
            try:
                numbers = self._submit(part, known, before, queue)
            except _OverLimit as error:
                if len(part) > 1 and "temporarily" not in str(error):
                    half = (len(part) + 1) // 2
                    parts[:0] = [part[:half], part[half:]]
                    continue
                if not begun:
                    raise TokdError(f"sbatch refused {part[0].name}: {error}") from None
                return str(error)
            known |= numbers
            begun = True
            before = next(iter(numbers.values())).partition("_")[0]
            if len(jobs) <= self._parameters["array_parallelism"]:
                before = ""
        return "" if len(jobs) == all_of_them else "its MaxJobCount is reached"

    def _submit(
        self, jobs: Sequence[Job], known: Mapping[str, str], before: str, queue: Queue
    ) -> dict[str, str]:
        """Submit jobs as one array, or a single one as a plain job; record and return their ids."""
        executor = self._submitit.SlurmExecutor(self._folder, max_num_timeout=_TIMEOUTS)
        given = {"job_name": self._unfinished, **self._parameters}
        try:
            executor.update_parameters(
                **given, additional_parameters=_ALWAYS, srun_args=["--export=ALL"]
            )
            # submitit also prints to stderr what it raises.
            with redirect_stderr(io.StringIO()), _sbatch_environment(self._parameters):
                submitted = executor.submit_array([CellJob(job) for job in jobs])
        except (RuntimeError, ValueError) as error:  # messages of sbatch or submitit
            said = " ".join(str(error).split()) or "no reason given"
            if _LIMIT.search(said):
                raise _OverLimit(said) from None
            raise TokdError(f"sbatch refused {jobs[0].name}: {said}") from None
        numbers = {
            name: str(it.job_id)
            for job, it in zip(jobs, submitted, strict=True)
            for name in (job.name, *(part.name for part in job.parts))
        }
        self._remember(jobs, numbers, queue, held=True)
        whole = numbers[jobs[0].name].partition("_")[0]
        try:
            ask("scontrol", said="".join(self._updates(jobs, numbers, known, before)))
        except TokdError as error:
            with suppress(TokdError):
                ask("scancel", whole)
            for part in _parts(jobs):
                self._record(part).unlink(missing_ok=True)
            why = str(error).removesuffix(": nothing was submitted")
            if len(jobs) > 1 and _LIMIT.search(why):
                raise _OverLimit(why) from None
            raise TokdError(f"{why}: what had been submitted was taken back") from None
        self._remember(jobs, numbers, queue)
        return numbers

    def _updates(
        self, jobs: Sequence[Job], numbers: Mapping[str, str], known: Mapping[str, str], before: str
    ) -> Iterator[str]:
        """Yield lines for scontrol: each element of an array gets a name and its dependencies.

        Then the jobs are released, those that others wait for first; SLURM keeps this order.
        """
        where = {**known, **numbers}
        for job in jobs:
            needs = ":".join(where[need] for need in job.needs)
            after = [f"afterany:{before}"] if before else []
            after += [f"afterok:{needs}"] if needs else []
            depends = f" Dependency={','.join(after)}" if after else ""
            name = "" if "job_name" in self._parameters else f" JobName={job.log.stem}"
            if name or depends:
                yield f"update JobId={numbers[job.name]}{name}{depends}\n"
        needed = {need for job in jobs for need in job.needs}
        for job in sorted(jobs, key=lambda job: job.name not in needed):
            yield f"release {numbers[job.name]}\n"

    def _remember(
        self, jobs: Sequence[Job], numbers: Mapping[str, str], queue: Queue, held: bool = False
    ) -> None:
        for job in _parts(jobs):
            record = {
                **{"job": numbers[job.name], "name": job.name, "cluster": queue.cluster},
                **{"user": os.getuid(), **({"held": True} if held else {})},
            }
            write_text(self._record(job), json.dumps(record) + "\n")

    def _record(self, job: Job) -> Path:
        return self._folder / f"{job.log.stem}.json"

    def _settled(self, queue: Queue, known: Mapping[str, str]) -> Queue:
        """Read the queue until SLURM has considered the jobs, or until a time limit."""
        deadline = time.monotonic() + _SETTLE
        while time.monotonic() < deadline:
            try:
                queue = read_queue()
            except TokdError:  # all jobs are submitted: the output just says less
                return queue
            mine = [queue.entries[it] for it in known.values() if it in queue.entries]
            if not any(entry.undecided for entry in mine):
                break
            time.sleep(_POLL)
        return queue

    def _tell(
        self,
        jobs: Sequence[Job],
        known: Mapping[str, str],
        before: Mapping[str, str],
        without: Mapping[str, str],
        ended: Mapping[str, str],
        queue: Queue | None,
        refused: str,
        console: Console,
    ) -> int:
        width = max((len(job.name) for job in jobs), default=0)
        entries = queue.entries if queue is not None else {}
        stuck = [name for name, number in known.items() if number in entries]
        stuck = [name for name in stuck if entries[known[name]].stuck]
        for job in jobs:
            if job.name in without:
                text = without[job.name]
            else:
                number = known[job.name]
                after = ", ".join(known[need] for need in job.needs if need in known)
                text = f"job {number}" + (f", after {after}" if after else "")
                text += ", in the queue already" if job.name in before else ""
                text += f", {entries[number]}" if number in entries else ""
                text += f"  (log: {job.log})"
            _say(console, f"{job.name:{width}}  {text}")
            if job.name in ended:
                _say(console, f"{'':{width}}  before: {ended[job.name]}")
        new = len(known) - len(before)
        _say(console, f"{new} submitted, {len(before)} in the queue already")
        remaining = sum(why == "not submitted" for why in without.values())
        if refused:
            _say(
                console,
                f"{remaining} not submitted, SLURM takes no more: {refused}; the same command "
                "submits them when jobs have left the queue",
            )
        if stuck:
            numbers = " ".join(dict.fromkeys(known[name] for name in stuck))
            _say(
                console,
                f"{len(stuck)} of them cannot start until SLURM resolves the reasons above; to "
                f"change the request, scancel {numbers} and run the command again with other "
                "--slurm values",
            )
        if new and not asks_for_gpus(self._parameters):
            _say(console, "no GPU was asked for: --slurm gpus_per_node=1")
        if known:
            arrays = dict.fromkeys(number.partition("_")[0] for number in known.values())
            _say(console, f"squeue --jobs {','.join(arrays)}")
            _say(
                console,
                f"submitit's own logs: {self._folder}; the same command continues from here",
            )
        return len(stuck) + sum(not why.startswith("is running") for why in without.values())


def _parts(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of all cells, those of cohorts one by one."""
    return [part for job in jobs for part in job.parts or [job]]


def _sort(
    jobs: Sequence[Job], records: Mapping[str, SubmittedJob | None], queue: Queue
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the ids of the jobs in the queue, and the reasons for those not to submit."""
    known: dict[str, str] = {}
    without: dict[str, str] = {}
    for job in jobs:
        record = records[job.name]
        entry = None if record is None or record.held else queue.of(record)
        lacking = [need for need in job.needs if need in without]
        if entry is not None and entry.active:
            known[job.name] = entry.number
        elif entry is not None and entry.ending:
            without[job.name] = (
                f"not submitted: its job {entry.number} is ending (COMPLETING), start the command "
                "again when it has left the queue or waits there"
            )
        elif any(map(is_locked, job.locks)):
            without[job.name] = "is running elsewhere"
        elif lacking:
            why = without[lacking[0]].removeprefix("not submitted: ")
            without[job.name] = f"not submitted: {lacking[0]} {why}"
    return known, without


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _sbatch_environment(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Remove the environment variables that would change sbatch's behaviour or confuse the jobs."""
    before, kept = dict(os.environ), environment()
    try:
        for name in before:
            if name not in kept or (name.startswith("SBATCH_") and not obeyed(name, parameters)):
                del os.environ[name]
        os.environ["SBATCH_EXPORT"] = "ALL"
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock that keeps two calls from submitting one job twice."""
    while (lock := take_lock(folder / ".submitting")) is None:
        time.sleep(0.2)
    try:
        yield
    finally:
        os.close(lock)
