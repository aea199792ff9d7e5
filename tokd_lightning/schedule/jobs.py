"""Jobs of the runner: commands, lock, log and progress."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokd_lightning.errors import reason
from tokd_lightning.files import take_lock

State = Literal["waiting", "running", "done", "failed", "dropped"]
Commands = Sequence[Sequence[str]]
BUSY = "another tokd is at it"
_GRACE = 10.0  # seconds for a stopped process to finish writing


@dataclass(frozen=True)
class Job:
    """Commands that run one after another, with one log.

    Args:
        name: Name in the live table; unique among the jobs of one call.
        commands: Argument lists; the job fails with the first command that fails. A function is
            called when the job starts, under its lock.
        log: File that all output is appended to.
        needs: Names of the jobs that must be done first.
        progress: Regular expression; the last matching line of the log is shown as progress.
        lock: File that the job's processes keep locked, so that two runners never run one job at
            the same time; a process that outlives its runner keeps the lock.
        expected: Expected duration, in a unit that all jobs share.
        environment: Environment variables for its processes.
        share: Equal for jobs that may run in one process as a cohort; empty for others.
        parts: The jobs of a cohort; empty for a job of its own.
    """

    name: str
    commands: Commands | Callable[[], Commands]
    log: Path
    needs: Sequence[str] = ()
    progress: str = ""
    lock: Path | None = None
    expected: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)
    share: str = ""
    parts: "Sequence[Job]" = ()

    @property
    def locks(self) -> list[Path]:
        """The files that its processes keep locked."""
        return [job.lock for job in self.parts or [self] if job.lock is not None]


def tokd(*args: object) -> list[str]:
    """Return the command line of the ``tokd`` that belongs to this interpreter.

    It is the console script, because checkpoints refuse classes defined in ``__main__``.
    """
    return [str(Path(sys.executable).with_name("tokd")), *map(str, args)]


def last_line(log: Path, pattern: str = "", since: int = 0) -> str:
    """Return the last line of a log that matches a pattern.

    Args:
        log: A text file; carriage returns of a progress bar count as line ends.
        pattern: Regular expression.
        since: Number of bytes at the start of the file to skip.

    Returns:
        The line; empty if there is no file, or no such line in its last 4 KiB.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    found = (line.strip() for line in reversed(lines))
    return next((line for line in found if line and re.search(pattern, line)), "")


class Task:
    """A job with its state: waiting, running, done, failed, or dropped because another failed.

    Args:
        job: The job to run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state: State = "waiting"
        self.reason = ""
        self.seconds = 0.0
        self.ended = 0.0
        self.slot = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._locks: list[int] = []
        self._before = 0

    def start(self, slot: int = 0, environment: Mapping[str, str] | None = None) -> bool:
        """Take the lock, open the log and start the first command; stay waiting if locked.

        Args:
            slot: Number of the worker.
            environment: Environment variables of the worker, such as its GPU.

        Returns:
            Whether the job is running now.
        """
        self.slot, self._environment = slot, dict(environment or {})
        self._started = time.monotonic()
        try:
            if not self._take_locks(self.job.locks):
                self.reason = BUSY
                return False
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            self._log = self.job.log.open("ab", buffering=0)
        except OSError as error:
            where = error.filename or self.job.log
            self._end("failed", f"cannot start: {where}: {reason(error)}")
            return False
        self._before = self._log.tell()
        self.state, self.reason = "running", ""
        commands = self.job.commands
        self._left = list(commands() if callable(commands) else commands)
        self.go_on()
        return self.process is not None

    def _take_locks(self, paths: Sequence[Path]) -> bool:
        """Take all locks, or none if another process holds one."""
        for path in paths:
            lock = take_lock(path)
            if lock is None:
                self._release()
                return False
            self._locks.append(lock)
        return True

    def go_on(self) -> None:
        """Check whether the command has ended; if so, start the next one or end the job."""
        self.seconds = time.monotonic() - self._started
        code = self.process.poll() if self.process else 0
        if code is None:
            return
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            said = last_line(self.job.log, since=self._before)
            self._end("failed", f"failed with {how}: {said} (log: {self.job.log})")
        elif self._left:
            self._run([str(part) for part in self._left.pop(0)])
        else:
            self._end("done", last_line(self.job.log, self.job.progress, self._before))
        if self.state != "running":
            self._log.close()

    def _run(self, command: list[str]) -> None:
        try:
            self._log.write(f"$ {shlex.join(command)}\n".encode())
            with held_back(signal.SIGUSR2):  # a cluster sends it to all, but only we handle it
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    env={
                        **os.environ,
                        "OMP_NUM_THREADS": "1",
                        "PYTHONUNBUFFERED": "1",
                        **self._environment,
                        **self.job.environment,
                    },
                    start_new_session=True,  # its workers stop with it; we forward Ctrl-C
                    pass_fds=self._locks,
                )
        except OSError as error:
            self._end("failed", f"cannot start: {command[0]}: {reason(error)}")

    def terminate(self) -> None:
        """Ask the process to stop."""
        if self.process is not None:
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds`` for the process to end."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)

    def kill(self) -> None:
        """Kill the process and all its children."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def drop(self, needed: str) -> None:
        """Drop the job before it starts, because a job that it needs failed."""
        self._end("dropped", f"dropped, it needs {needed}")

    def progress(self) -> str:
        """Return the progress line of a running job, else how it ended."""
        if self.state == "running":
            return last_line(self.job.log, self.job.progress, self._before)
        return self.reason

    def line(self) -> str:
        """Return one line that describes the last change of state."""
        if self.state == "running":
            return f"{self.job.name}: started (log: {self.job.log})"
        if self.state == "done":
            return f"{self.job.name}: done in {clock(self.seconds)}  {self.reason}".rstrip()
        return f"{self.job.name}: {self.reason}"

    def _end(self, state: State, reason: str) -> None:
        self.state, self.reason, self.ended = state, reason, time.monotonic()
        self._release()

    def _release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def stop(tasks: Sequence[Task]) -> None:
    """Stop running tasks: terminate them, and kill them and all children after the grace period."""
    deadline = time.monotonic() + _GRACE
    try:
        for task in tasks:
            task.terminate()
        for task in tasks:
            task.wait(max(0.0, deadline - time.monotonic()))
    finally:  # even if Ctrl-C comes a second time
        for task in tasks:
            task.kill()


@contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Block signals; processes that are started meanwhile never receive them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds, ``3:07``, or from one hour on as ``1:03:07``."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
