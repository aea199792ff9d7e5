import os

import pytest

from tokd_lightning.data.parallel import in_processes
from tokd_lightning.errors import TokdError


def about(job: int) -> tuple[int, int, str | None]:
    return job, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def fail(job: int) -> int:
    if job == 2:
        raise TokdError("job 2 cannot be done")
    return job


def die(job: int) -> int:
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    results = list(in_processes(about, range(6), workers))
    assert sorted(job for job, _, _ in results) == list(range(6))
    here = os.getpid()
    assert all((process == here) == (workers == 1) for _, process, _ in results)
    assert {threads for *_, threads in results} == ({"7"} if workers == 1 else {"1"})
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_reaches_the_caller(workers):
    with pytest.raises(TokdError, match="job 2 cannot be done"):
        list(in_processes(fail, range(6), workers))


def test_a_dead_process_is_one_line():
    with pytest.raises(TokdError, match="a worker process died"):
        list(in_processes(die, range(4), 2))


def test_no_jobs_need_no_process():
    assert list(in_processes(die, [], 4)) == []
