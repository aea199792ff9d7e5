"""Whatever is wrong with a command line or a file that it names: one line, exit code 2.

No traceback, no hang, nothing half-written. `forked` runs each in a process of its own; the few of
the default suite run in this one, and stop where training or scoring would begin.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import VALID, copy_of, inside, make_place, mutate, wrong_with

from tokd_lightning.cli import main
from tokd_lightning.training.cli import TokdCLI

FEW = 33
MANY = 2000
PARTS = 10
LIMIT = 120
QUICK = ["verify", "fit", "show", "methods", "verify list", "report", "table", "figure",
         "test", "dashboard", "compare"]  # fmt: skip


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A folder with all that the command lines name, but for an exported student."""
    place = tmp_path_factory.mktemp("place")
    make_place(place)
    shutil.copytree(trained, place / "run")
    return place


@pytest.mark.parametrize("verb", QUICK)
def test_a_mistake_is_one_line_and_leaves_nothing(verb, place, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(TokdCLI, "_run_subcommand", lambda *_: None)
    for number in range(FEW // len(QUICK)):
        case = mutate(random.Random(f"{verb} {number}"), verb, place)
        before = copy_of(place, case, tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        capfd.readouterr()
        try:
            code = main(case.args)
        except SystemExit as end:  # --help
            code = end.code
        wrong = wrong_with(case, code, capfd.readouterr().err, inside(Path.cwd()) - before)
        assert wrong is None, (case.what, case.args)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The same folder with an exported student, and what runs a command line in a process."""
    place = tmp_path_factory.mktemp("driven") / "place"
    place.mkdir()
    make_place(place)
    quiet = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "HOME": str(place.parent)}
    command = [sys.executable, str(Path(__file__).with_name("forked.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **quiet}, **pipes) as running:

        def run(args, cwd):
            case = {"args": args, "cwd": str(cwd), "limit": LIMIT}
            running.stdin.write(json.dumps(case) + "\n")
            running.stdin.flush()
            return json.loads(running.stdout.readline())

        for args in ([*VALID["fit"], "--name=run"], ["test", "--config=runs/run/fit.yaml"]):
            assert run(args, place)["code"] == 0
        shutil.move(place / "runs" / "run", place / "run")
        (place / "runs").rmdir()
        assert run(VALID["export"], place)["code"] == 0
        yield place, run
        running.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_mistakes_are_one_line_each(part, driver, tmp_path):
    (place, run), here, verbs = driver, tmp_path / "here", list(VALID)
    failed = []
    for number in range(part * MANY // PARTS, (part + 1) * MANY // PARTS):
        verb = verbs[number % len(verbs)]
        case = mutate(random.Random(number), verb, place)
        before = copy_of(place, case, here)
        ended = run(case.args, here)
        left = inside(here) - before
        if wrong := wrong_with(case, ended["code"], ended["said"], left):
            failed.append((number, case.what, case.args, wrong))
    assert not failed
