"""Jobs in a real SLURM: the script on the page, the exported one, and a table's cells."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from few_cells import BOTH, FAKE, RGB, ROOT, TEACHER, VANILLA, Table
from real_slurm import Cluster, missing, no_cgroups, running, wait
from trees import make_ffpp

from tokd_lightning.schedule.jobs import tokd
from tokd_lightning.schedule.queue import FOLDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "installed"),
]
SCRIPT = re.search(
    r"^```bash\n(.*?)^```", (ROOT / "docs/processes.md").read_text(), re.DOTALL | re.MULTILINE
)
# Stands for tokd in the script of the page: saves for two seconds when it is told to end.
SAVES = """
import os, signal, sys, time
here, told = os.environ["SAVES"], []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: told.append(1))
def note(text):
    with open(here, "a") as file: file.write(text + " " + os.environ["SLURM_PROCID"] + "\\n")
assert sys.argv[1:3] == ["fit", "--config"], sys.argv
assert os.environ["SLURM_STEP_NUM_TASKS"] == "4"
note("begins")
while not told:
    time.sleep(0.05)
    if os.path.exists(here + ".code"):
        sys.exit(int(open(here + ".code").read()))
time.sleep(2)
note("saved")
sys.exit(143)
"""


@pytest.fixture(scope="module", params=["proctrack/cgroup", "proctrack/linuxproc"])
def tracked(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "proctrack/cgroup" and no_cgroups():
        pytest.skip(no_cgroups())
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield from running(Path(folder), request.param)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield from running(Path(folder), "proctrack/linuxproc", MaxArraySize="4")


def write_program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


@pytest.fixture
def page(tracked: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Submits the script of the page as it stands, with what stands for tokd; returns the job."""
    assert SCRIPT is not None
    (tmp_path / "job.sh").write_text(SCRIPT[1])
    write_program(tmp_path / "bin", "tokd", f"#!{sys.executable}\n{SAVES}")
    for name, value in tracked.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SAVES", str(tmp_path / "notes"))
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.chdir(tmp_path)

    def submit(*options: str) -> str:
        number = tracked("sbatch", "--export=ALL", "--parsable", *options, "job.sh").strip()
        wait(lambda: notes(tmp_path).count("begins") == 4, 60, f"job {number} does not begin")
        return number

    yield submit
    tracked.clear()


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETED"), (2, "FAILED")])
def test_a_job_of_the_page_ends_as_its_run_ends(
    page, tracked: Cluster, tmp_path: Path, code: int, state: str
):
    number = page()
    (tmp_path / "notes.code").write_text(str(code))
    job = tracked.wait_for(number, "COMPLETED", "FAILED")
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == (state, f"{code}:0", "0")


def test_a_cancelled_job_of_the_page_saves_and_stays_away(page, tracked: Cluster, tmp_path: Path):
    number = page()
    tracked("scancel", number)
    tracked.wait_for(number, "CANCELLED")
    assert notes(tmp_path).count("saved") == 4
    assert tracked.job(number)["Restarts"] == "0"


@pytest.mark.parametrize("how", ["requeue", "preempt", "limit"])
def test_a_job_of_the_page_saves_and_comes_back(page, tracked: Cluster, tmp_path: Path, how: str):
    number = page(*(["--partition=main", "--exclusive", f"--nodelist={tracked.host}"]))
    if how == "requeue":
        tracked("scontrol", "requeue", number)
    elif how == "preempt":
        tracked("sbatch", "--partition=urgent", "--exclusive", "--wrap", "sleep 1")
    else:  # as SLURM does it two minutes before the limit: --signal=B:USR1@120
        tracked("scancel", "--signal=USR1", "--batch", number)
    wait(lambda: notes(tmp_path).count("saved") == 4, 30, "it has not saved")
    wait(lambda: notes(tmp_path).count("begins") == 8, 90, "it does not come back")
    (tmp_path / "notes.code").write_text("0")
    assert tracked.wait_for(number, "COMPLETED", "FAILED")["JobState"] == "COMPLETED"
    assert tracked.job(number)["Restarts"] == "1"


