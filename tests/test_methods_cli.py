"""Every method x branches x student through the command line: fit, resume, test."""

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from test_cli import TINY_TEACHER, folder, tokd
from test_distiller_parts import UNUSED

from tokd_lightning.cli import main

PARTS = {path.stem: path for path in UNUSED}
STUDENTS = ("resnet18_thin", "resnet34_thin", "xception", "efficientnet_b0")
QUICK = {("vid", "both", "test_resnet")}
LENGTH = ["--data.samples_per_epoch=16", "--model.lr_scheduler.total_steps=4"]


def cells():
    every = itertools.product(PARTS, ("none", "rgb", "frequency", "both"), STUDENTS)
    for method, branches, student in every:
        one_column = "branches" not in yaml.safe_load(PARTS[method].read_text()).get(
            "init_args", {}
        )
        if one_column == (branches == "none"):
            yield pytest.param(method, branches, student, marks=pytest.mark.slow)
    yield from sorted(QUICK)


@pytest.fixture(scope="module")
def teacher(tiny_ffpp, tmp_path_factory):
    runs = tmp_path_factory.mktemp("teacher")
    assert tokd("fit", "demo_teacher", tiny_ffpp, runs, *TINY_TEACHER) == 0
    return folder(runs, "teacher") / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize(("method", "branches", "student"), cells())
def test_a_cell_is_fitted_resumed_and_tested(
    tiny_ffpp, teacher, tmp_path, capsys, method, branches, student
):
    options = [
        *LENGTH,
        f"--model.distiller={PARTS[method]}",
        f"--model.student={student}",
        f"--model.teacher={teacher}",
    ]
    if branches != "none":
        options.append(f"--model.distiller.branches={branches}")
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 0
    [run] = tmp_path.iterdir()
    assert f"_{student}_" in run.name
    assert f"-{branches}_s0" in run.name
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    parts = {name.partition(".")[0] for name in checkpoint["state_dict"]}
    assert parts == ({"student", "distiller"} if method in ("vid", "fitnet") else {"student"})

    (run / "metrics.json").unlink()
    capsys.readouterr()
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 0
    assert (run / "metrics.json").is_file()
    assert [Path(path).name for path in tmp_path.iterdir()] == [run.name]

    config = yaml.safe_load((run / "fit.yaml").read_text())
    config["model"]["init_args"]["teacher"] = "/nowhere/best.ckpt"
    (run / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["test", f"--config={run}/fit.yaml"]) == 0
    assert (run / "test_frames.csv").is_file()


@pytest.mark.parametrize("method", ["Hinton", "AttentionTransfer", "PKT", "SimilarityPreserving"])
def test_a_learned_rotation_is_refused_in_one_line(tiny_ffpp, teacher, tmp_path, capsys, method):
    # The experiment's own TOKD has rotation: learned, which the method's bare name leaves as it is.
    options = [f"--model.distiller={method}", f"--model.teacher={teacher}"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    error = capsys.readouterr().err.strip()
    assert f"{method} cannot take rotation: learned, because" in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())
