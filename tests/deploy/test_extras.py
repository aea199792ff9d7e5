"""What works without any extra, in an environment that has none, and what is said of the rest."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_cli import SMALL, TINY_STUDENT, folder
from trees import make_ffpp

ROOT = Path(__file__).parents[2]
MODULES = {"opencv-python-headless": "cv2", "wandb-workspaces": "wandb_workspaces"}
# Extras of those who use the package; the others are for those who develop it.
USED = ("data", "deploy", "slurm", "dashboard", "tensorboard")
TABLE = ["table", "3", "--dataset", "demo"]
HIDING = """
import json, sys
from importlib.machinery import PathFinder
found, hidden = PathFinder.find_spec, set(sys.argv[1].split(","))
PathFinder.find_spec = staticmethod(
    lambda name, *where: None if name.split(".")[0] in hidden else found(name, *where)
)
from tokd_lightning.cli import main
print("codes", [main(command) for command in json.loads(sys.argv[2])])
"""


def packages():
    """Modules of the extras, by pyproject.toml."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(USED) <= set(declared["optional-dependencies"])
    names = [n for extra in USED for n in declared["optional-dependencies"][extra]]
    names = {re.split(r"[\[<>=]", name)[0] for name in names} - {"tokd-lightning"}
    return [MODULES.get(name, name) for name in sorted(names)]


def bare(*commands, cwd=ROOT):
    """Run commands in one process that can import nothing of the extras."""
    words = [[str(word) for word in command] for command in commands]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", HIDING, ",".join(packages()), json.dumps(words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=threads,
    )
    assert ran.returncode == 0, ran.stderr
    codes = json.loads(ran.stdout.splitlines()[-1].removeprefix("codes "))
    return codes, ran.stdout, ran.stderr


@pytest.mark.slow
def test_frames_are_verified_and_shown_and_a_student_exported(data, run, tmp_path):
    codes, _, said = bare(
        ["verify", data, "--quick"],
        ["show", data, "--out", tmp_path / "sheet.png"],
        ["export", run, "--format", "safetensors", "--out", tmp_path / "model"],
    )
    assert codes[1:] == [0, 0], said
    assert codes[0] in (0, 1)  # it may find something in a tree so small, but it looks
    assert (tmp_path / "sheet.png").is_file()
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_each_missing_extra_is_named_in_one_line(data, run, tmp_path):
    video = tmp_path / "videos" / "test" / "real" / "a.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"no matter")
    wanted = {
        "data": [
            ["demo", "--out", tmp_path / "demo"],
            ["prepare", "folder", tmp_path / "videos", "--out", tmp_path / "faces"],
            ["verify", tmp_path / "videos"],
        ],
        "deploy": [["export", run, "--format", "onnx", "--out", tmp_path / "model"]],
        "slurm": [[*TABLE, "--cluster", "slurm", "--data", data, "--runs", tmp_path / "runs"]],
        "dashboard": [["dashboard", run.parent, "--dry-run"]],
    }
    codes, _, said = bare(*(command for commands in wanted.values() for command in commands))
    assert codes == [2] * len(codes)
    lines = [line for line in said.splitlines() if line.startswith("tokd: ")]
    extras = [extra for extra, commands in wanted.items() for _ in commands]
    named = [re.search(r'pip install "tokd-lightning\[(\w+)\]"$', line) for line in lines]
    assert [match and match[1] for match in named] == extras, said
    assert "Traceback" not in said
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"videos"}


@pytest.mark.slow
def test_a_student_is_trained_and_tested(tmp_path):
    data, runs = make_ffpp(tmp_path / "data", size=64), tmp_path / "runs"
    given = ["--config", "experiments/demo_vanilla.yaml", "--data.root", data, "--runs", runs]
    given += [*SMALL, *TINY_STUDENT]
    codes, _, said = bare(["fit", *given], ["test", *given])
    assert codes == [0, 0], said
    assert (folder(runs, "vanilla") / "metrics.json").is_file()
