"""Every method x branches x student through the command line: fit, resume, test."""

import itertools

import pytest
import torch
import yaml
from test_cli import tokd
from test_distiller_parts import PARTS as EVERY_PART

from tokd_lightning.cli import main
from tokd_lightning.errors import TokdError
from tokd_lightning.models import Student
from tokd_lightning.modules import DistillModule
from tokd_lightning.modules.checkpoint import under

PARTS = {path.stem: path for path in EVERY_PART if path.stem != "tokd_celebdf"}
STUDENTS = ("resnet18_thin", "resnet34_thin", "xception", "efficientnet_b0")
HEADS = {"vid", "fitnet", "add", "tokd_ffpp", "tokd_with_add"}
QUICK = {("vid", "both", "test_resnet")}
STEPS = {"lr_scheduler": 4, "rotation_scheduler": 4}
LENGTH = [
    "--data.samples_per_epoch=16",
    "--trainer.max_epochs=2",
    *(f"--model.{name}.total_steps={steps}" for name, steps in STEPS.items()),
]
SMALLER = ["--model.distiller.width=16", "--model.distiller.dim=64"]


def cells():
    every = itertools.product(PARTS, ("none", "rgb", "frequency", "both"), STUDENTS)
    for method, branches, student in every:
        one_column = "branches" not in yaml.safe_load(PARTS[method].read_text()).get(
            "init_args", {}
        )
        if one_column == (branches == "none"):
            yield pytest.param(method, branches, student, marks=pytest.mark.slow)
    yield from sorted(QUICK)


def broken_off(module):
    if module.current_epoch == 1:
        raise TokdError("broken off")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "branches", "student"), cells())
def test_a_cell_is_fitted_resumed_and_tested(
    tiny_ffpp, small_teacher, tmp_path, capsys, monkeypatch, method, branches, student
):
    options = [
        *LENGTH,
        f"--model.distiller={PARTS[method]}",
        f"--model.student={student}",
        f"--model.teacher={small_teacher}",
    ]
    if branches != "none":
        options.append(f"--model.distiller.branches={branches}")
    options += SMALLER if method.startswith("tokd") else []
    with monkeypatch.context() as patch:
        patch.setattr(DistillModule, "on_train_epoch_start", broken_off)
        assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    assert capsys.readouterr().err.strip().endswith("tokd: broken off")
    [run] = tmp_path.iterdir()
    assert f"_{student}_" in run.name
    assert f"-{branches}_s0" in run.name
    assert state_of(run)["global_step"] == 2

    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 0
    said = capsys.readouterr().out
    assert "epoch 2/2" in said
    assert "epoch 1/2" not in said
    assert [path.name for path in tmp_path.iterdir()] == [run.name]
    assert (run / "metrics.json").is_file()
    checkpoint = state_of(run)
    assert checkpoint["global_step"] == 4
    parts = {name.partition(".")[0] for name in checkpoint["state_dict"]}
    assert parts == ({"student", "distiller"} if method in HEADS else {"student"})
    network = Student(student).state_dict()
    exported = under(checkpoint["state_dict"], "student.")
    assert exported.keys() == network.keys()
    assert any(not torch.equal(exported[name], value) for name, value in network.items())

    config = yaml.safe_load((run / "fit.yaml").read_text())
    config["model"]["init_args"]["teacher"] = "/nowhere/best.ckpt"
    (run / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["test", f"--config={run}/fit.yaml"]) == 0
    assert (run / "test_frames.csv").is_file()


def state_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("method", ["Hinton", "AttentionTransfer", "PKT", "SimilarityPreserving"])
def test_a_learned_rotation_is_refused_in_one_line(
    tiny_ffpp, small_teacher, tmp_path, capsys, method
):
    options = [f"--model.distiller={method}", "--model.distiller.rotation=learned"]
    options.append(f"--model.teacher={small_teacher}")
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    error = capsys.readouterr().err.strip()
    assert f"{method} cannot take rotation: learned, because" in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())
