"""The plain installation: what works in an environment that has no more, and what is named."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from small_environment import build_wheel, make
from test_detect import as_json

from tokd_lightning.commands import VERBS
from tokd_lightning.extras import EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {
    "opencv-python-headless": "cv2", "huggingface-hub": "huggingface_hub",
    "wandb-workspaces": "wandb_workspaces", "torch-dct": "torch_dct", "dlib-bin": "dlib",
    "face-recognition-models": "face_recognition_models", "mlflow-skinny": "mlflow",
}  # fmt: skip
DEVELOPMENT = {"dev", "docs"}
WORKS = {"detect", "init"}


def test_every_optional_package_is_named_with_its_extra():
    named = {}
    for extra, packages in PROJECT["optional-dependencies"].items():
        for package in packages if extra not in DEVELOPMENT else ():
            name = re.split(r"[\[<>=]", package)[0]
            if name != "tokd-lightning":
                named[MODULES.get(name, name)] = extra
    assert named == EXTRAS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def tokd(wheel, tmp_path_factory):
    return make(tmp_path_factory.mktemp("small") / "env", wheel)


def ran(tokd, *command, cwd, code=0, **given):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    words = [str(tokd), *map(str, command)]
    done = subprocess.run(words, capture_output=True, cwd=cwd, env=environment, **given)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
def test_the_plain_installation_scores_as_the_whole_one(tokd, model, mixed, tmp_path, capsys):
    python = tokd.with_name("python")
    barred = ("torch", "cv2", "pandas", "matplotlib")
    code = f"import importlib.util as u; print([n for n in {barred} if u.find_spec(n)])"
    assert ran(python, "-c", code, cwd=tmp_path)[0] == "[]\n"
    given = [model, mixed, "--json", "--faces", "all"]
    small = json.loads(ran(tokd, "detect", *given, "--annotate", "drawn", cwd=tmp_path)[0])
    capsys.readouterr()
    whole = as_json(capsys, *given)
    assert len(small["files"]) == len(whole["files"]) == 9
    for one, other in zip(small["files"], whole["files"], strict=True):
        assert [f["box"] for f in one["frames"]] == [f["box"] for f in other["frames"]]
        assert one["p_fake"] == pytest.approx(other["p_fake"], abs=1e-9)
    assert len(list((tmp_path / "drawn").iterdir())) == 11
    piped = (mixed / "dark.png").read_bytes()
    assert '"scored"' in ran(tokd, "detect", model, "-", "--json", cwd=tmp_path, input=piped)[0]


@pytest.mark.slow
def test_every_verb_names_what_it_lacks_in_one_line(tokd, model, run, data, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / run.name)
    name = tmp_path / "runs" / run.name
    config = ["--config", ROOT / "experiments/demo_vanilla.yaml"]
    given = {
        **{verb: [*config, "--data.root", data] for verb in ("fit", "validate", "test", "predict")},
        "prepare": ["folder", data, "--out", tmp_path / "faces"],
        "verify": [data],
        "show": [data, "--out", tmp_path / "sheet.png"],
        "demo": ["--out", tmp_path / "demo"],
        "evaluate": [name, "--on", f"own-c23:{data}"],
        "explain": [name],
        "export": [name, "--out", tmp_path / "model"],
        "table": ["3", "--dataset", "demo", "--data", data],
        "figure": ["3"],
        "report": [],
        "compare": [name, name],
        "tour": [],
        "methods": [],
        "dashboard": ["--dry-run"],
        "inputs": [*config, "--data.root", data],
        "probe": ["--out", tmp_path / "p.json", *config],
        "push": [model, "me/model"],
        "pull": ["me/model"],
        "landmarks": [data],
        "audit": [data],
        "detectors": [],
    }
    assert set(given) | WORKS == set(VERBS), "say what a new verb needs"
    before = sorted(path.name for path in tmp_path.iterdir())
    for verb, words in given.items():
        _, said = ran(tokd, verb, *words, cwd=tmp_path, code=2)
        found = re.fullmatch(r'tokd: .*pip install "tokd-lightning\[(\w+)\]".*\n', said)
        assert found, (verb, said)
        others = {"push": "hub", "pull": "hub", "prepare": "faces", "demo": "faces"}
        assert found[1] == others.get(verb, "train"), (verb, said)
        ran(tokd, verb, "--help", cwd=tmp_path)
    after = sorted(path.name for path in tmp_path.iterdir())
    assert set(after) - set(before) <= {".cache"}
    assert ran(tokd, "detect", "--help", cwd=tmp_path)[0].startswith("usage")
