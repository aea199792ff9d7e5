import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def linger(place: Path) -> None:
    place.write_text(str(os.getpid()))
    time.sleep(60)


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


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_processes_end_with_a_killed_program(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_parallel import in_processes, linger\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(linger, [Path(sys.argv[1]), Path(sys.argv[2])], 2))\n"
    )
    files = [tmp_path / "1", tmp_path / "2"]
    program = subprocess.Popen([sys.executable, str(code), *map(str, files)])
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    assert all(alive(worker) for worker in workers)
    program.send_signal(signal.SIGKILL)
    program.wait()
    wait_for(lambda: not any(alive(worker) for worker in workers))


def alive(process: int) -> bool:
    """Whether a process is there, and not only its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)
