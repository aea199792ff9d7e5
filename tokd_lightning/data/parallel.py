"""Jobs in worker processes, which end with the program and compute on one thread each."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from tokd_lightning.errors import TokdError

Job = TypeVar("Job")
Result = TypeVar("Result")
_SPAWN = multiprocessing.get_context("spawn")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None
) -> Iterator[Result]:
    """Call a function for every job in parallel, and yield its results as they complete.

    The first error ends everything; running jobs are finished, the others are cancelled.

    Args:
        function: Importable by name, because processes are spawned.
        jobs: Its arguments, which must be picklable.
        workers: Number of processes; by default one per core. With 1, this process does the work.

    Raises:
        TokdError: A process died. Errors of the function are raised too.
    """
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        yield from map(function, jobs)
        return
    with one_thread_each(), ProcessPoolExecutor(count, _SPAWN, end_with_parent) as pool:
        running = [pool.submit(function, job) for job in jobs]
        try:
            for done in as_completed(running):
                yield done.result()
        except BrokenProcessPool as error:
            message = "a worker process died, perhaps out of memory: run again with fewer"
            raise TokdError(f"{message} --workers than {count}") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def end_with_parent() -> None:
    """Make a worker stop when the program is killed, so that it cannot disturb the next run."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit processes started in this block to one compute thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ |= dict.fromkeys(_THREADS, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
