"""Tables through submitit's local executor: real jobs of a tokd that takes no time."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from few_cells import BOTH, ONLY, RGB, ROOT, TEACHER, VANILLA, Table
from test_runner import alive, wait_for
from trees import make_ffpp

from tokd_lightning.files import take_lock
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import recipe_hash
from tokd_lightning.runs.provenance import source_hash
from tokd_lightning.runs.record import RunRecord
from tokd_lightning.schedule import cluster
from tokd_lightning.schedule.jobs import Job, tokd
from tokd_lightning.schedule.plan import make_plan

LOCAL = ("--cluster", "local")


@pytest.mark.slow
def test_every_cell_runs_once_after_its_teacher_and_a_second_call_does_nothing(
    table: Table, capsys: pytest.CaptureFixture[str]
):
    assert table("tokd", *LOCAL) == 0
    events = table.events()
    cells = (TEACHER, RGB, BOTH)
    assert sorted(events) == sorted(f"{stage} {it}" for stage in ("fit", "test") for it in cells)
    for student in (RGB, BOTH):
        assert events.index(f"test {TEACHER}") < events.index(f"fit {student}")
        assert events.index(f"fit {student}") < events.index(f"test {student}")
    shown = capsys.readouterr().out
    assert f"{RGB}: started (log: {table.runs}/logs/{RGB}.log)" in shown
    assert f"{RGB}: done in" in shown
    assert "epoch 2/2" in shown
    assert table("tokd", *LOCAL) == 0
    assert table.events() == []
    assert "3 of 3 runs need nothing" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failure_is_named_and_a_failed_teacher_drops_its_students(
    table: Table, capsys: pytest.CaptureFixture[str]
):
    table.happens({f"fit {TEACHER}": "fail", f"test {VANILLA}": "fail"})
    assert table("vanilla,tokd", *LOCAL, "--branches", "both") == 2
    assert not any(BOTH in event for event in table.events())
    shown = capsys.readouterr().out
    for name in (TEACHER, VANILLA):
        log = table.runs / "logs" / f"{name}.log"
        assert f"{name} failed with exit code 1: tokd: out of luck (log: {log})" in shown
    assert f"{BOTH}: dropped, it needs {TEACHER}" in shown
    assert "2 failed, 1 not started; the same command continues from here" in shown
    table.happens({})
    assert table("vanilla", *LOCAL) == 0
    assert table.events() == [f"test {VANILLA}"]


@pytest.mark.slow
def test_a_preempted_job_resumes_and_sigterm_stops_one_for_good(
    table: Table, capsys: pytest.CaptureFixture[str]
):
    other = VANILLA.replace("_s0", "_s1")
    table.happens({f"fit {VANILLA}": "USR2", f"fit {other}": "TERM"})
    assert table("vanilla", *LOCAL, "--seeds", "2") == 2
    events = table.events()
    stopped = [f"fit {VANILLA}", f"fit {VANILLA} stopped"]
    done = [*stopped, f"fit {VANILLA} resumes", f"test {VANILLA}"]
    assert [event for event in events if VANILLA in event] == done
    assert [event for event in events if other in event] == [f"fit {other}", f"fit {other} stopped"]
    assert f"{other} stopped by SIGTERM" in capsys.readouterr().out
    assert table("vanilla", *LOCAL, "--seeds", "2") == 0
    assert table.events() == [f"fit {other} resumes", f"test {other}"]


@pytest.mark.slow
def test_a_second_call_submits_nothing_twice_and_ctrl_c_stops_the_first(table: Table):
    table.happens({f"fit {VANILLA}": "wait"})
    first = table.begin("vanilla", *LOCAL)
    pids = [int(pid) for pid in wait_for(table.folder / "pids", 2)]
    second = table.begin("vanilla", *LOCAL)
    assert second.stdout is not None
    line = next(line for line in second.stdout if line.startswith(VANILLA))
    assert line == f"{VANILLA}: another tokd is at it\n"
    submitted = sorted((table.runs / cluster.FOLDER).glob("*_submitted.pkl"))
    assert len(submitted) == 1
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    first.communicate(timeout=90)
    assert first.returncode == 130
    assert not any(map(alive, pids))
    assert second.wait(timeout=90) == 0
    assert table.events() == [
        f"fit {VANILLA}",
        f"fit {VANILLA} stopped",
        f"fit {VANILLA} resumes",
        f"test {VANILLA}",
    ]


@pytest.mark.slow
def test_a_cell_that_the_usual_runner_is_at_is_not_submitted(table: Table):
    lock = take_lock(table.runs / ".locks" / VANILLA)
    assert lock is not None
    waiting = table.begin("vanilla", *LOCAL)
    assert waiting.stdout is not None
    assert f"{VANILLA}: another tokd is at it\n" in waiting.stdout
    assert not list((table.runs / cluster.FOLDER).glob("*_submitted.pkl"))
    os.close(lock)
    assert waiting.wait(timeout=90) == 0
    assert table.events() == [f"fit {VANILLA}", f"test {VANILLA}"]


def test_a_job_that_has_been_submitted_but_not_begun_is_not_submitted_again(tmp_path: Path):
    class Executor:
        submitted = 0

        def submit(self, job: cluster.CellJob) -> None:
            self.submitted += 1

    executor, job = Executor(), Job("a", [], tmp_path / "a.log", lock=tmp_path / "locks" / "a")
    tasks = [cluster.LocalTask(job, executor, tmp_path) for _ in range(2)]
    assert [task.start() for task in tasks] == [True, False]
    assert executor.submitted == 1
    assert tasks[1].reason == "another tokd is at it"


def test_a_job_waits_for_a_lock_and_looks_again_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "_POLL_LOCK", 0.05)
    lock = take_lock(tmp_path / "lock")
    assert lock is not None
    looked = []

    def commands() -> list[list[str]]:
        looked.append(time.monotonic())
        return []

    job = cluster.CellJob(Job("cell", commands, tmp_path / "log", lock=tmp_path / "lock"))
    before = signal.signal(signal.SIGALRM, lambda *_: os.close(lock))
    handled = signal.getsignal(signal.SIGTERM)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        started = time.monotonic()
        job()
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGTERM, handled)
    assert len(looked) == 1
    assert looked[0] - started >= 0.5


def test_the_steps_of_a_cell_are_those_left_when_it_starts(table: Table):
    plan = make_plan("table3", dataset=["demo"], method=["vanilla"], runs=table.runs)
    steps = plan.steps(plan.cells[0])
    assert pickle.loads(pickle.dumps(steps)) == steps
    assert steps() == [[*steps.fit, "--reuse", "--test"]]
    run = Run(table.runs / VANILLA)
    hashes = {"recipe": recipe_hash(plan.cells[0].arguments()), "data": "d"}
    record = RunRecord(metrics={}, hashes=hashes | {"source": source_hash()})
    run.write_results(record)
    run.best.parent.mkdir()
    run.best.write_text("")
    assert steps() == [steps.test]
    run.write_results(replace(record, metrics={"test/frame/acc": 0.9}))
    assert steps() == []
    run.write_results(replace(record, hashes=hashes | {"source": "older"}))
    assert steps()[0][-2:] == ["--reuse", "--test"]  # it was not asked to make anything anew
    assert replace(steps, rerun=True)()[0][-2:] == ["--rerun", "--test"]


def test_without_submitit_one_line_says_what_to_install(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "submitit", None)
    for where in ("local", "slurm"):
        assert table("vanilla", "--cluster", where) == 2
        error = capsys.readouterr().err
        assert error == 'tokd: --cluster needs submitit: pip install "tokd-lightning[slurm]"\n'
    assert not table.runs.exists()


def child(pid: int) -> int:
    """The only child of a process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(found) == 1:
            return int(found[0])
        time.sleep(0.1)
    raise AssertionError(f"{pid} has no child")


