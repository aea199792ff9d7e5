"""`tokd table`: every cell once, in order, skipped where done, and what differs by name."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from test_experiments import ROOT

from tokd_lightning import cli
from tokd_lightning.runs.identity import recipe_hash
from tokd_lightning.schedule import estimate, plan, runner
from tokd_lightning.schedule.cohorts import in_cohorts
from tokd_lightning.schedule.jobs import Job
from tokd_lightning.schedule.plan import Plan, jobs_of, look, make_plan
from tokd_lightning.schedule.reproduce import dry_run, reproduce
from tokd_lightning.schedule.reproduce import estimate as time_batches
from tokd_lightning.tables.state import Looker

FAKE = Path(__file__).with_name("fake_cells.py")
TEACHER = "synthetic-c40_teacher-both_s0"
VANILLA = "synthetic-c40_resnet18_thin_vanilla-none_s0"
RGB, BOTH = (f"synthetic-c40_resnet18_thin_at-{b}_s0" for b in ("rgb", "both"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a data set and a tokd that takes no time; `calls` says what it was asked."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FAKE_PLACE", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(plan, "visible_gpus", lambda: [])
    for module in (plan, estimate):
        monkeypatch.setattr(module, "tokd", lambda *a: [sys.executable, str(FAKE), *map(str, a)])
    monkeypatch.setattr(runner, "_POLL", 0.02)
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data").rmdir()
    (tmp_path / "demo").mkdir()
    return tmp_path


def planned(place: Path, key="table3", **asked) -> Plan:
    given = {"dataset": ["demo"], "data": [str(place / "demo")], "method": ["vanilla", "at"]}
    made = make_plan(key, **(given | {"runs": place / "runs", "log": "none"} | asked))
    known = {}
    for cell in made.cells:
        for runs in (place / "runs", place / "runs" / ".probes"):
            arguments = cell.arguments(made.roots[cell.data], runs)
            known[json.dumps([a for a in arguments if a != str(runs)])] = cell.name
    (place / "cells.json").write_text(json.dumps(known))
    return made


def go(made: Plan, workers=2) -> tuple[int, str]:
    text = io.StringIO()
    code = reproduce(made, workers, Console(file=text, width=500))
    return code, text.getvalue()


def calls(place: Path) -> list[str]:
    path = place / "calls"
    lines = [line.strip() for line in path.read_text().splitlines()] if path.is_file() else []
    path.unlink(missing_ok=True)
    return lines


def kinds(made: Plan) -> dict[str, str]:
    return {name: str(state) for name, state in look(made).items()}


def test_every_cell_is_fitted_and_tested_once_after_its_teacher(place):
    made = planned(place)
    code, said = go(made)
    done = calls(place)
    ends = [line for line in done if line.startswith("end")]
    assert code == 0
    assert sorted(ends) == sorted(
        f"end {what} {n}" for n in (TEACHER, VANILLA, RGB, BOTH) for what in ("fit", "test")
    )
    assert max(done.index(f"end test {TEACHER}"), 0) < done.index(f"fit {RGB} --reuse table3")
    assert "0 of 4 runs need nothing, 4 to go" in said
    assert set(kinds(made).values()) == {"done"}

    code, said = go(made)
    assert (code, calls(place)) == (0, [])
    assert "4 of 4 runs need nothing" in said


def test_a_cell_with_lists_among_its_options_is_done(place):
    settings = ["data.augmentation=[]", "data.methods=[Deepfakes, FaceSwap]"]
    made = planned(place, method=["vanilla"], settings=settings)
    code, said = go(made)
    assert (code, list(kinds(made).values())) == (0, ["done"]), said


@pytest.mark.slow
def test_a_failure_is_named_and_passed_over_and_the_same_command_goes_on(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {RGB}\ntest {VANILLA}\n")
    code, said = go(made)
    assert code == 2
    lines = said.splitlines()
    assert any(f"{RGB} failed with exit code 1: tokd: out of luck (log: " in line for line in lines)
    assert lines[-1] == "2 failed; the same command continues from here"
    assert kinds(made) == {
        TEACHER: "done", VANILLA: "not tested", RGB: "not run", BOTH: "done",
    }  # fmt: skip
    calls(place)
    (place / "fail").unlink()
    assert go(made)[0] == 0
    assert [line for line in calls(place) if line.startswith("end")] == sorted(
        [f"end fit {RGB}", f"end test {RGB}", f"end test {VANILLA}"]
    ) or set(kinds(made).values()) == {"done"}


def test_a_failed_teacher_leaves_its_students_and_vanilla_runs(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {TEACHER}\n")
    code, said = go(made)
    assert code == 2
    assert said.splitlines()[-1] == "1 failed, 2 not started; the same command continues from here"
    assert kinds(made)[VANILLA] == "done"
    assert not any(RGB in line for line in calls(place))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("what", ["data", "configuration", "code", "teacher"])
def test_what_a_cell_was_made_from_is_compared_and_made_again_only_when_asked(
    place, what, monkeypatch
):
    made = planned(place, method=["at"], branches=["rgb"])
    assert go(made)[0] == 0
    calls(place)
    results = place / "runs" / RGB / "metrics.json"
    if what == "data":
        (place / "data").write_text("other frames")
    elif what == "teacher":
        teacher = place / "runs" / TEACHER / "metrics.json"
        teacher.write_text(teacher.read_text().replace("weights of", "other weights of"))
    else:
        key = {"configuration": "recipe", "code": "source"}[what]
        document = json.loads(results.read_text())
        document["hashes"][key] = "another"
        results.write_text(json.dumps(document))
    assert kinds(made)[RGB] == f"stale ({what})"
    assert kinds(made)[TEACHER] == ("stale (data)" if what == "data" else "done")

    before = results.read_text()
    code, said = go(made)
    assert code == 0
    assert f"{RGB}: stale ({what}); kept, --rerun sets it aside and makes it again" in said
    counted = "0 of 2 runs need nothing; 2 stale: --rerun sets them aside"
    if what != "data":
        counted = "1 of 2 runs need nothing; 1 stale: --rerun sets it aside"
    assert counted in said
    assert calls(place) == []
    assert results.read_text() == before

    again = planned(place, method=["at"], branches=["rgb"], rerun=True)
    assert go(again)[0] == 0
    assert f"fit {RGB} --rerun table3" in calls(place)
    if what != "teacher":
        assert set(kinds(again).values()) == {"done"}


def test_a_student_of_a_teacher_that_is_not_the_table_s_is_stale_though_that_one_is_missing(place):
    made = planned(place, method=["at"], branches=["rgb"])
    assert go(made)[0] == 0
    (place / "runs" / TEACHER / "metrics.json").unlink()
    results = place / "runs" / RGB / "metrics.json"
    document = json.loads(results.read_text())
    for recipe, state in ((recipe_hash(made.cells[0].arguments()), "done"), ("toy", "stale")):
        document["hashes"]["teacher_recipe"] = recipe
        results.write_text(json.dumps(document))
        assert kinds(made)[RGB].startswith(state)


def test_splits_that_were_exchanged_are_named(place):
    made = planned(place, method=["vanilla"])
    assert go(made)[0] == 0
    cell = made.cells[-1]
    rows = {"files": "f", "paths": "p", "splits": "s"}
    results = place / "runs" / cell.name / "metrics.json"
    document = json.loads(results.read_text())
    document["hashes"] |= {"data": "w", "rows": rows}
    results.write_text(json.dumps(document))
    for now, kind in (
        ({"data": "w", "rows": rows}, "done"),
        ({"data": "v", "rows": rows | {"splits": "t"}}, "stale (data: other splits)"),
    ):
        assert str(Looker(place / "runs", {cell.data: now})(cell)) == kind


@pytest.mark.slow
def test_an_interrupted_fit_of_the_same_configuration_is_resumed_and_another_is_stale(place):
    made = planned(place, method=["vanilla"])
    assert go(made)[0] == 0
    (place / "runs" / VANILLA / "metrics.json").unlink()
    assert kinds(made)[VANILLA] == "interrupted"
    calls(place)
    assert go(made)[0] == 0
    assert f"fit {VANILLA} --reuse table3" in calls(place)

    (place / "runs" / VANILLA / "metrics.json").unlink()
    begun = place / "runs" / VANILLA / "inputs.json"
    begun.write_text(begun.read_text().replace('"recipe": "', '"recipe": "0'))
    assert kinds(made)[VANILLA] == "stale (configuration)"


@pytest.mark.slow
def test_a_corrupt_metrics_file_is_one_line_and_the_rest_goes_on(place):
    made = planned(place)
    assert go(made)[0] == 0
    (place / "runs" / VANILLA / "metrics.json").write_text("{")
    (place / "runs" / BOTH / "metrics.json").write_text("[]")
    (place / "runs" / RGB / "metrics.json").unlink()
    calls(place)
    code, said = go(made)
    assert code == 0
    assert f"{VANILLA}: unreadable" in said
    assert "metrics.json cannot be read: remove it, or fit with --rerun" in said
    assert f"{BOTH}: unreadable" in said
    assert [line for line in calls(place) if line.startswith("end")] == [
        f"end fit {RGB}", f"end test {RGB}",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_teacher_made_from_other_data_serves_nobody(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {RGB}\nfit {BOTH}\n")
    go(made)
    (place / "fail").unlink()
    (place / "data").write_text("other frames")
    code, said = go(made)
    assert code == 2
    assert f"{RGB}: not started, its teacher {TEACHER} is stale (data)" in said


@pytest.mark.slow
def test_a_teacher_made_by_other_code_serves(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {RGB}\n")
    go(made)
    (place / "fail").unlink()
    path = place / "runs" / TEACHER / "metrics.json"
    document = json.loads(path.read_text())
    document["hashes"]["source"] = "another"
    path.write_text(json.dumps(document))
    code, said = go(made)
    assert code == 0
    assert f"{TEACHER}: stale (code); kept" in said
    assert kinds(made)[RGB] == "done"


@pytest.mark.slow
def test_a_teacher_without_its_checkpoint_is_one_line_and_rerun_makes_it_anew(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {RGB}\n")
    go(made)
    (place / "fail").unlink()
    best = place / "runs" / TEACHER / "checkpoints" / "best.ckpt"
    best.unlink()
    (place / "runs" / VANILLA / "checkpoints" / "best.ckpt").unlink()
    code, said = go(made)
    assert code == 2
    assert f"{RGB}: not started, its teacher {TEACHER} is unreadable ({best} is missing" in said
    assert kinds(made)[VANILLA] == "done"  # nobody needs it
    assert go(planned(place, rerun=True))[0] == 0
    assert best.is_file()
    assert set(kinds(made).values()) == {"done"}


@pytest.mark.slow
def test_the_page_of_a_table_flags_what_was_made_from_other_data(place):
    made = planned(place)
    assert go(made)[0] == 0
    (place / "data").write_text("other frames")
    code, said = go(made)
    assert code == 0
    assert "0 of 13 cells done; 10 not run, 3 stale" in said


@pytest.mark.slow
def test_a_page_that_cannot_be_written_hides_no_failure(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {RGB}\n")
    (place / "runs").mkdir()
    (place / "runs" / "report").write_text("a file where the pages should lie")
    code, said = go(made)
    assert code == 2
    [line] = [line for line in said.splitlines() if "the page of table3 was not made" in line]
    assert "cannot be written" in line
    assert f"{RGB} failed with exit code 1: tokd: out of luck" in said
    assert "1 failed; the same command continues from here" in said
    (place / "fail").unlink()
    assert go(made)[0] == 2
    assert kinds(made)[RGB] == "done"


@pytest.mark.slow
def test_two_runners_share_the_cells_and_do_none_twice(place):
    (place / "seconds").write_text("0.3")
    made = planned(place, seeds=3)
    command = (
        "import sys, json; from pathlib import Path\n"
        "from tokd_lightning.schedule import plan, runner; runner._POLL = 0.02\n"
        f"plan.tokd = lambda *a: [sys.executable, {str(FAKE)!r}, *map(str, a)]\n"
        "plan.visible_gpus = lambda: []\n"
        "from tokd_lightning.schedule.reproduce import reproduce\n"
        "made = plan.make_plan('table3', dataset=['demo'], method=['vanilla', 'at'], seeds=3,\n"
        f"    data=[{str(place / 'demo')!r}], runs=Path({str(place / 'runs')!r}), log='none')\n"
        "sys.exit(reproduce(made, 2))"
    )
    both = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    ends = [line for line in calls(place) if line.startswith("end")]
    assert len(ends) == len(set(ends)) == 2 * len(made.cells)


@pytest.mark.slow
def test_a_fit_that_outlives_its_killed_runner_is_waited_for(place):
    made = planned(place, method=["vanilla"])
    (place / "seconds").write_text("2")
    command = (
        "import sys; from pathlib import Path; from tokd_lightning.schedule import plan\n"
        f"plan.tokd = lambda *a: [sys.executable, {str(FAKE)!r}, *map(str, a)]\n"
        "plan.visible_gpus = lambda: []\n"
        "from tokd_lightning.schedule.reproduce import reproduce\n"
        "made = plan.make_plan('table3', dataset=['demo'], method=['vanilla'],\n"
        f"    data=[{str(place / 'demo')!r}], runs=Path({str(place / 'runs')!r}), log='none')\n"
        "reproduce(made, 1)"
    )
    killed = subprocess.Popen([sys.executable, "-c", command], start_new_session=True)
    deadline = time.monotonic() + 30
    while not (place / "calls").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    code, said = go(made)
    done = calls(place)
    assert code == 0
    assert "another tokd is at it" in said
    assert done.count(f"end fit {VANILLA}") == done.count(f"end test {VANILLA}") == 1


@pytest.mark.slow
def test_the_gpus_are_taken_in_turns(place, monkeypatch):
    from tokd_lightning.schedule import reproduce as module

    monkeypatch.setattr(module, "visible_gpus", lambda: ["3", "5"])
    (place / "seconds").write_text("0.3")
    assert go(planned(place, seeds=2), workers=None)[0] == 0
    given = [line.split()[-1] for line in calls(place) if line.startswith("fit")]
    assert set(given) == {"3", "5"}
    assert 2 <= given.count("3") <= len(given) - 2


def test_visible_gpus_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-ab")
    assert plan.visible_gpus() == ["2", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert plan.visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert plan.visible_gpus() == ["0", "1"]
    smi.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plan.visible_gpus() == []


def test_estimates_add_up(place):
    made = planned(place, seeds=3)
    text = io.StringIO()
    assert time_batches(made, 2, Console(file=text, width=500)) == 0
    assert sorted(calls(place)) == sorted(f"probe {n}" for n in (TEACHER, VANILLA, RGB, BOTH))
    # A teacher and three students of three seeds, an hour each, two at a time.
    expected = "0 of 10 runs need nothing, 10 to go: 5:00:00 with 2 at a time, up to 2.5 GiB each"
    assert expected in text.getvalue()
    text = io.StringIO()
    dry_run(made, 5, Console(file=text, width=500))
    assert "10 to go: 2:00:00 with 5 at a time" in text.getvalue()


@pytest.mark.slow
def test_table_7_evaluates_the_students_on_the_other_data_set(place):
    for name in ("ffpp", "celebdf"):
        (place / name).mkdir()
    data = [f"{name}={place / name}" for name in ("ffpp", "celebdf")]
    made = planned(place, "table7", dataset=[], data=data, method=[])
    assert go(made)[0] == 0
    done = calls(place)
    evaluated = [line for line in done if line.startswith("evaluate")]
    assert len(evaluated) == 2
    assert all(f"--on celebdf:{place / 'celebdf'}" in line for line in evaluated)
    assert all("_xception_" in line and "_s0-" in line for line in evaluated)
    assert not any("--update" in line for line in evaluated)
    assert go(planned(place, "table7", dataset=[], data=data, method=[], rerun=True))[0] == 0
    assert [line.endswith(" --update") for line in calls(place)] == [True, True]


def test_a_dry_run_lists_commands_that_run_as_they_are(place):
    text = io.StringIO()
    dry_run(planned(place), 2, Console(file=text, width=80), commands=True)
    lines = text.getvalue().splitlines()
    commands = [line.strip() for line in lines if line.startswith("  tokd fit")]
    assert len(commands) == 4
    assert commands[-1].endswith("--model.distiller configs/distillers/at.yaml")
    assert "mini-FF++ ResNet18-T AT RGB seed 0: not run" in lines
    assert not (place / "calls").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--dataset", "ff"], "--dataset ff: choose from ffpp, celebdf, demo"),
        (["--data", "/nowhere"], "--data /nowhere: say which one, celebdf or ffpp=DIR"),
        (["--dataset", "ffpp", "--data", "/nowhere"], "there is no FF++ at /nowhere"),
        (["--data", "x=/nowhere"], "choose from ffpp, celebdf, demo"),
        (["--set", "max_epochs=2"], "write KEY=VALUE with a key of trainer, data or model"),
        (
            ["--set", "data.quality=c23"],
            "--set data.quality=c23: that is set by the table's cells",
        ),
        (["--set", "model.distiller=x.yaml"], "that is set by the table's cells"),
        (["--set", "data.root=/nowhere"], "--set data.root=/nowhere: that is set by --data"),
        (["--set", "data.size=[1"], "--set data.size=[1: is not valid YAML"),
        (["--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_mistakes_are_one_line(asked, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    assert cli.main(["table", "3", "--runs", str(tmp_path), *asked]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_options_of_several_values_may_be_given_again(place, capsys):
    asked = ["--set", "data.size=64", "--set", "data.crop=48", "trainer.max_epochs=2"]
    folders = ["--data", f"ffpp={place}/a", "--data", f"celebdf={place}/b"]
    where = ["--runs", str(place / "runs"), "--method", "vanilla", "--student", "xception"]
    assert cli.main(["table", "3", "--dry-run", "--commands", *where, *asked, *folders]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "tokd fit" in line]
    assert all("--data.size 64 --data.crop 48 --trainer.max_epochs 2" in line for line in lines)
    roots = {line.split("--data.root ")[1].split()[0] for line in lines}
    assert roots == {f"{place}/a", f"{place}/b"}


def test_a_dry_run_of_table_3_needs_no_torch_and_no_data():
    code = (
        "import sys; from tokd_lightning.cli import main\n"
        "assert main(['table', '3', '--dry-run', '--commands', '--runs', '/nowhere']) == 0\n"
        "assert not {'torch', 'lightning', 'pandas', 'matplotlib', 'submitit'} & set(sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    commands = [line.strip() for line in answer.stdout.splitlines() if "tokd fit" in line]
    assert len(commands) == len(set(commands)) == 80
    assert "78 cells, 2 teachers" in answer.stdout


def test_a_report_needs_no_checkpoints(place):
    made = planned(place, method=["vanilla", "teacher"])
    assert go(made)[0] == 0
    for cell in made.cells:
        (place / "runs" / cell.name / "checkpoints" / "best.ckpt").unlink()
    looker = Looker(place / "runs", checkpoints=False)
    assert {str(looker(cell)) for cell in made.cells} == {"done"}


def test_cells_that_share_a_teacher_are_fitted_in_cohorts(place):
    made = planned(place, seeds=2, cohort=16)
    code, said = go(made, workers=1)
    assert code == 0, said
    done = calls(place)
    assert done.count("cohort") == 2  # one of each seed, as batches depend on it
    for cell in made.cells:
        assert done.count(f"end fit {cell.name}") == done.count(f"end test {cell.name}") == 1
    assert set(kinds(made).values()) == {"done"}
    assert "7 to go, 6 of them in 2 cohorts of 3 that share batches and teacher" in said
    assert f"{VANILLA} and 2 more: done" in said
    assert go(made)[0] == 0
    assert calls(place) == []


@pytest.mark.slow
def test_a_cohort_holds_what_is_left_of_it(place):
    made = planned(place)
    (place / "fail").write_text(f"fit {BOTH}")
    assert go(made)[0] == 2
    calls(place)
    (place / "fail").unlink()
    code, _ = go(planned(place, method=["vanilla", "at", "sp"], cohort=16), workers=1)
    assert code == 0
    done = calls(place)
    assert done[0] == "cohort"
    assert {line.split()[2] for line in done if line.startswith("end fit")} == {
        BOTH,
        *(f"synthetic-c40_resnet18_thin_sp-{it}_s0" for it in ("rgb", "both")),
    }


def job(name, expected=1.0, share="s", needs=()):
    return Job(name, [], Path("logs", f"{name}.log"), list(needs), expected=expected, share=share)


@pytest.mark.parametrize(
    ("number", "limit", "workers", "sizes"),
    [
        (13, 16, 1, [13]),
        (13, 16, 2, [6, 7]),
        (39, 16, 1, [13, 13, 13]),
        (13, 4, 1, [3, 3, 3, 4]),
        (3, 1, 2, [1, 1, 1]),
        (4, 16, 4, [1, 1, 1, 1]),
    ],
)
def test_cohorts_are_as_large_as_the_workers_let_them_be(number, limit, workers, sizes):
    jobs = [job(str(n)) for n in range(number)]
    made = in_cohorts(jobs, limit, workers)
    assert sorted(len(it.parts) or 1 for it in made) == sizes
    assert sorted(part.name for it in made for part in it.parts or [it]) == sorted(
        it.name for it in jobs
    )


def test_a_cohort_needs_what_its_cells_need_and_is_needed_in_their_place():
    jobs = [
        job("teacher", share=""),
        job("vanilla"),
        *(job(name, needs=["teacher"]) for name in ("a", "b")),
        job("a elsewhere", share="", needs=["a"]),
    ]
    made = {it.name: it for it in in_cohorts(jobs, 16, 1)}
    assert list(made) == ["teacher", "vanilla and 2 more", "a elsewhere"]
    assert made["vanilla and 2 more"].needs == ["teacher"]
    assert made["a elsewhere"].needs == ["vanilla and 2 more"]
    # With a second worker the student without a teacher does not wait for it.
    made = {it.name: it for it in in_cohorts(jobs, 16, 2)}
    assert made["vanilla"].needs == []


def test_a_cohort_is_expected_to_pay_the_teacher_once():
    jobs = [job("a", 10.0), job("b", 8.0)]
    [made] = in_cohorts(jobs, 16, 1, {"a": 6.0, "b": 6.0})
    assert made.expected == 6.0 + 4.0 + 2.0


def test_cells_of_several_processes_are_not_joined(place):
    (place / "runs").mkdir()
    made = planned(place, cohort=16, settings=["trainer.devices=2"])
    jobs, _ = jobs_of(made, Looker(made.runs), {})
    assert [it for it in in_cohorts(jobs, 16, 1) if it.parts] == []
    made = planned(place, cohort=16)
    jobs, _ = jobs_of(made, Looker(made.runs), {})
    assert [len(it.parts) for it in in_cohorts(jobs, 16, 1)] == [0, 3]
