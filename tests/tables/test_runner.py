import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.schedule import runner
from tokd_lightning.schedule.jobs import Job, last_line, tokd
from tokd_lightning.schedule.runner import run_experiments


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def stamp(events: Path, name: str, seconds: float = 0.0) -> list[str]:
    """A command that notes when it begins and ends."""
    return python(
        f"import time; f = open({str(events)!r}, 'a', buffering=1)\n"
        f"f.write('{name} begins\\n'); time.sleep({seconds}); f.write('{name} ends\\n')"
    )


def run(jobs: Sequence[Job], workers: int = 2) -> str:
    text = io.StringIO()
    run_experiments(jobs, workers, Console(file=text, width=200))
    return text.getvalue()


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_for(path: Path, lines: int = 1) -> list[str]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.is_file() and len(found := path.read_text().split()) >= lines:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_a_job_waits_for_what_it_needs_and_runs_its_commands_in_order(tmp_path: Path):
    events, log = tmp_path / "events", tmp_path / "logs"
    jobs = [
        Job("student", [stamp(events, "student")], log / "s", needs=["data", "teacher"]),
        Job("teacher", [stamp(events, "fit"), stamp(events, "test")], log / "t", needs=["data"]),
        Job("data", [stamp(events, "data", 0.2)], log / "d"),
    ]
    run(jobs)
    names = [line.split()[0] for line in events.read_text().splitlines()]
    assert names == ["data"] * 2 + ["fit"] * 2 + ["test"] * 2 + ["student"] * 2


@pytest.mark.slow
def test_two_run_at_a_time_and_never_three(tmp_path: Path):
    events = tmp_path / "events"
    jobs = [Job(str(n), [stamp(events, str(n), 0.4)], tmp_path / str(n)) for n in range(5)]
    run(jobs, workers=2)
    running = most = 0
    for line in events.read_text().splitlines():
        running += 1 if line.endswith("begins") else -1
        most = max(most, running)
    assert most == 2


def test_a_failure_drops_what_needs_it_and_lets_the_others_finish(tmp_path: Path):
    broken = python("import sys; print('step 1'); sys.exit('tokd: the teacher is missing')")
    never = tmp_path / "never"
    jobs = [
        Job("bad", [broken, stamp(never, "second command")], tmp_path / "bad.log"),
        Job("child", [stamp(never, "child")], tmp_path / "child.log", needs=["bad"]),
        Job("grandchild", [stamp(never, "grandchild")], tmp_path / "g.log", needs=["child"]),
        Job("good", [stamp(tmp_path / "good", "good", 0.5)], tmp_path / "good.log"),
    ]
    text = io.StringIO()
    with pytest.raises(TokdError) as caught:
        run_experiments(jobs, 2, Console(file=text, width=200))
    log = tmp_path / "bad.log"
    message = f"bad failed with exit code 1: tokd: the teacher is missing (log: {log})"
    assert str(caught.value) == message
    assert message.partition(" ")[2] in text.getvalue()
    assert "child: dropped, it needs bad" in text.getvalue()
    assert "grandchild: dropped, it needs child" in text.getvalue()
    assert "good ends" in (tmp_path / "good").read_text()
    assert not never.exists()


def test_every_failure_is_named_and_a_signal_is_called_one(tmp_path: Path):
    killed = python("import os; os.kill(os.getpid(), 9)")
    jobs = [
        Job("killed", [killed], tmp_path / "a.log"),
        Job("absent", [[str(tmp_path / "no-such-program")]], tmp_path / "b.log"),
    ]
    with pytest.raises(TokdError, match=r"killed failed with signal 9.*; absent cannot start"):
        run(jobs)


def test_a_log_keeps_what_was_run_and_said_by_both_channels_and_by_earlier_runs(tmp_path: Path):
    log = tmp_path / "deep" / "job.log"
    command = python("import sys; print('out'); print('err', file=sys.stderr)")
    for _ in range(2):
        run([Job("job", [command], log)])
    lines = log.read_text().splitlines()
    assert lines.count("out") == lines.count("err") == 2
    assert lines[0].startswith(f"$ {sys.executable} -S -c ")


def test_processes_get_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    log = tmp_path / "job.log"
    run([Job("job", [python("import os; print(os.environ['OMP_NUM_THREADS'])")], log)])
    assert last_line(log) == "1"