@pytest.mark.slow
def test_real_runs_are_preempted_resumed_tested_and_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    data, runs = make_ffpp(tmp_path / "data", qualities=("c40",)), tmp_path / "runs"
    small = ["size=48", "crop=32", "samples_per_epoch=160", "batch_size=16", "num_workers=0"]
    settings = ["trainer.max_epochs=4", *(f"data.{it}" for it in small)]
    options = [*ONLY, "--method", "tokd", "--branches", "rgb", "--cluster", "local"]
    where = ["--data", str(data), "--runs", str(runs), "--set", *settings]
    # What SLURM sets for a job of one task, which Lightning would take for more than it is.
    for name, value in {"NTASKS": "1", "PROCID": "0", "JOB_ID": "7", "JOB_NAME": "a"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    table = subprocess.Popen([*tokd("table", *options, *where)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(runs.glob("*teacher*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    job = child(child(table.pid))
    os.kill(job, signal.SIGUSR2)
    output, _ = table.communicate(timeout=600)
    assert table.returncode == 0, output
    log = next((runs / "logs").glob("*teacher*.log")).read_text()
    assert log.count("resuming") == 1
    epochs = [line[:9] for line in log.splitlines() if line.startswith("epoch ")]
    assert list(dict.fromkeys(epochs)) == [f"epoch {epoch}/4" for epoch in (1, 2, 3, 4)]
    for results in runs.glob("*/metrics.json"):
        assert "test/frame/acc" in json.loads(results.read_text())["metrics"]
    assert len(list(runs.glob("*/metrics.json"))) == 2
