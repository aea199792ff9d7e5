"""The script of `--export sbatch`, run as SLURM runs its elements."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from few_cells import BOTH, FAKE, RGB, ROOT, TEACHER, VANILLA, Table
from test_runner import wait_for
from test_slurm import options

from tokd_lightning.files import take_lock
from tokd_lightning.schedule.export import export_sbatch
from tokd_lightning.schedule.plan import make_plan

EXPORT = ("--export", "sbatch")


@pytest.fixture
def run(table: Table, monkeypatch: pytest.MonkeyPatch):
    """Runs an element of a script with the fake tokd on the PATH."""
    programs = table.folder / "bin"
    programs.mkdir()
    (programs / "tokd").write_text(f'#!/bin/bash\nexec {sys.executable} {FAKE} "$@"\n')
    (programs / "tokd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def element(script: Path, number: object = None) -> subprocess.CompletedProcess[str]:
        one = {} if number is None else {"SLURM_ARRAY_TASK_ID": str(number)}
        return subprocess.run(
            ["bash", str(script)], env=os.environ | one, capture_output=True, text=True, timeout=60
        )

    return element


def cases(script: Path) -> dict[int, list[list[str]]]:
    """The commands of each element."""
    found = re.findall(r"^  (\d+)\) #[^\n]*\n(.*?)^    ;;", script.read_text(), re.M | re.S)
    return {int(n): [_command(line) for line in body.splitlines()] for n, body in found}


def _command(line: str) -> list[str]:
    """A line without what runs it, and what it is run unless."""
    words = shlex.split(line)
    words = words[words.index("||") + 1 :] if "||" in words else words
    return words[words[0] == "run" :]


def test_the_commands_are_those_that_a_dry_run_lists(
    table: Table, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla,tokd", "--dry-run", "--commands") == 0
    listed = re.findall(r"^  (tokd fit .*)$", capsys.readouterr().out, re.MULTILINE)
    assert table("vanilla,tokd", *EXPORT) == 0
    script = table.runs / "table3.sbatch"
    names = (TEACHER, VANILLA, RGB, BOTH)
    locks = [[str(table.runs / ".locks" / it), it] for it in names]
    for number, (lock, fit, test) in cases(script).items():
        expected = [*shlex.split(listed[number]), "--log", "none"]
        assert fit == [*expected, "--reuse"]
        assert test == ["tokd", "test", *expected[2:]]
        assert lock == ["work_on", *locks[number]]
    assert len(cases(script)) == len(listed) == 4
    launch = capsys.readouterr().out.splitlines()[-1]
    assert launch in script.read_text()
    assert "--export=ALL --array=0-0%8 " in launch
    assert '--dependency=afterok:"${T%%;*}" --kill-on-invalid-dep=yes --array=1-3%8 ' in launch
    assert launch.count("sbatch --") == launch.count("--export=ALL") == 2


def test_every_element_does_its_cell_and_doing_it_again_is_harmless(table: Table, run):
    assert table("tokd", *EXPORT, "--branches", "rgb") == 0
    script = table.runs / "table3.sbatch"
    assert [run(script, number).returncode for number in (0, 1, 1)] == [0, 0, 0]
    done = [f"{stage} {it}" for it in (TEACHER, RGB) for stage in ("fit", "test")]
    assert table.events() == [*done, f"fit {RGB} reused"]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("number", ["TERM", "USR1"])
def test_a_signal_is_handed_on_and_the_time_limit_alone_requeues(table: Table, run, number: str):
    assert table("vanilla", *EXPORT) == 0
    table.happens({f"fit {VANILLA}": "wait"})
    said = table.folder / "bin" / "scontrol"
    said.write_text(f'#!/bin/bash\necho "$@" >>{table.folder}/scontrol\n')
    said.chmod(0o755)
    one = os.environ | {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    script = table.runs / "table3.sbatch"
    for restart, again in ((0, True), (20, False)):
        shutil.rmtree(table.runs / VANILLA, ignore_errors=True)
        (table.folder / "pids").unlink(missing_ok=True)
        element = subprocess.Popen(
            ["bash", str(script)], env=one | {"SLURM_RESTART_COUNT": str(restart)}
        )
        wait_for(table.folder / "pids", 2)
        element.send_signal(getattr(signal, f"SIG{number}"))
        assert element.wait(60) == 143
        assert table.events() == [f"fit {VANILLA}", f"fit {VANILLA} stopped"]
        told = (table.folder / "scontrol").read_text().splitlines()
        assert told[0] == f"update JobId=7_0 JobName={VANILLA}"
        assert told[1:] == (["requeue 7_0"] if again and number == "USR1" else [])
        (table.folder / "scontrol").unlink()


def test_a_failed_fit_is_not_tested_and_fails_its_element(table: Table, run):
    assert table("vanilla", *EXPORT) == 0
    table.happens({f"fit {VANILLA}": "fail"})
    assert run(table.runs / "table3.sbatch", 0).returncode == 1
    assert table.events() == [f"fit {VANILLA} fails"]


@pytest.mark.parametrize("number", [None, 1, -1, "x", "a[$(touch hacked)]", "01"])
def test_an_element_that_is_none_is_refused(table: Table, run, number: object):
    assert table("vanilla", *EXPORT) == 0
    answer = run(table.runs / "table3.sbatch", number)
    assert answer.returncode != 0
    assert "SLURM_ARRAY_TASK_ID" in answer.stderr or "there are elements 0 to 0" in answer.stderr
    assert table.events() == []


def test_an_element_waits_for_another_tokd_at_its_run(table: Table, run):
    assert table("vanilla", *EXPORT) == 0
    lock = take_lock(table.runs / ".locks" / VANILLA)
    assert lock is not None
    script = table.runs / "table3.sbatch"
    one = os.environ | {"SLURM_ARRAY_TASK_ID": "0"}
    element = subprocess.Popen(["bash", str(script)], env=one, stdout=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        element.wait(1)
    assert table.events() == []
    os.close(lock)
    assert element.wait(30) == 0
    assert table.events() == [f"fit {VANILLA}", f"test {VANILLA}"]


def test_what_is_done_is_left_out_and_nothing_left_is_said(
    table: Table, run, capsys: pytest.CaptureFixture[str]
):
    assert table("vanilla,tokd", *EXPORT) == 0
    for number in (0, 1):
        assert run(table.runs / "table3.sbatch", number).returncode == 0
    out = table.folder / "the rest.sbatch"
    capsys.readouterr()
    assert table("vanilla,tokd", *EXPORT, "--out", str(out)) == 0
    assert [lock for lock, *_ in cases(out).values()] == [
        ["work_on", str(table.runs / ".locks" / it), it] for it in (RGB, BOTH)
    ]
    assert capsys.readouterr().out.splitlines()[-1] == f"sbatch --export=ALL '{out}'"
    assert table("vanilla", *EXPORT) == 2
    assert capsys.readouterr().err == "tokd: there is nothing left to do\n"
    assert table("vanilla", *EXPORT, "--rerun") == 2
    assert "--export takes no --rerun" in capsys.readouterr().err


def test_the_script_is_clean_bash_with_the_options_asked_for(table: Table, run):
    runs = table.folder / "my $runs' %"
    asked = ["partition=gpu", "time=1-00:00:00", "gres=gpu:a100:1", "array_parallelism=3"]
    setup = ['setup=echo "loading $UNSET" >&2', "setup=true"]
    where = ["--runs", str(runs), "--slurm", *asked, *setup]
    assert table("vanilla,tokd", *EXPORT, *where) == 0
    script = runs / "table3.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, "--exclude=SC2016", str(script)], check=True)
    lines = options(script)
    assert lines.pop("output").endswith("%%/logs/table3_%A_%a.out")
    assert lines == {
        **{"job-name": "table3", "time": "1440", "partition": "gpu", "gres": "gpu:a100:1"},
        **{"array": "0-3%3", "ntasks": "1", "requeue": "", "open-mode": "append"},
        "signal": "B:USR1@120",
    }
    assert (runs / "logs").is_dir()
    assert "loading" in run(script, 0).stderr
    assert (runs / ".locks" / TEACHER).is_file()


def test_a_table_on_other_data_evaluates_what_it_has_tested(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = make_plan("table7", runs=tmp_path / "runs", log="none")
    tested = [cell.name for cell in plan.cells if cell.role != "teacher"]
    assert export_sbatch(plan, []) == 0
    made = cases(tmp_path / "runs" / "table7.sbatch")
    evaluated = [commands[-1][2] for commands in made.values() if commands[-1][1] == "evaluate"]
    assert sorted(evaluated) == sorted(str(tmp_path / "runs" / name) for name in tested)
    assert len(evaluated) > 1


def test_an_element_is_a_cohort(table: Table, run):
    more = ("--cohort", "16")
    assert table("vanilla,tokd", *EXPORT, *more) == 0
    script = table.runs / "table3.sbatch"
    (teacher, *_), (*locks, fit) = cases(script).values()
    assert teacher[1:] == [str(table.runs / ".locks" / TEACHER), TEACHER]
    names = (VANILLA, RGB, BOTH)
    assert [it[1] for it in locks] == [str(table.runs / ".locks" / it) for it in names]
    assert fit[:5] == ["tokd", "fit", "--test", "--logs", str(table.runs / "logs")]
    assert fit.count("--also") == 2
    assert fit.count("--reuse") == 3
    assert "1 teachers and 3 students" in script.read_text()
    assert "--array=1-1%8 " in script.read_text()
    for number in (0, 1, 1):
        assert run(script, number).returncode == 0
    said = [it for it in table.events() if it.startswith("test")]
    assert said[:4] == [f"test {it}" for it in (TEACHER, *names)]
    assert table("vanilla,tokd", *EXPORT, *more) == 2
