"""What is handed to SLURM, with scripts in the place of its commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from few_cells import BOTH, RGB, TEACHER, VANILLA, Table

from tokd_lightning.errors import TokdError
from tokd_lightning.tables import cluster
from tokd_lightning.tables.locks import take_lock
from tokd_lightning.tables.slurm import PARAMETERS, slurm_parameters

SLURM = ("--cluster", "slurm")
# sbatch numbers its jobs and keeps their files; srun runs what follows its own options.
FAKES = {
    "sbatch": """
        [ -e "$FAKE_SLURM/refuse" ] && { cat "$FAKE_SLURM/refuse" >&2; exit 1; }
        n=$(($(ls "$FAKE_SLURM" | grep -c '^job') + 100)); cp "$1" "$FAKE_SLURM/job$n"
        echo "Submitted batch job $n" """,
    "squeue": """
        [ -e "$FAKE_SLURM/down" ] && { echo "slurm_load_jobs error: no answer" >&2; exit 1; }
        cat "$FAKE_SLURM/queue" 2>/dev/null || true""",
    "scontrol": 'echo "$@" >>"$CELL_TOKD/events"',
    "srun": 'while [ "$1" != "$FAKE_PYTHON" ]; do shift; done; exec "$@"',
}


@pytest.fixture
def slurm(table: Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the jobs that were submitted, and a file ``queue`` of what still waits."""
    folder, programs = table.folder / "slurm", table.folder / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, script in FAKES.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("FAKE_PYTHON", sys.executable)
    return folder


def options(job: Path) -> dict[str, str]:
    """The #SBATCH lines of a job."""
    found = re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", job.read_text(), re.MULTILINE)
    return {name: value.strip("'") for name, value in found}


def jobs(slurm: Path) -> list[Path]:
    return sorted(slurm.glob("job*"))


def execute(job: Path, element: int | None = None) -> int:
    """Run a job as SLURM would on a machine of the cluster."""
    number = job.name.removeprefix("job")
    one = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    if element is not None:
        one |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(element)}
    return subprocess.run(["bash", str(job)], env=os.environ | one, capture_output=True).returncode


def test_teachers_go_first_and_their_students_after_them_as_an_array(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    asked = ["partition=gpu", "time=08:00:00", "gpus_per_node=1", "mem_gb=40", "cpus_per_task=10"]
    assert table("vanilla,tokd", *SLURM, "--slurm", *asked, "array_parallelism=2") == 0
    first, second = (options(job) for job in jobs(slurm))
    both = {
        **{"partition": "gpu", "time": "480", "gpus-per-node": "1", "mem": "40960M"},
        **{"cpus-per-task": "10", "requeue": "", "signal": "USR2@90", "open-mode": "append"},
        **{"job-name": "table3", "kill-on-invalid-dep": "yes"},
    }
    assert first.items() >= (both | {"array": "0-1%2"}).items()  # the teacher and the vanilla one
    assert "dependency" not in first
    assert second.items() >= (both | {"array": "0-1%2", "dependency": "afterok:100_0"}).items()
    lines = capsys.readouterr().out.splitlines()
    for name, told in {
        TEACHER: "job 100_0",
        VANILLA: "job 100_1",
        RGB: "job 101_0, after 100_0",
        BOTH: "job 101_1, after 100_0",
    }.items():
        line = next(line for line in lines if line.startswith(name))
        assert line.removeprefix(name).strip() == f"{told}  (log: {table.runs}/logs/{name}.log)"
        record = json.loads((table.runs / cluster.FOLDER / f"{name}.json").read_text())
        assert record["job"] == told.split(",")[0].removeprefix("job ")
    assert "4 submitted, 0 in the queue already" in lines
    assert "squeue --jobs 100,101" in lines
    assert not any("no GPU" in line for line in lines)
    assert table.events() == []


def test_what_is_in_the_queue_is_not_submitted_again_and_what_has_left_it_is(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla", *SLURM) == 0
    assert options(jobs(slurm)[0]).keys().isdisjoint({"array", "dependency", "gpus-per-node"})
    assert "no GPU was asked for" in capsys.readouterr().out
    (slurm / "queue").write_text("100\n7\n")
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 1
    assert "job 100, in the queue already" in capsys.readouterr().out
    (slurm / "queue").write_text("7\n")
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 2


def test_students_wait_for_a_teacher_of_an_earlier_call(table: Table, slurm: Path):
    assert table("tokd", *SLURM, "--branches", "rgb") == 0
    (slurm / "queue").write_text("100\n101\n")
    assert table("tokd", *SLURM) == 0
    assert len(jobs(slurm)) == 3
    assert options(jobs(slurm)[2])["dependency"] == "afterok:100"


def test_a_cell_that_runs_elsewhere_is_left_alone_with_its_students(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    lock = take_lock(table.runs / ".locks" / TEACHER)
    assert lock is not None
    assert table("tokd,vanilla", *SLURM) == 2
    os.close(lock)
    assert len(jobs(slurm)) == 1
    shown = re.sub(" +", " ", capsys.readouterr().out)
    assert f"{TEACHER} is running elsewhere" in shown
    assert f"{RGB} not submitted: {TEACHER} is running elsewhere" in shown
    assert f"{VANILLA} job 100" in shown


def test_a_job_does_its_cell_and_comes_back_after_preemption(table: Table, slurm: Path):
    table.happens({f"fit {VANILLA}": "USR2"})
    assert table("vanilla,tokd", *SLURM) == 0
    assert execute(jobs(slurm)[0], 1) != 0
    assert execute(jobs(slurm)[0], 1) == 0
    assert table.events() == [
        f"fit {VANILLA}",
        f"fit {VANILLA} stopped",
        "requeue 100_1",
        f"fit {VANILLA} resumes",
        f"test {VANILLA}",
    ]
    table.happens({f"fit {TEACHER}": "fail"})
    assert execute(jobs(slurm)[0], 0) == 1  # so that afterok does not let its students start


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("down", "tokd: squeue: slurm_load_jobs error: no answer: nothing was submitted\n"),
        ("refuse", f"tokd: sbatch refused {VANILLA}: sbatch: error: invalid partition\n"),
    ],
)
def test_what_slurm_refuses_is_one_line(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str], file: str, message: str
):
    (slurm / file).write_text("sbatch: error:\n invalid partition")
    assert table("vanilla", *SLURM) == 2
    assert capsys.readouterr().err == message
    assert not jobs(slurm)
    (slurm / file).unlink()
    assert table("vanilla", *SLURM) == 0


