"""The command on a CUDA device, from the teacher to the test of a student."""

import json

import pytest
import torch
import yaml
from test_cli import TINY_TEACHER, TINY_TOKD, tokd

from tokd_lightning.training.precision import default_precision

pytestmark = pytest.mark.gpu


def test_teacher_and_student_are_trained_and_tested_on_a_gpu(tiny_ffpp, tmp_path):
    device = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=bf16-mixed"]
    for command in ("fit", "test"):
        options = [*TINY_TEACHER, *device]
        assert tokd(command, "demo_teacher", tiny_ffpp, tmp_path, *options) == 0
    [teacher] = tmp_path.glob("*teacher*/checkpoints/best.ckpt")
    for command in ("fit", "test"):
        options = [*TINY_TOKD, f"--model.teacher={teacher}", *device]
        assert tokd(command, "demo_tokd", tiny_ffpp, tmp_path, *options) == 0
    [run] = tmp_path.glob("*tokd*")
    results = json.loads((run / "metrics.json").read_text())
    assert results["status"] == "finished"
    assert 0 <= results["metrics"]["test/frame/auc"] <= 1
    trainer = yaml.safe_load((run / "fit.yaml").read_text())["trainer"]
    assert (trainer["accelerator"], trainer["precision"]) == ("gpu", "bf16-mixed")


def test_a_precision_left_open_is_bfloat16_where_the_gpu_has_it():
    found = default_precision("auto", 1)
    able = torch.cuda.get_device_capability(0)[0] >= 8
    assert found == ("bf16-mixed" if able else "32-true")
    assert default_precision("cpu", 1) == "32-true"
