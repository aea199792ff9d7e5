"""A cell as a submitit job, and such jobs on this machine through submitit's local executor."""

import importlib
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import is_locked
from tokd_lightning.schedule.jobs import BUSY, Job, Task, held_back, last_line, stop
from tokd_lightning.schedule.queue import FOLDER

_POLL = 0.2  # seconds between two polls of a process
_POLL_LOCK = 2.0  # seconds between two polls of a lock that another process holds
_SETTLE = 0.5  # seconds for the signal that ended a command to arrive here too
_LINGER = 600  # seconds between SIGTERM and SLURM's next action: kill, or announce preemption
_GRACE = 15.0  # seconds for a job to stop its own processes
_YEAR = 365 * 24 * 60  # minutes


def find_submitit() -> Any:
    """Import submitit.

    Raises:
        TokdError: It is not installed.
    """
    try:
        return importlib.import_module("submitit")
    except ModuleNotFoundError:
        raise TokdError('--cluster needs submitit: pip install "tokd-lightning[slurm]"') from None


class CellFailed(Exception):
    """A command of a cell failed; the message names the log with the reason."""


class CellJob:
    """Callable that runs a job as the local runner does, in a process that submitit has started.

    If the job's lock is taken, it waits and then checks again what is left to do. SIGUSR2, which
    announces preemption or the end of the time limit, stops the commands and requeues the job
    (submitit calls :meth:`checkpoint`); the next start resumes from ``last.ckpt``. SIGTERM stops
    the commands for good, unless SIGUSR2 or SLURM's own requeueing follows.

    Args:
        job: The job; its commands are plain data, or a picklable function.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._task: Task | None = None
        self._told_to_stop = False

    def __call__(self) -> None:
        """Run the job.

        Raises:
            CellFailed: One of its commands failed, or SIGTERM was received.
        """
        signal.signal(signal.SIGTERM, self._note)
        self._task = task = Task(self.job)
        try:
            while task.state in {"waiting", "running"} and not self._told_to_stop:
                with held_back(signal.SIGUSR2):  # checkpoint() may run only during the sleep
                    if task.state == "running":
                        task.go_on()
                    else:
                        task.start()
                time.sleep(_POLL_LOCK if task.reason == BUSY else _POLL)
            if task.state == "failed":
                time.sleep(_SETTLE)
        finally:
            self._stop()
        if self._told_to_stop:
            self._linger()
            raise CellFailed("stopped by SIGTERM")
        if task.state == "failed":
            raise CellFailed(task.reason)

    def checkpoint(self) -> Any:
        """Stop the commands and return the submission that replaces this job: the same job."""
        self._stop()
        return importlib.import_module("submitit").helpers.DelayedSubmission(CellJob(self.job))

    def _stop(self) -> None:
        if self._task is not None and self._task.state == "running":
            with held_back(signal.SIGUSR2):
                stop([self._task])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True

    def _linger(self) -> None:
        """Wait for SLURM to kill or requeue the job: if it exits by itself it is not requeued."""
        deadline = time.monotonic() + _LINGER
        while os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and time.monotonic() < deadline:
            time.sleep(1)


def local_tasks(runs: Path) -> Callable[[Job], Task]:
    """Return a function that makes a runner's job a task of submitit's local executor.

    Raises:
        TokdError: submitit is not installed.
    """
    executor = find_submitit().LocalExecutor(runs / FOLDER)
    executor.update_parameters(timeout_min=_YEAR)
    return lambda job: LocalTask(job, executor, runs / FOLDER)


class LocalTask(Task):
    """A job that runs as a submitit job on this machine.

    Args:
        job: The job.
        executor: submitit's local executor.
        folder: Folder where submitit writes; a lock in it marks the job as submitted.
    """

    def __init__(self, job: Job, executor: Any, folder: Path) -> None:
        super().__init__(job)
        self._executor = executor
        self._submitted_lock = folder / f"{job.log.stem}.lock"
        self._submitted: Any = None

    def start(self, slot: int = 0, environment: Mapping[str, str] | None = None) -> bool:
        """Submit the job, unless another runner has submitted it or is running it."""
        self.slot, self._started = slot, time.monotonic()
        job = replace(self.job, environment={**(environment or {}), **self.job.environment})
        try:
            if not self._take_locks([self._submitted_lock]) or any(map(is_locked, job.locks)):
                self._release()
                self.reason = BUSY
                return False
            self._before = job.log.stat().st_size if job.log.is_file() else 0
            # Ctrl-C and the closing of the terminal go to the runner, which forwards them.
            with held_back(signal.SIGINT, signal.SIGHUP):
                self._submitted = self._executor.submit(CellJob(job))
        except OSError as error:
            self._end("failed", f"cannot start: {error.filename}: {reason(error)}")
            return False
        self.state, self.reason = "running", ""
        return True

    def go_on(self) -> None:
        """Check whether the job has ended, and record how."""
        self.seconds = time.monotonic() - self._started
        if not self._submitted.done():
            return
        paths = self._submitted.paths
        if not paths.result_pickle.exists():
            said = last_line(paths.stderr)
            self._end("failed", f"ended without a result: {said} (log: {paths.stderr})")
        elif error := self._submitted.exception():
            found = re.search(rf"{CellFailed.__name__}: (.*)", str(error))
            why = found[1] if found else f"failed: {last_line(paths.stderr)} (log: {paths.stderr})"
            self._end("failed", why)
        else:
            self._end("done", last_line(self.job.log, self.job.progress, self._before))

    def terminate(self) -> None:
        """Ask the job to stop."""
        if not self._submitted.done():
            os.kill(int(self._submitted.job_id), signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Give the job time to stop its processes."""
        deadline = time.monotonic() + max(seconds, _GRACE)
        while not self._submitted.done() and time.monotonic() < deadline:
            time.sleep(_POLL)
            self.terminate()  # again, because submitit ignores the signal while it starts

    def kill(self) -> None:
        """Kill the process that forwards signals to the job; the job ends its own processes."""
        if not self._submitted.done():
            os.kill(int(self._submitted.job_id), signal.SIGKILL)