def test_without_sbatch_nothing_is_written(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(table.folder))
    assert table("vanilla", *SLURM) == 2
    error = capsys.readouterr().err
    assert error.startswith("tokd: there is no sbatch here: --cluster slurm needs a machine")
    assert error.count("\n") == 1
    assert not table.runs.exists()


def test_the_parameters_are_those_of_submitit():
    from submitit.slurm.slurm import _get_default_parameters

    assert set(PARAMETERS) <= set(_get_default_parameters())


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("time=90", 90), ("timeout_min=90", 90), ("time=90:30", 91), ("time=24:00:00", 1440)),
        *(("time=2-12", 3600), ("time=1-00:30", 1470), ("time=1-00:00:01", 1441)),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, minutes: int):
    assert slurm_parameters([text], "table3")["time"] == minutes


def test_parameters_have_their_values():
    given = ["exclusive=true", "mem_gb=1.5", "setup=module load a", "setup=b", "account=007"]
    assert slurm_parameters(given, "table3") == {
        **{"job_name": "table3", "time": 1440, "array_parallelism": 8, "exclusive": True},
        **{"mem": "1536M", "setup": ["module load a", "b"], "account": "007"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partion=gpu", "--slurm partion=gpu: choose from account, array_parallelism, "),
        ("nodes=2", "--slurm nodes=2: choose from"),
        ("partition", "--slurm partition: write KEY=VALUE"),
        ("partition=", "--slurm partition=: write KEY=VALUE"),
        ("comment=a\nrm", "write KEY=VALUE"),
        ("time=soon", "--slurm time=soon: give minutes, or D-HH:MM:SS"),
        ("time=0", "--slurm time=0: give minutes"),
        ("time=1:2:3:4", "give minutes"),
        ("mem_gb=much", "--slurm mem_gb=much: give a positive number"),
        ("mem_gb=nan", "give a positive number"),
        ("array_parallelism=0", "give a positive number"),
    ],
)
def test_a_wrong_parameter_is_one_line(text: str, message: str):
    with pytest.raises(TokdError, match=re.escape(message)):
        slurm_parameters([text], "table3")


@pytest.mark.parametrize(
    "more",
    [
        ["--slurm", "time=3"],
        ["--out", "file"],
        ["--cluster", "local", "--out", "file"],
        ["--cluster", "slurm", "--export", "sbatch"],
    ],
)
def test_options_that_do_not_go_together_are_refused(
    table: Table, capsys: pytest.CaptureFixture[str], more: list[str]
):
    assert table("vanilla", *more) == 2
    assert capsys.readouterr().err.startswith("tokd: --slurm goes with either --cluster or")
