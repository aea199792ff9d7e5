from pathlib import Path

import pytest
import yaml

from tokd_lightning.training import TokdCLI

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
PARTS = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = {
    "demo_teacher": "synthetic-c23_teacher-both_s0",
    "demo_tokd": "synthetic-c23_resnet18_thin_tokd-both_s0",
    "demo_vanilla": "synthetic-c23_resnet18_thin_vanilla-none_s0",
    "ffpp_res18t": "ffpp-c40_resnet18_thin_tokd-both_s0",
    "ffpp_res34t": "ffpp-c40_resnet34_thin_tokd-both_s0",
    "ffpp_teacher": "ffpp-c40_teacher-both_s0",
    "ffpp_xception": "ffpp-c40_xception_tokd-both_s0",
}


class Parsed(TokdCLI):
    """Everything up to the point where networks would be built."""

    def instantiate_classes(self):
        pass

    def _run_subcommand(self, subcommand):
        pass


def parse(*args):
    return Parsed([str(a) for a in args])


def keys(block):
    if isinstance(block, dict):
        for key, value in block.items():
            yield key
            yield from keys(value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_parses_and_is_named_by_its_cell(path, tmp_path):
    cli = parse("fit", "--config", path, "--runs", tmp_path)
    assert cli.run.folder == tmp_path / NAMES[path.stem]


@pytest.mark.parametrize("path", EXPERIMENTS + PARTS, ids=lambda p: p.stem)
def test_no_file_has_a_dotted_key(path):
    # jsonargparse drops a dotted key beside a block without a word.
    assert not [key for key in keys(yaml.safe_load(path.read_text())) if "." in key]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_says_how_it_is_launched(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"tokd fit --config experiments/{path.name}" in line for line in header)
    assert any(line.startswith("# First:") for line in header)


@pytest.mark.parametrize("path", PARTS, ids=lambda p: p.stem)
def test_every_part_is_used_by_an_experiment(path):
    texts = "".join(e.read_text() for e in EXPERIMENTS)
    assert f"../{path.relative_to(ROOT)}" in texts


@pytest.mark.parametrize("name", ["ffpp_res18t", "ffpp_res34t", "ffpp_xception"])
def test_the_paper_s_numbers_reach_the_configuration(name, tmp_path):
    config = parse(
        "fit", "--config", ROOT / f"experiments/{name}.yaml", "--runs", tmp_path
    ).resolved
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert config["trainer"]["max_epochs"] == 15
    assert (data["batch_size"], data["size"], data["frames_per_video"]) == (64, 299, 32)
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == 1e-4
    assert model["lr_scheduler"]["init_args"] | {"last_epoch": -1} == {
        "step_size": 5,
        "gamma": 0.1,
        "last_epoch": -1,
    }
    tokd = model["distiller"]["init_args"]
    assert (tokd["alpha_rgb"], tokd["alpha_frequency"], tokd["dim"]) == (10.0, 10.0, 1024)
    assert config["monitor"] == "val/frame/acc"


def test_the_seed_reaches_model_and_data(tmp_path):
    args = ["--config", EXPERIMENTS[0], "--runs", tmp_path, "--seed_everything", "7"]
    config = parse("fit", *args).resolved
    assert config["model"]["init_args"]["seed"] == 7
    assert config["data"]["init_args"]["seed"] == 7
