"""Who trains G_Tr and G_Tf in TOKD: with_teacher, frozen, joint."""

import io

import pytest
import torch
from tiny_networks import LABELS, STUDENT, TinyStudent, made, teacher_output, total
from torch import Tensor

from tokd_lightning.distillation import TeacherProjectors, Vanilla
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import TeacherOutput


@pytest.mark.parametrize("mode", ["with_teacher", "frozen", "joint"])
def test_only_joint_trains_the_teacher_projectors(student: TinyStudent, images: Tensor, mode: str):
    tokd = made(teacher_projectors=mode)
    if mode == "with_teacher":
        tokd.load_teacher_projectors(TeacherProjectors(8, 5).double().state_dict())
    tokd.train()
    joint = mode == "joint"
    assert all(module.training == joint for module in tokd.teacher_project.modules())
    assert tokd.project.training
    tokd(student(images), teacher_output(), LABELS)
    before = {n: b.clone() for n, b in tokd.teacher_project.named_buffers()}
    losses = tokd(student(images), teacher_output(), LABELS)
    total(losses).backward()
    for parameter in tokd.teacher_project.parameters():
        assert parameter.requires_grad == joint
        assert (parameter.grad is not None) == joint
    changed = any(not torch.equal(b, before[n]) for n, b in tokd.teacher_project.named_buffers())
    assert changed == joint
    assert all(p.grad is not None for p in tokd.project.parameters())


def test_joint_trains_only_projectors_of_branches_in_use(student: TinyStudent, images: Tensor):
    tokd = made(teacher_projectors="joint", branches="rgb")
    total(tokd(student(images), teacher_output(), LABELS)).backward()
    trained = [p for p in tokd.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None for p in trained)


def test_trained_teacher_projectors_are_taken_or_asked_for():
    tokd = made(teacher_projectors="with_teacher")
    trained = TeacherProjectors(8, 5).double()
    tokd.load_teacher_projectors(trained.state_dict())
    assert torch.equal(tokd.teacher_project.rgb[0].weight, trained.rgb[0].weight)
    for state in (None, TeacherProjectors(8, 7).state_dict(), {}):
        with pytest.raises(TokdError, match=r"width 5, kernel 1.*teacher_projectors: frozen"):
            tokd.load_teacher_projectors(state)
    for other in (made(), made(teacher_projectors="joint"), Vanilla(STUDENT, {})):
        other.load_teacher_projectors(None)


def test_loaded_projectors_are_not_calibrated_and_missing_ones_are(
    student: TinyStudent, images: Tensor, caplog: pytest.LogCaptureFixture
):
    tokd = made(teacher_projectors="with_teacher")
    trained = TeacherProjectors(8, 5).double().state_dict()
    tokd.load_teacher_projectors(trained)
    tokd(student(images), teacher_output(), LABELS)
    assert not tokd.teacher_project.misfits(trained)
    assert all(torch.equal(x, trained[n]) for n, x in tokd.teacher_project.state_dict().items())
    assert "random" not in caplog.text
    made(teacher_projectors="with_teacher")(student(images), teacher_output(), LABELS)
    assert "random" in caplog.text


def test_frozen_projectors_are_calibrated_once_and_remember_it(
    student: TinyStudent, images: Tensor
):
    tokd = made()
    tokd.eval()(student(images), teacher_output(), LABELS)
    mean = tokd.teacher_project.rgb[1].running_mean
    assert torch.equal(mean, torch.zeros_like(mean))
    tokd.train()(student(images), teacher_output(), LABELS)
    first = mean.clone()
    assert first.abs().sum() > 0
    other = TeacherOutput(*(teacher_output()[:1]), {32: torch.ones(6, 8, 3, 3).double()},
                          {32: torch.ones(6, 8, 3, 3).double()})  # fmt: skip
    tokd(student(images), other, LABELS)
    assert torch.equal(mean, first)

    saved = io.BytesIO()
    torch.save(tokd.state_dict(), saved)
    saved.seek(0)
    again = made(seed=9)
    again.load_state_dict(torch.load(saved, weights_only=True))
    again.train()(student(images), other, LABELS)
    assert torch.equal(again.teacher_project.rgb[1].running_mean, first)


@pytest.mark.parametrize("mode", ["frozen", "joint"])
def test_no_gradient_reaches_the_teacher(student: TinyStudent, images: Tensor, mode: str):
    teacher = teacher_output()
    teacher.rgb[32].requires_grad_()
    total(made(teacher_projectors=mode)(student(images), teacher, LABELS)).backward()
    assert teacher.rgb[32].grad is None
