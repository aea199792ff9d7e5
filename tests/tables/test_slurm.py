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
from tokd_lightning.files import take_lock
from tokd_lightning.schedule.queue import FOLDER
from tokd_lightning.schedule.slurm import PARAMETERS, slurm_parameters

SLURM = ("--cluster", "slurm")
# sbatch numbers its jobs and keeps their files; srun runs what follows its own options; squeue
# shows the lines of a file, "ID STATE CODE REASON", as SLURM 22.05 does.
FAKES = {
    "sbatch": """
        env >"$FAKE_SLURM/environment"
        [ -e "$FAKE_SLURM/refuse" ] && { cat "$FAKE_SLURM/refuse" >&2; exit 1; }
        size=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        room=$(cat "$FAKE_SLURM/room" 2>/dev/null || echo 1000)
        [ "${size:-0}" -lt "$room" ] || {
          echo "sbatch: error: Batch job submission failed: $(cat "$FAKE_SLURM/limit")" >&2
          exit 1; }
        [ -e "$FAKE_SLURM/room" ] && echo $((room - ${size:-0} - 1)) >"$FAKE_SLURM/room"
        n=$(($(ls "$FAKE_SLURM" | grep -c '^job') + 100)); cp "$1" "$FAKE_SLURM/job$n"
        echo "Submitted batch job $n" """,
    "squeue": """
        env >"$FAKE_SLURM/environment"; echo "$@" >"$FAKE_SLURM/asked"
        [ -e "$FAKE_SLURM/down" ] && { echo "slurm_load_jobs error: no answer" >&2; exit 1; }
        [ -e "$FAKE_SLURM/queue" ] || exit 0
        while read -r id state code reason; do
          printf '%-40s%-20s%-12s%-60s%-200s\\n' "$id" "$state" "$code" "$reason" a
        done <"$FAKE_SLURM/queue" """,
    "scontrol": """
        case $1 in
          show) cat "$FAKE_SLURM/config" 2>/dev/null || true;;
          requeue) echo "$@" >>"$CELL_TOKD/events";;
          *) { [ "$1" ] && echo "$@" || cat; } >>"$FAKE_SLURM/updates"
             [ -e "$FAKE_SLURM/deaf" ] &&
             { echo "slurm_update error: Access denied" >&2; exit 1; };;
        esac; exit 0""",
    "scancel": 'echo "$@" >>"$FAKE_SLURM/cancelled"',
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


def updates(slurm: Path) -> list[str]:
    """What scontrol was told, and forget it."""
    path = slurm / "updates"
    lines = path.read_text().splitlines()
    path.unlink()
    return lines


def queued(slurm: Path, *lines: str) -> None:
    (slurm / "queue").write_text("".join(f"{line}\n" for line in lines))


def execute(job: Path, element: int | None = None) -> int:
    """Run a job as SLURM would on a machine of the cluster."""
    number = job.name.removeprefix("job")
    one = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    if element is not None:
        one |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(element)}
    return subprocess.run(["bash", str(job)], env=os.environ | one, capture_output=True).returncode


