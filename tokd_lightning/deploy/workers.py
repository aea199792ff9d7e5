"""Files read in processes that may hang, die or eat memory: that costs the one file.

A decoder of a foreign file is the likeliest part of a program to crash, so each runs under a clock
and a limit of memory, and another takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tokd_lightning.data.parallel import end_with_parent, one_thread_each
from tokd_lightning.deploy.found import Found, Wanted
from tokd_lightning.errors import TokdError

_SPAWN = multiprocessing.get_context("spawn")
_STARTUP = 300.0
_MEMORY = 4 << 30
_READY, _FAILED = "ready", "failed"
_FAILURES = 3


def read_all(
    paths: Sequence[Path], wanted: Wanted, workers: int, limit: float
) -> Iterator[tuple[int, Found]]:
    """Read files side by side, and yield them as they come.

    Args:
        paths: The files.
        wanted: What of them.
        workers: Processes.
        limit: Seconds for one file.

    Yields:
        The file's number and what it gave.

    Raises:
        TokdError: The detector needs something that is not there, or no process can be started.
    """
    waiting = list(range(len(paths)))[::-1]
    crew: list[_Worker] = []
    try:
        with one_thread_each():
            crew += [_Worker(wanted) for _ in range(min(workers, len(paths)))]
            busy, failures = len(crew), 0
            while busy:
                ready = wait([one.pipe for one in crew], timeout=_patience(crew))
                for number, one in enumerate(crew):
                    answer = one.hear() if one.pipe in ready else one.overdue()
                    if answer is None:
                        continue
                    job, found = answer
                    failures = failures + 1 if found.status == _FAILED else 0
                    if failures > _FAILURES:
                        raise TokdError(
                            f"the processes that read files end at their start ({found.note}): is "
                            "memory short? Give fewer --workers"
                        )
                    if not waiting:
                        one.kill()
                        busy -= 1
                    elif one.alive:
                        one.give(waiting.pop(), paths, limit)
                    else:
                        crew[number] = _Worker(wanted)
                    if job is not None:
                        yield job, found
                crew = [one for one in crew if one.alive]
    finally:
        for one in crew:
            one.kill()


Answer = tuple[int | None, Found]
"""A file's number, None of a process that is merely ready, and what it gave."""


class _Worker:
    """One process, and what it is doing."""

    def __init__(self, wanted: Wanted) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(theirs, wanted), daemon=True)
        self.process.start()
        theirs.close()
        self.job: int | None = None
        self.ready, self.alive = False, True
        self.until = time.monotonic() + _STARTUP

    def give(self, job: int, paths: Sequence[Path], limit: float) -> None:
        """Give it a file; a process that is dead by now is noticed when it does not answer."""
        self.job, self.until = job, time.monotonic() + limit
        with contextlib.suppress(OSError):
            self.pipe.send(paths[job])

    def hear(self) -> Answer | None:
        """Take its answer: a file's, or that it is ready for the first."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            return self._lost("unreadable", "reading it crashed the decoder")
        except MemoryError:
            return self._lost("too_large", "it gives more than the memory holds")
        if isinstance(answer, TokdError):
            raise answer
        self.ready = True
        job, self.job = self.job, None
        return job, answer

    def overdue(self) -> Answer | None:
        """Give it up if its time is over and no answer lies in the pipe."""
        if time.monotonic() < self.until or self.pipe.poll():
            return None
        return self._lost("too_slow", "reading it took too long")

    def _lost(self, status: str, why: str) -> Answer:
        if not self.ready:
            self.process.join(1)  # it has closed the pipe and may not have ended: how does it?
        self.kill()
        if not self.ready:
            return None, Found("unknown", _FAILED, f"exit code {self.process.exitcode}")
        return self.job, Found("unknown", status, why)

    def kill(self) -> None:
        """End it now."""
        self.alive = False
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _patience(crew: Sequence[_Worker]) -> float:
    """Return how long to wait: an hour at most, as the system's clock takes no more than weeks."""
    return min(3600.0, max(0.0, min(one.until for one in crew) - time.monotonic()))


def _work(pipe: Connection, wanted: Wanted) -> None:
    """Read files until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        from tokd_lightning.data.prepare.finders import make_finder
        from tokd_lightning.deploy.reading import read

        make_finder(wanted.detector)
    except TokdError as error:
        pipe.send(error)
        return
    except Exception as error:  # a broken installation, no memory: the reason is all there is
        pipe.send(TokdError(f"files cannot be read here: {type(error).__name__}: {error}"))
        return
    _limit()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device, for its descriptor)
        os.dup2(nowhere.fileno(), 2)  # what libraries in C print over broken files
    pipe.send(Found("unknown", _READY))
    while True:
        try:
            path = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Any = read(path, wanted)
        pipe.send(answer)


def _limit() -> None:
    """Bound the memory where the system can; never raise what is lower already."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [value for value in (soft, hard, _MEMORY) if value != resource.RLIM_INFINITY]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
