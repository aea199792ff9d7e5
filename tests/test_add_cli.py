"""ADD's experiments through the command line: teacher, paired student, test; TOKD with it."""

import json

import pytest
import torch
from test_cli import ROOT, folder
from trees import make_ffpp

from tokd_lightning.cli import main

SMALL = [
    "--data.size=64",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--data.samples_per_epoch=16",
    "--trainer.log_every_n_steps=1",
    "--model.pretrained=false",
    "--log=none",
]


def tokd(command, experiment, root, runs, *options):
    config = ROOT / f"experiments/{experiment}.yaml"
    given = [command, f"--config={config}", f"--data.root={root}", f"--runs={runs}"]
    return main([*given, *SMALL, *options])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_ffpp(tmp_path_factory.mktemp("ffpp"), qualities=("c23", "c40"))


@pytest.fixture(scope="module")
def runs(root, tmp_path_factory):
    """ADD's teacher, of the RGB branch, and TOKD's, of both."""
    runs = tmp_path_factory.mktemp("runs")
    for name in ("ffpp_add_teacher", "ffpp_teacher"):
        options = ["--data.quality=c23", "--model.backbone=test_resnet", "--model.width=16"]
        assert tokd("fit", name, root, runs, *options, "--trainer.max_epochs=1") == 0
    return runs


def student(experiment, root, runs, teacher, *options):
    """Fit and test a student; return its folder."""
    best = folder(runs, teacher) / "checkpoints" / "best.ckpt"
    given = ["--model.student=test_resnet", f"--model.teacher={best}", *options]
    for command in ("fit", "test"):
        assert tokd(command, experiment, root, runs, *given) == 0
    return folder(runs, "c40_test_resnet")


@pytest.mark.slow
def test_add_learns_from_frames_of_two_qualities_and_is_tested(root, runs, tmp_path):
    lasts = ["--model.warm_up_epochs=1", "--trainer.max_epochs=2"]
    run = student("ffpp_add", root, runs, "teacher-rgb", *lasts)
    assert "_add-rgb_s0" in run.name
    run = run.rename(tmp_path / run.name)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"student", "distiller"}
    assert int(checkpoint["state_dict"]["distiller._extra_state"]) == 4
    assert checkpoint["lr_schedulers"][0]["total_steps"] == 4
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert 0 <= metrics["test/frame/auc"] <= 1
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "train/frequency_attention" in header
    assert "train/multi_view" in header


@pytest.mark.slow
def test_tokd_takes_add_as_a_third_task(root, runs, tmp_path):
    sizes = ["--model.distiller.width=16", "--model.distiller.dim=64", "--trainer.max_epochs=1"]
    better = "--data.teacher_quality=c23"
    run = student("ffpp_res18t_add", root, runs, "teacher-both", *sizes, better)
    assert "_tokdwithadd-both_s0" in run.name
    run = run.rename(tmp_path / run.name)
    header = (run / "metrics.csv").read_text().splitlines()[0]
    for name in ("train/rgb", "train/frequency", "train/multi_view", "rotation/distance_rgb"):
        assert name in header


@pytest.mark.slow
def test_a_branch_that_the_teacher_lacks_is_one_line(root, runs, capsys):
    best = folder(runs, "teacher-rgb") / "checkpoints" / "best.ckpt"
    options = ["--model.student=test_resnet", f"--model.teacher={best}"]
    options.append("--model.distiller.branches=frequency")
    assert tokd("fit", "ffpp_add", root, runs, *options) == 2
    assert "this teacher has only rgb" in capsys.readouterr().err.strip().splitlines()[-1]
