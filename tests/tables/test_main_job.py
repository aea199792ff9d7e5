import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tokd_lightning.demo import make_demo
from tokd_lightning.errors import TokdError
from tokd_lightning.schedule import runner
from tokd_lightning.schedule import tour as demo

FAKE = Path(__file__).with_name("fake_tokd.py")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with experiments in it and a tokd that takes no time; its calls."""
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    for name in ("teacher", "vanilla", "tokd"):
        Path(f"experiments/demo_{name}.yaml").write_text("")
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_FAILURE", "")
    monkeypatch.setattr(
        demo, "tokd", lambda *args: [sys.executable, "-S", str(FAKE), *map(str, args)]
    )
    monkeypatch.setattr(runner, "_POLL", 0.02)
    return tmp_path / "calls"


def commands(calls: Path) -> list[str]:
    """What was done, in short: ``fit demo_tokd.yaml c23 0 rgb``."""
    lines = []
    for line in calls.read_text().splitlines():
        command, *args = json.loads(line)
        keys = ("--config", "--data.quality", "--seed_everything", "--model.distiller.branches")
        values = [args[args.index(key) + 1] for key in keys if key in args]
        lines.append(" ".join([command, *values]).replace("experiments/demo_", ""))
    calls.unlink()
    return lines


@pytest.mark.slow
def test_the_main_job_runs_from_data_to_table(calls: Path, capsys: pytest.CaptureFixture[str]):
    assert demo.run_demo(Path("data"), Path("runs")) == 0
    done = commands(calls)
    assert done[0] == "demo"
    assert set(done[1:3]) == {"fit teacher.yaml c23 0", "fit vanilla.yaml c23 0"}
    assert sorted(done) == sorted(
        ["demo"]
        + [
            f"{stage} {network}"
            for stage in ("fit", "test")
            for network in (
                *("teacher.yaml c23 0", "vanilla.yaml c23 0"),
                *("tokd.yaml c23 0", "tokd.yaml c23 0 rgb"),
            )
        ]
    )
    assert done.index("test teacher.yaml c23 0") < done.index("fit tokd.yaml c23 0")
    shown = capsys.readouterr().out
    for text in (
        *("Teacher", "Vanilla", "TOKD rgb", "TOKD both", "Majority class", "synthetic mini-FF++"),
        *("runs/synthetic-c23_teacher-both_s0\n", "runs/compare/curves.png\n"),
        *("runs/compare/gradients.png\n", "runs/compare/compare.md\n", "runs/logs"),
    ):
        assert text in shown
    assert Path("runs/compare/curves.png").is_file()


@pytest.mark.slow
def test_a_second_time_what_is_finished_is_reused(calls: Path, capsys: pytest.CaptureFixture[str]):
    demo.run_demo(Path("data"), Path("runs"))
    first = commands(calls)
    capsys.readouterr()
    demo.run_demo(Path("data"), Path("runs"))
    again = commands(calls)
    assert sorted(again) == sorted(line for line in first if not line.startswith("test"))
    assert capsys.readouterr().out.count("finished, reused") == 4


@pytest.mark.slow
def test_each_student_learns_from_the_teacher_of_its_own_quality_and_seed(calls: Path):
    demo.run_demo(Path("data"), Path("runs"), ["c23", "c40"], [0, 1, 1], workers=4)
    fits = [json.loads(line) for line in calls.read_text().splitlines()]
    fits = [args for args in fits if args[0] == "fit"]
    assert len(fits) == 16
    for args in fits:
        option = dict(zip(args[1::2], args[2::2], strict=False))
        assert option["--data.root"] == "data"
        if "tokd" in option["--config"]:
            cell = f"{option['--data.quality']}_teacher-both_s{option['--seed_everything']}"
            assert option["--model.teacher"] == f"runs/synthetic-{cell}/checkpoints/best.ckpt"
        else:
            assert "--model.teacher" not in option
    rows = json.loads(Path("runs/compare/compare.json").read_text())["rows"]
    assert len(rows) == 16 + 2


@pytest.mark.slow
def test_a_failed_stage_is_one_line_and_what_is_finished_stays(
    calls: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_FAILURE", "test demo_teacher.yaml")
    message = r"^teacher c23 s0 failed with exit code 1: tokd: out of luck \(log: .*/logs/.*"
    with pytest.raises(TokdError, match=message):
        demo.run_demo(Path("data"), Path("runs"))
    assert not any("tokd.yaml" in line for line in commands(calls))
    monkeypatch.setenv("FAKE_FAILURE", "")
    assert demo.run_demo(Path("data"), Path("runs")) == 0
    again = commands(calls)
    assert "test teacher.yaml c23 0" in again
    assert "test vanilla.yaml c23 0" not in again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers must be at least 1"),
        ({"quality": ["c23", "raw"]}, "quality raw"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    calls: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
):
    monkeypatch.delattr(runner, "_advance")  # rather than wait for no worker
    with pytest.raises(TokdError, match=message):
        demo.run_demo(Path("data"), Path("runs"), **options)
    assert not calls.exists()
    assert not Path("data").exists()
    assert not Path("runs").exists()


def test_the_qualities_to_train_on_are_those_that_the_demo_makes():
    made = inspect.signature(make_demo).parameters["quality"].default
    assert made == demo._QUALITIES


def test_the_names_of_the_demos_runs_and_files_are_those_of_the_repository():
    root = Path(__file__).parents[2]
    for experiment in demo._ALL:
        assert (root / "experiments" / experiment.file).is_file()
    teacher = demo._TEACHER.name("c23", 0)
    assert (
        f"runs/{teacher}/checkpoints/best.ckpt"
        in (root / "experiments" / "demo_tokd.yaml").read_text()
    )