def test_the_time_limit_of_slurm_itself_brings_a_job_back(page, tracked: Cluster, tmp_path: Path):
    page("--time=3")  # and the signal two minutes before
    wait(lambda: notes(tmp_path).count("saved") == 4, 150, "it has not saved")
    wait(lambda: notes(tmp_path).count("begins") == 8, 60, "it does not come back")


@pytest.fixture
def slurm(table: Table, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A SLURM for a table of cells that take no time, and variables that were in the way."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    for name, value in {
        **{"SQUEUE_STATES": "COMPLETED", "SQUEUE_FORMAT": "%j", "SQUEUE_PARTITION": "short"},
        **{"USER": "nobody", "LOGNAME": "nobody", "SBATCH_EXPORT": "NONE"},
    }.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.clear()


SLURM = ("--cluster", "slurm")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(" +", " ", capsys.readouterr().out)


def number_of(table: Table, name: str) -> str:
    return str(json.loads((table.runs / FOLDER / f"{name}.json").read_text())["job"])


def test_cells_are_done_once_named_and_no_more_at_a_time_than_asked_for(
    table: Table, slurm: Cluster, capsys: pytest.CaptureFixture[str]
):
    table.happens({f"fit {TEACHER}": "wait"})
    asked = (*SLURM, "--slurm", "array_parallelism=1")
    assert table("vanilla,tokd", *asked) == 0
    teacher = number_of(table, TEACHER)
    wait(lambda: table.events() == [f"fit {TEACHER}"], 60, "the teacher does not begin")
    assert slurm.job(teacher)["JobName"] == TEACHER
    jobs = slurm("squeue", "--noheader", "--array", "--format=%i %T %j").splitlines()
    assert sum("RUNNING" in job for job in jobs) == 1
    assert {job.split()[2] for job in jobs} == {TEACHER, VANILLA, RGB, BOTH}
    capsys.readouterr()
    assert table("vanilla,tokd", *asked) == 0
    assert "0 submitted, 4 in the queue already" in shown(capsys)
    assert table("vanilla,tokd", "--dry-run") == 0
    told = shown(capsys)
    assert f"{TEACHER}: job {teacher}, RUNNING" in told
    assert f"{BOTH}: job {number_of(table, BOTH)}, PENDING (Dependency)" in told
    assert "1 running, 3 queued" in told
    table.happens({})
    slurm("scontrol", "requeue", teacher)
    for name in (TEACHER, VANILLA, RGB, BOTH):
        slurm.wait_for(number_of(table, name), "COMPLETED", seconds=120)
    events = table.events()
    assert [it for it in events if TEACHER in it] == [
        *(f"fit {TEACHER} stopped", f"fit {TEACHER} resumes", f"test {TEACHER}"),
    ]
    for name in (VANILLA, RGB, BOTH):
        assert [it for it in events if name in it] == [f"fit {name}", f"test {name}"]
    assert table("vanilla,tokd", *asked) == 0
    assert "4 of 4 runs need nothing" in shown(capsys)