def test_without_a_terminal_there_is_one_line_per_change(tmp_path: Path):
    fit = python("print('epoch 1/2'); print('epoch 2/2'); print('12 frames: somewhere')")
    jobs = [
        Job("data", [python("")], tmp_path / "data.log"),
        Job("fit", [fit], tmp_path / "fit.log", needs=["data"], progress="^epoch"),
    ]
    lines = [re.sub(r"\d:\d\d", "0:00", line) for line in run(jobs).splitlines()]
    assert lines == [
        f"data: started (log: {tmp_path / 'data.log'})",
        f"data: done in 0:00  $ {sys.executable} -S -c ''",
        f"fit: started (log: {tmp_path / 'fit.log'})",
        "fit: done in 0:00  epoch 2/2",
    ]


@pytest.mark.slow
def test_a_terminal_shows_a_table_with_the_progress_of_each_job(tmp_path: Path):
    line = "epoch 1/2 [loss] 0.5" + 100 * " and more"
    fit = python(f"import time; print({line!r}, flush=True); time.sleep(1.5)")
    jobs = [
        Job("fit", [fit], tmp_path / "fit.log", progress="^epoch"),
        Job("later", [python("")], tmp_path / "later.log", needs=["fit"]),
    ]
    text = io.StringIO()
    run_experiments(jobs, 2, Console(file=text, width=100, force_terminal=True, color_system=None))
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", text.getvalue())
    assert re.search(r"fit +running +0:0\d +epoch 1/2 \[loss\] 0\.5", shown)
    assert re.search(r"later +waiting", shown)
    assert re.search(r"later +done", shown)


def test_progress_of_an_earlier_run_in_the_same_log_is_not_shown_again(tmp_path: Path):
    log = tmp_path / "fit.log"
    assert "epoch 6/6" in run([Job("fit", [python("print('epoch 6/6')")], log, progress="^epoch")])
    again = run([Job("fit", [python("print('finished, reused')")], log, progress="^epoch")])
    assert "epoch" not in again
    assert "epoch 6/6" in log.read_text()


def test_the_last_line_reads_progress_bars_and_long_files(tmp_path: Path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("x" * 10_000 + "\nepoch 1/6\n10 %\r20 %\n\n")
    assert last_line(log) == "20 %"
    assert last_line(log, r"^epoch \d") == "epoch 1/6"
    assert last_line(log, "never said") == ""


@pytest.mark.parametrize(
    "needs", [{"a": ["b"], "b": ["a"]}, {"a": ["nobody"]}], ids=["circle", "unknown"]
)
def test_needs_that_can_never_be_met_are_refused(tmp_path: Path, needs: dict[str, list[str]]):
    jobs = [Job(name, [], tmp_path / name, needs=n) for name, n in needs.items()]
    with pytest.raises(ValueError, match="need each other"):
        run(jobs)


def test_two_jobs_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="the same name"):
        run([Job("a", [], tmp_path / "a"), Job("a", [], tmp_path / "b")])


@pytest.mark.parametrize("workers", [0, -1])
def test_without_workers_nothing_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    monkeypatch.delattr(runner, "_advance")  # rather than wait
    with pytest.raises(TokdError, match="--workers must be at least 1"):
        run([Job("job", [python("")], tmp_path / "log")], workers)
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_fails_the_job(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TokdError, match=r"job cannot start: .*log"):
        run([Job("job", [python("")], tmp_path / "file" / "job.log")])


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_interrupts_stop_the_processes_and_their_children(
    tmp_path: Path, number: signal.Signals, code: int
):
    pids, stopped = tmp_path / "pids", tmp_path / "stopped"
    # A stubborn grandchild, and a child that leaves politely.
    grandchild = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    )
    child = (
        "import os, signal, subprocess, sys, time\n"
        f"other = subprocess.Popen([sys.executable, '-S', '-c', {grandchild!r}])\n"
        "def leave(*_):\n"
        f"    open({str(stopped)!r}, 'a').write('stopped\\n'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} {{other.pid}}\\n')\n"
        "time.sleep(60)"
    )
    runner = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from tokd_lightning.schedule.jobs import Job\n"
        "from tokd_lightning.schedule.runner import run_experiments\n"
        f"run_experiments([Job(n, [{python(child)!r}], Path({str(tmp_path)!r}, n)) for n in 'ab'])"
    )
    process = subprocess.Popen([sys.executable, "-c", runner], stderr=subprocess.PIPE)
    children = [int(pid) for pid in wait_for(pids, lines=4)]
    assert all(map(alive, children))
    os.kill(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert not any(map(alive, children))
    assert stopped.read_text().split() == ["stopped"] * 2


def test_tokd_is_the_console_script_beside_this_interpreter():
    command = tokd("fit", "--seed_everything", 3, "--runs", Path("runs"))
    assert Path(command[0]).parent == Path(sys.executable).parent
    assert Path(command[0]).name == "tokd"
    assert command[1:] == ["fit", "--seed_everything", "3", "--runs", "runs"]
