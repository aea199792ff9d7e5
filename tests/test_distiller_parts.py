"""configs/distillers: one part per method, to put in the place of an experiment's own."""

import inspect
from pathlib import Path

import pytest
import yaml
from test_experiments import ROOT, parse

from tokd_lightning import distillation
from tokd_lightning.distillation.catalogue import METHODS

PARTS = sorted((ROOT / "configs" / "distillers").glob("*.yaml"))
# Those that have a paper's values instead of the class's defaults.
PUBLISHED = {"add", "tokd_celebdf", "tokd_ffpp", "tokd_with_add"}
DEFAULTS = [part for part in PARTS if part.stem not in PUBLISHED]
ELSEWHERE = {"seed"}  # of random rotations: the run's own


def block(path: Path):
    return yaml.safe_load(path.read_text())


def test_every_method_has_a_part():
    assert {block(p)["class_path"] for p in PARTS} >= {m.__name__ for m in METHODS}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("path", DEFAULTS, ids=lambda p: p.stem)
def test_a_part_replaces_the_method_of_an_experiment(path, tmp_path):
    experiment = ROOT / "experiments" / "ffpp_res18t.yaml"
    run = parse("fit", "--config", experiment, "--runs", tmp_path, "--model.distiller", path)
    given = block(path)
    method = getattr(distillation, given["class_path"])
    found = run.resolved["model"]["init_args"]["distiller"]
    assert found["class_path"] == f"tokd_lightning.distillation.{given['class_path']}"
    assert given.get("init_args", {}).items() <= found.get("init_args", {}).items()
    branches = given.get("init_args", {}).get("branches", "none")
    assert run.run.folder.name.startswith(f"ffpp-c40_resnet18_thin_{method.method}-{branches}_s0")


@pytest.mark.parametrize("path", DEFAULTS, ids=lambda p: p.stem)
def test_a_part_leaves_nothing_to_the_experiment_that_it_is_put_in(path):
    # What a part does not say stays as another method's block had it, rotation: learned included.
    signature = inspect.signature(getattr(distillation, block(path)["class_path"]))
    options = {
        name: p.default for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    said = block(path).get("init_args", {})
    assert said.keys() == options.keys() - ELSEWHERE
    for name, value in said.items():
        assert (tuple(value) if isinstance(value, list) else value) == options[name]