def test_an_array_that_is_too_large_is_submitted_in_parts(
    table: Table, slurm: Cluster, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla,at,fitnet", *SLURM) == 0  # six cells, and MaxArraySize=4
    assert "6 submitted, 0 in the queue already" in shown(capsys)
    names = [it.stem for it in (table.runs / FOLDER).glob("*.json")]
    assert len({number_of(table, name).partition("_")[0] for name in names}) == 2
    for name in names:
        slurm.wait_for(number_of(table, name), "COMPLETED", seconds=120)


@pytest.mark.parametrize(
    ("state", "options", "reason"),
    [
        ("up", ["partition=short"], "PartitionTimeLimit"),
        ("down", ["partition=short", "time=5"], "PartitionDown"),
        ("inactive", ["partition=short", "time=5"], "PartitionInactive"),
    ],
)
def test_jobs_that_cannot_start_are_said_with_the_reason(
    table: Table,
    slurm: Cluster,
    capsys: pytest.CaptureFixture[str],
    state: str,
    options: list[str],
    reason: str,
):
    slurm("scontrol", "update", "PartitionName=short", f"State={state}")
    try:
        code = table("vanilla", *SLURM, "--slurm", *options)
        told = capsys.readouterr()
        if state == "inactive":  # sbatch itself refuses
            assert code == 2
            assert told.err.startswith(f"tokd: sbatch refused {VANILLA}: ")
            return
        assert code == 2
        assert f", PENDING ({reason})" in told.out
        assert "1 of them cannot start until SLURM resolves" in told.out
    finally:
        slurm("scontrol", "update", "PartitionName=short", "State=up")


def test_a_cancelled_teacher_takes_no_students_and_a_failure_is_quoted(
    table: Table, slurm: Cluster, capsys: pytest.CaptureFixture[str]
):
    table.happens({f"fit {TEACHER}": "wait", f"fit {VANILLA}": "fail"})
    assert table("vanilla,tokd", *SLURM, "--branches", "rgb") == 0
    teacher, vanilla = number_of(table, TEACHER), number_of(table, VANILLA)
    slurm.wait_for(vanilla, "FAILED")
    wait(lambda: f"fit {TEACHER}" in table.events(), 60, "the teacher does not begin")
    slurm("scancel", teacher)
    assert slurm.job(teacher)["JobState"] in {"CANCELLED", "COMPLETING"}
    capsys.readouterr()
    assert table("tokd", *SLURM) == 2
    told = shown(capsys)
    assert f"{TEACHER} not submitted: its job {teacher} is ending (COMPLETING)" in told
    assert f"{BOTH} not submitted: {TEACHER} its job {teacher} is ending" in told
    assert table("vanilla", "--dry-run") == 0
    log = table.runs / "logs" / f"{VANILLA}.log"
    why = f"job {vanilla} FAILED, exit code 1: tokd: out of luck (log: {log})"
    assert f"{VANILLA}: {why}" in shown(capsys)
    table.happens({})
    assert table("vanilla", *SLURM) == 0
    assert f"before: {why}" in shown(capsys)
    slurm.wait_for(number_of(table, VANILLA), "COMPLETED")


def test_preemption_that_cancels_is_quoted_and_the_same_command_goes_on(
    table: Table, slurm: Cluster, capsys: pytest.CaptureFixture[str]
):
    table.happens({f"fit {VANILLA}": "wait"})
    options = (*SLURM, "--slurm", "partition=lost", "exclusive=true")
    assert table("vanilla", *options) == 0
    wait(lambda: table.events(), 60, "it does not begin")
    number = number_of(table, VANILLA)
    slurm("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    slurm.wait_for(number, "PREEMPTED", "CANCELLED", seconds=90)
    assert table.events() == [f"fit {VANILLA} stopped"]
    table.happens({})
    capsys.readouterr()
    assert table("vanilla", *options) == 0
    assert re.search(rf"before: job {number} (PREEMPTED|CANCELLED)", shown(capsys))
    slurm.wait_for(number_of(table, VANILLA), "COMPLETED", seconds=120)
    assert table.events() == [f"fit {VANILLA} resumes", f"test {VANILLA}"]


@pytest.mark.parametrize("how", ["scancel", "requeue", "limit"])
def test_the_exported_script_saves_and_comes_back_where_it_should(
    table: Table, tracked: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
):
    for name, value in tracked.environment.items():
        monkeypatch.setenv(name, value)
    write_program(table.folder / "bin", "tokd", f'#!/bin/bash\nexec {sys.executable} {FAKE} "$@"\n')
    monkeypatch.setenv("PATH", f"{table.folder}/bin:{os.environ['PATH']}")
    table.happens({f"fit {VANILLA}": "wait"})
    assert table("vanilla", "--export", "sbatch") == 0
    script = table.runs / "table3.sbatch"
    job = tracked("sbatch", "--parsable", "--export=ALL", str(script)).strip()
    wait(lambda: table.events() == [f"fit {VANILLA}"], 60, "it does not begin")
    element = f"{job}_0"
    assert tracked.job(element)["JobName"] == VANILLA
    if how == "scancel":
        tracked("scancel", job)
        tracked.wait_for(element, "CANCELLED")
        assert table.events() == [f"fit {VANILLA} stopped"]
        return
    if how == "requeue":
        tracked("scontrol", "requeue", element)
    else:
        tracked("scancel", "--signal=USR1", "--batch", element)
    tracked.wait_for(element, "COMPLETED", "FAILED", seconds=120)
    done = [f"fit {VANILLA} stopped", f"fit {VANILLA} resumes", f"test {VANILLA}"]
    assert table.events() == done
    assert tracked.job(element)["JobState"] == "COMPLETED"
    tracked.clear()


def small(tmp_path: Path) -> list[str]:
    data = make_ffpp(tmp_path / "data", qualities=("c40",))
    settings = ["size=48", "crop=32", "samples_per_epoch=96", "batch_size=16", "num_workers=0"]
    return [
        *("--data.root", str(data), "--log", "none", "--trainer.max_epochs", "4"),
        *("--trainer.accelerator", "cpu", "--data.quality", "c40"),
        *(part for it in settings for part in (f"--data.{it}".split("="))),
    ]


def test_real_fits_in_every_kind_of_job(cluster: Cluster, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    fit = tokd("fit", "--config", "experiments/demo_vanilla.yaml", *small(tmp_path))
    ways = {
        "srun": (["--ntasks=2"], ["srun"], "2"),  # no --ntasks-per-node
        "nodes": (["--nodes=2", "--ntasks=2"], ["srun"], ["1", "--trainer.num_nodes", "2"]),
        "batch": (["--ntasks=2"], [], "2"),  # without srun
        "one": (["--ntasks=2"], [], "1"),
    }
    jobs = {}
    for name, (options, before, devices) in ways.items():
        given = [devices] if isinstance(devices, str) else devices
        runs = tmp_path / f"runs-{name}"
        command = [*before, *fit, "--runs", str(runs), "--trainer.devices", *given]
        jobs[name] = cluster(
            *("sbatch", "--parsable", *options, f"--output={tmp_path}/{name}.log"),
            *("--wrap", subprocess.list2cmdline(command)),
        ).strip()
    curves = {}
    for name, number in jobs.items():
        job = cluster.wait_for(number, "COMPLETED", "FAILED", seconds=500)
        assert job["JobState"] == "COMPLETED", (tmp_path / f"{name}.log").read_text()
        [run] = (tmp_path / f"runs-{name}").iterdir()
        curves[name] = (run / "metrics.csv").read_bytes()
    assert curves["srun"] == curves["nodes"] == curves["batch"]
    test = [fit[0], "test", *fit[2:], "--runs", str(tmp_path / "runs-one")]
    log = tmp_path / "test.log"
    number = cluster(
        *("sbatch", "--parsable", "--ntasks=2", f"--output={log}"),
        *("--wrap", subprocess.list2cmdline(test)),
    ).strip()
    job = cluster.wait_for(number, "COMPLETED", "FAILED", seconds=300)
    assert job["JobState"] == "COMPLETED", log.read_text()


def test_real_cells_are_requeued_resumed_tested_and_done(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    data = make_ffpp(tmp_path / "data", qualities=("c40",))
    small = ["size=48", "crop=32", "samples_per_epoch=160", "batch_size=16", "num_workers=0"]
    settings = ["trainer.max_epochs=4", *(f"data.{it}" for it in small)]
    command = tokd(
        *("table", "3", "--dataset", "demo", "--student", "resnet18_thin", "--method", "tokd"),
        *("--branches", "rgb", "--log", "none", "--data", str(data), "--set", *settings, "--runs"),
    )
    whole, runs = tmp_path / "undisturbed", tmp_path / "runs"
    alone = subprocess.run([*command, str(whole), "--workers", "1"], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    asked = [*command, str(runs), *SLURM]
    submitted = subprocess.run(asked, capture_output=True, text=True)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    records = [json.loads(path.read_text()) for path in (runs / FOLDER).glob("*.json")]
    numbers = {it["name"]: it["job"] for it in records}
    [teacher] = (name for name in numbers if "teacher" in name)
    saved = runs / teacher / "checkpoints" / "last.ckpt"
    wait(saved.is_file, 300, "the teacher does not begin")
    cluster("scontrol", "requeue", numbers[teacher])
    for number in numbers.values():
        cluster.wait_for(number, "COMPLETED", seconds=500)
    log = (runs / "logs" / f"{teacher}.log").read_text()
    assert log.count("resuming") == 1
    for name in numbers:
        found = [json.loads((it / name / "metrics.json").read_text()) for it in (whole, runs)]
        assert found[0]["metrics"] == found[1]["metrics"]