def test_one_array_holds_all_and_its_elements_get_names_and_what_they_wait_for(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    asked = ["partition=gpu", "time=08:00:00", "gpus_per_node=1", "mem_gb=40", "cpus_per_task=10"]
    assert table("vanilla,tokd", *SLURM, "--slurm", *asked, "array_parallelism=2") == 0
    [job] = jobs(slurm)  # of one array no more than two run at a time, whatever they wait for
    assert (
        options(job).items()
        >= {
            **{"partition": "gpu", "time": "480", "gpus-per-node": "1", "mem": "40960M"},
            **{"cpus-per-task": "10", "requeue": "", "signal": "USR2@90", "open-mode": "append"},
            **{"kill-on-invalid-dep": "yes", "hold": "", "array": "0-3%2", "export": "ALL"},
        }.items()
    )
    assert "srun --unbuffered --output" in job.read_text()
    assert "--export=ALL" in job.read_text().splitlines()[-1]
    assert "dependency" not in options(job)
    assert updates(slurm) == [
        f"update JobId=100_0 JobName={TEACHER}",
        f"update JobId=100_1 JobName={VANILLA}",
        f"update JobId=100_2 JobName={RGB} Dependency=afterok:100_0",
        f"update JobId=100_3 JobName={BOTH} Dependency=afterok:100_0",
        *(f"release 100_{element}" for element in range(4)),
    ]
    lines = capsys.readouterr().out.splitlines()
    for name, told in {
        TEACHER: "job 100_0",
        VANILLA: "job 100_1",
        RGB: "job 100_2, after 100_0",
        BOTH: "job 100_3, after 100_0",
    }.items():
        line = next(line for line in lines if line.startswith(name))
        assert line.removeprefix(name).strip() == f"{told}  (log: {table.runs}/logs/{name}.log)"
        record = json.loads((table.runs / FOLDER / f"{name}.json").read_text())
        assert record["job"] == told.split(",")[0].removeprefix("job ")
        assert "held" not in record
    assert "4 submitted, 0 in the queue already" in lines
    assert "squeue --jobs 100" in lines
    assert not any("no GPU" in line for line in lines)
    assert table.events() == []


def test_what_is_in_the_queue_is_not_submitted_again_and_what_has_left_it_is(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla", *SLURM) == 0
    assert options(jobs(slurm)[0]).keys().isdisjoint({"array", "dependency", "gpus-per-node"})
    assert "no GPU was asked for" in capsys.readouterr().out
    queued(slurm, "100 RUNNING 0 None", "7 RUNNING 0 None")
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 1
    assert "job 100, in the queue already, RUNNING  (log: " in capsys.readouterr().out
    queued(slurm, "7 RUNNING 0 None")
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 2


def test_the_queue_is_read_whatever_the_environment_says(
    table: Table, slurm: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {
        **{"SQUEUE_STATES": "PD", "SQUEUE_FORMAT": "%j", "SQUEUE_USERS": "x", "LOGNAME": "nobody"},
        **{"SBATCH_EXPORT": "NONE", "SBATCH_WAIT": "1", "SBATCH_PARTITION": "cpu"},
        **{"SBATCH_TIMELIMIT": "1", "SBATCH_QOS": "long", "SLURM_STEP_NUM_TASKS": "4"},
        **{"SLURM_EXPORT_ENV": "NONE", "SLURM_CONF": "/etc/slurm.conf"},
    }.items():
        monkeypatch.setenv(name, value)
    assert table("vanilla", *SLURM, "--slurm", "partition=gpu") == 0
    asked = (slurm / "asked").read_text()
    assert f"--user={os.getuid()}\n" in asked
    assert "--states=all" in asked
    for lines in (slurm / "environment").read_text().splitlines(), os.environ:
        names = {line.partition("=")[0] for line in lines}
        changed = names & {"SQUEUE_STATES", "SQUEUE_FORMAT", "SQUEUE_USERS"}
        assert bool(changed) == (lines is os.environ)
    queued(slurm)
    (slurm / "queue").unlink()
    seen: dict[str, str] = {}
    (slurm / "asked").unlink()
    real = slurm.parent / "bin" / "squeue"
    real.write_text("#!/bin/bash\nexit 0\n")  # what is left in `environment` is sbatch's
    assert table("vanilla", *SLURM, "--slurm", "partition=gpu") == 0
    for line in (slurm / "environment").read_text().splitlines():
        name, _, value = line.partition("=")
        seen[name] = value
    kept = {"SBATCH_EXPORT": "ALL", "SBATCH_QOS": "long", "SLURM_CONF": "/etc/slurm.conf"}
    assert {n: v for n, v in seen.items() if n.startswith(("SBATCH_", "SLURM_"))} == kept
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    assert table("vanilla", *SLURM) == 2


def test_students_wait_for_a_teacher_of_an_earlier_call(table: Table, slurm: Path):
    assert table("tokd", *SLURM, "--branches", "rgb") == 0
    queued(slurm, "100_0 RUNNING 0 None", "100_1 PENDING 0 Dependency")
    updates(slurm)
    assert table("tokd", *SLURM) == 0
    assert len(jobs(slurm)) == 2
    assert updates(slurm) == [
        f"update JobId=101 JobName={BOTH} Dependency=afterok:100_0",
        "release 101",
    ]


def test_a_job_of_another_cluster_is_not_this_ones(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    (slurm / "config").write_text("ClusterName             = one\nMaxArraySize            = 1001\n")
    assert table("vanilla", *SLURM) == 0
    queued(slurm, "100 RUNNING 0 None")
    (slurm / "config").write_text("ClusterName             = two\n")
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 2
    assert "before: job 100 of the cluster one" in capsys.readouterr().out
    record = table.runs / FOLDER / f"{VANILLA}.json"  # as it was written before clusters counted
    record.write_text(json.dumps({"job": "100", "name": VANILLA, "cluster": "slurm"}))
    assert table("vanilla", *SLURM) == 0
    assert len(jobs(slurm)) == 2


@pytest.mark.parametrize(
    ("limits", "arrays"),
    [
        ({"config": "MaxArraySize            = 3\n"}, ["0-2%2", None]),
        ({"config": "MaxArraySize            = 1\n"}, [None] * 4),
        (
            {"room": "2", "limit": "Job violates accounting/QOS policy (job submit limit)"},
            ["0-1%2"],
        ),
        ({"room": "1", "limit": "Invalid job array specification"}, [None]),
    ],
)
def test_jobs_are_submitted_in_parts_where_slurm_takes_no_more(
    table: Table,
    slurm: Path,
    capsys: pytest.CaptureFixture[str],
    limits: dict[str, str],
    arrays: list[str | None],
):
    for name, text in limits.items():
        (slurm / name).write_text(text)
    all_in = "MaxArraySize" in limits.get("config", "")
    once = [*SLURM, "--slurm", "array_parallelism=2"]
    assert table("vanilla,tokd", *once) == (0 if all_in else 2)
    made = jobs(slurm)
    assert [options(job).get("array") for job in made] == arrays
    told = updates(slurm) if made else []
    for number, job in enumerate(made[1:], 100):  # no more at a time than were asked for
        own = [line for line in told if f"={job.name.removeprefix('job')}" in line]
        assert own
        assert all(f"afterany:{number}" in line for line in own)
    shown = capsys.readouterr().out
    if all_in:
        assert "4 submitted, 0 in the queue already" in shown
        return
    first = int(limits["room"]) if "room" in limits else 2 * len(made)
    left = f"{4 - first} not submitted, SLURM takes no more: "
    assert left in shown
    assert limits.get("limit", "its MaxJobCount is reached; ") in shown
    assert "the same command submits them when jobs have left the queue" in shown
    for name in limits:
        (slurm / name).unlink()
    ids = [f"100_{n}" for n in range(first)] if first > 1 else ["100"]
    queued(slurm, *(f"{it} PENDING 0 Resources" for it in ids[: len(ids) * bool(first)]))
    assert table("vanilla,tokd", *once) == 0
    assert f"{4 - first} submitted, {first} in the queue already" in capsys.readouterr().out


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("reason", "stuck"),
    [
        *((it, True) for it in ("PartitionTimeLimit", "PartitionDown", "PartitionInactive")),
        *((it, True) for it in ("DependencyNeverSatisfied", "JobHeldAdmin", "JobHeldUser")),
        *((it, True) for it in ("QOSMaxWallDurationPerJobLimit", "BadConstraints")),
        ("ReqNodeNotAvail, UnavailableNodes:n1", True),
        ("launch failed requeued held", True),
        *((it, False) for it in ("Resources", "Priority", "Dependency", "BeginTime")),
        *((it, False) for it in ("JobArrayTaskLimit", "QOSMaxJobsPerUserLimit", "Licenses")),
    ],
)
def test_a_job_that_cannot_start_is_said_with_its_reason(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str], reason: str, stuck: bool
):
    queued(slurm, f"100 PENDING 0 {reason}")
    assert table("vanilla", *SLURM) == (2 if stuck else 0)
    shown = capsys.readouterr().out
    assert f"job 100, PENDING ({reason})" in shown
    assert ("1 of them cannot start until SLURM resolves" in shown) == stuck
    assert table("vanilla", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"{VANILLA}: job 100, PENDING ({reason})" in shown
    assert ("cannot start as it is" in shown) == stuck


def test_students_of_a_teacher_that_is_ending_are_not_submitted(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    assert table("tokd", *SLURM, "--branches", "rgb") == 0
    queued(slurm, "100_0 COMPLETING 0 None")
    capsys.readouterr()
    assert table("tokd", *SLURM) == 2
    assert len(jobs(slurm)) == 1
    shown = re.sub(" +", " ", capsys.readouterr().out)
    ending = "its job 100_0 is ending (COMPLETING), start the command again when it has left"
    assert f"{TEACHER} not submitted: {ending}" in shown
    assert f"{BOTH} not submitted: {TEACHER} {ending}" in shown


@pytest.mark.parametrize(
    ("entry", "how"),
    [
        ("100 FAILED 256 NonZeroExitCode", "FAILED, exit code 1"),  # as squeue of 22.05 shows them
        ("100 TIMEOUT 15 TimeLimit", "TIMEOUT, signal 15"),
        ("100 CANCELLED 36608 None", "CANCELLED, exit code 143"),
        ("100 PREEMPTED 0 None", "PREEMPTED"),
        (None, "has left the queue"),
    ],
)
def test_a_later_call_says_how_a_job_has_ended(
    table: Table,
    slurm: Path,
    capsys: pytest.CaptureFixture[str],
    entry: str | None,
    how: str,
):
    assert table("vanilla", *SLURM) == 0
    queued(slurm, *([] if entry is None else [entry]))
    log = table.runs / FOLDER / "100_0_log.err"
    log.write_text("slurmstepd: error: no such file\n")
    assert table("vanilla", "--dry-run") == 0
    said = f"job 100 {how}: slurmstepd: error: no such file (log: {log})"
    assert f"{VANILLA}: {said}" in capsys.readouterr().out
    own = table.runs / "logs" / f"{VANILLA}.log"
    own.parent.mkdir(exist_ok=True)
    own.write_text("epoch 1/2\ntokd: out of luck\n")
    assert table("vanilla", *SLURM) == 0
    shown = capsys.readouterr().out
    assert f"before: job 100 {how}: tokd: out of luck (log: {own})" in shown
    assert "1 submitted" in shown


def test_what_slurm_says_of_memory_is_quoted_and_not_the_command(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla", *SLURM) == 0
    queued(slurm, "100 FAILED 35072 NonZeroExitCode")
    own = table.runs / "logs" / f"{VANILLA}.log"
    own.parent.mkdir(exist_ok=True)
    own.write_text("$ tokd fit --config experiments/demo_vanilla.yaml --reuse\n")
    assert table("vanilla", "--dry-run") == 0
    assert f"{VANILLA}: job 100 FAILED, exit code 137\n" in capsys.readouterr().out
    log = table.runs / FOLDER / "100_0_log.err"
    log.write_text(  # of slurmstepd 22.05
        "slurmstepd-vm: error: *** STEP 2.0 ON vm CANCELLED AT 2026-11-30T15:58:10 ***\n"
        "slurmstepd-vm: error: StepId=2.0 exceeded memory limit (5178 > 1048), being killed\n"
        "slurmstepd-vm: error: Exceeded job memory limit\nsrun: error: vm: task 0: Killed\n"
    )
    assert table("vanilla", "--dry-run") == 0
    said = "slurmstepd-vm: error: Exceeded job memory limit; --slurm mem_gb=… asks for more"
    assert f"job 100 FAILED, exit code 137: {said} (log: {log})" in capsys.readouterr().out


def test_what_cannot_be_prepared_is_taken_back_and_what_died_before_is_cleared(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    (slurm / "deaf").touch()
    assert table("vanilla,tokd", *SLURM) == 2
    why = "scontrol: slurm_update error: Access denied"
    assert capsys.readouterr().err == f"tokd: {why}: what had been submitted was taken back\n"
    assert (slurm / "cancelled").read_text() == "100\n"
    assert not list((table.runs / FOLDER).glob("*.json"))
    (slurm / "deaf").unlink()
    record = {"job": "107", "cluster": "", "user": os.getuid(), "held": True}
    (table.runs / FOLDER / f"{VANILLA}.json").write_text(json.dumps(record))
    queued(slurm, "107 PENDING 0 JobHeldUser")
    assert table("vanilla", *SLURM) == 0
    assert (slurm / "cancelled").read_text() == "100\n107\n"
    assert "1 submitted, 0 in the queue already" in capsys.readouterr().out


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


@pytest.mark.slow
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


def test_a_dry_run_shows_the_table_where_the_queue_does_not_answer(
    table: Table, slurm: Path, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla", *SLURM) == 0
    (slurm / "down").touch()
    capsys.readouterr()
    assert table("vanilla", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1 to do" in shown
    why = "squeue: slurm_load_jobs error: no answer"
    assert f"jobs were given to SLURM, {why}: what is queued is not known" in shown
    assert table("vanilla", "--dry-run", *SLURM) == 2
    assert capsys.readouterr().err == f"tokd: {why}: nothing was submitted\n"


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
    assert slurm_parameters([text])["time"] == minutes


def test_parameters_have_their_values():
    given = ["exclusive=true", "mem_gb=1.5", "setup=module load a", "setup=b", "account=007"]
    assert slurm_parameters(given) == {
        **{"time": 1440, "array_parallelism": 8, "exclusive": True},
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
        slurm_parameters([text])


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
