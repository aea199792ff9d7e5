"""Reading of files in separate processes: a hang, a crash or too much memory costs only one file.

The decoder of an untrusted file is the part of a program most likely to crash, so each process has
a time and a memory limit, and is replaced if it fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from tokd_lightning.data.parallel import end_with_parent, one_thread_each
from tokd_lightning.deploy.found import Faces, ReadOptions
from tokd_lightning.errors import TokdError

# Libraries with threads of their own, which a forked process would lack.
_THREADED = ("onnxruntime", "torch", "cv2", "av")
_STARTUP = 300.0
_MEMORY = 4 << 30
_READY, _FAILED = "ready", "failed"
_FAILURES = 3


def read_all(
    paths: Sequence[Path], wanted: ReadOptions, workers: int, limit: float
) -> Iterator[tuple[int, Faces]]:
    """Start processes that read files in parallel, and yield each file when it is done.

    Args:
        paths: The files.
        wanted: How to read them.
        workers: Number of processes.
        limit: Seconds per file.

    Yields:
        The file's index and the result of reading it.

    Raises:
        TokdError: The detector needs a package or file that is missing, or processes fail to start.
    """
    reading = _read_all(paths, wanted, workers, limit)
    next(reading)
    return cast(Iterator[tuple[int, Faces]], reading)


def _read_all(
    paths: Sequence[Path], wanted: ReadOptions, workers: int, limit: float
) -> Iterator[tuple[int, Faces] | None]:
    """Yield None once the processes have been started, then the results."""
    waiting = list(range(len(paths)))[::-1]
    crew: list[_Worker] = []
    try:
        with one_thread_each():
            crew += [_Worker(wanted) for _ in range(min(workers, len(paths)))]
            yield None
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


Answer = tuple[int | None, Faces]
"""A file's index and its result; the index is None if a process only reports that it is ready."""


class _Worker:
    """One process and its current job."""

    def __init__(self, wanted: ReadOptions) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, wanted), daemon=True)
        self.process.start()
        theirs.close()
        self.job: int | None = None
        self.ready, self.alive = False, True
        self.until = time.monotonic() + _STARTUP

    def give(self, job: int, paths: Sequence[Path], limit: float) -> None:
        """Send the process a file; a dead process is noticed when it does not answer."""
        self.job, self.until = job, time.monotonic() + limit
        with contextlib.suppress(OSError):
            self.pipe.send(paths[job])

    def hear(self) -> Answer | None:
        """Receive the result of a file, or the message that the process is ready."""
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
        """Kill the process if its time is over and no answer is in the pipe."""
        if time.monotonic() < self.until or self.pipe.poll():
            return None
        return self._lost("too_slow", "reading it took too long")

    def _lost(self, status: str, why: str) -> Answer:
        if not self.ready:
            self.process.join(1)  # the pipe is closed; wait for the exit code
        self.kill()
        if not self.ready:
            return None, Faces("unknown", _FAILED, f"exit code {self.process.exitcode}")
        return self.job, Faces("unknown", status, why)

    def kill(self) -> None:
        """Kill the process."""
        self.alive = False
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _context() -> Any:
    """Return how processes are started: forked, which imports nothing again, where that is safe."""
    alone = threading.active_count() == 1 and not any(name in sys.modules for name in _THREADED)
    forked = sys.platform == "linux" and alone
    return multiprocessing.get_context("fork" if forked else "spawn")


def _patience(crew: Sequence[_Worker]) -> float:
    """Return the seconds to wait, at most an hour, since the system's timeout is limited."""
    return min(3600.0, max(0.0, min(one.until for one in crew) - time.monotonic()))


def _work(pipe: Connection, wanted: ReadOptions) -> None:
    """Read files until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        from tokd_lightning.deploy.read import read
        from tokd_lightning.prepare.finders import make_finder
        from tokd_lightning.prepare.imaging import single_thread

        single_thread()
        make_finder(wanted.detector)
    except TokdError as error:
        pipe.send(error)
        return
    except Exception as error:  # a broken installation, no memory: report the reason
        pipe.send(TokdError(f"files cannot be read here: {type(error).__name__}: {error}"))
        return
    _limit()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device, for its descriptor)
        os.dup2(nowhere.fileno(), 2)  # hides messages of C libraries about broken files
    pipe.send(Faces("unknown", _READY))
    while True:
        try:
            path = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Any = read(path, wanted)
        pipe.send(answer)


def _limit() -> None:
    """Limit the memory where the system supports it; never raise a lower limit."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [value for value in (soft, hard, _MEMORY) if value != resource.RLIM_INFINITY]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
