import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokd_lightning.frequency import high_pass
from tokd_lightning.models import DualBranchTeacher, Student, frozen
from tokd_lightning.models.complexity import complexity

Settle = Callable[[nn.Module], Any]

TINY = {"backbone": "test_resnet", "pretrained": False}


def other(branch: str) -> str:
    return {"rgb": "frequency", "frequency": "rgb"}[branch]


@pytest.mark.parametrize("branch", ["rgb", "frequency"])
@torch.no_grad()
def test_one_backbone_sees_its_own_view_of_the_image(
    branch: str, settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher(**TINY, branches=branch, cutoff=0.2))
    out = teacher(photographs)
    seen = photographs if branch == "rgb" else high_pass(photographs, 0.2)
    expected = getattr(teacher, branch)(seen)
    maps = getattr(out, branch)
    assert list(maps) == [8, 16, 32]
    assert all(torch.equal(maps[stride], expected[stride]) for stride in maps)
    assert getattr(out, other(branch)) == {}
    pooled = expected[32].mean(dim=(2, 3))
    torch.testing.assert_close(out.logits, teacher.classifier(pooled))


@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_there_is_nothing_of_the_other_branch(branch: str):
    teacher = DualBranchTeacher(**TINY, branches=branch)
    assert teacher.branches == (branch,)
    assert {name.split(".")[0] for name in teacher.state_dict()} == {branch, "classifier"}
    assert not hasattr(teacher, other(branch))


@torch.no_grad()
def test_the_rgb_teacher_is_a_student_of_the_same_weights(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY, branches="rgb"))
    student = Student("test_resnet").eval()
    student.backbone.load_state_dict(teacher.rgb.state_dict())
    student.classifier.load_state_dict(teacher.classifier.state_dict())
    assert torch.equal(student(photographs).logits, teacher(photographs).logits)


@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_an_xception_alone_has_the_size_of_table_1(branch: str):
    parameters, macs = complexity(DualBranchTeacher(pretrained=False, branches=branch), 299)
    assert parameters == pytest.approx(20.81e6, rel=0.001)
    assert macs == pytest.approx(8.44e9, rel=0.001)


@pytest.mark.parametrize("branches", ["both", "rgb", "frequency"])
@torch.no_grad()
def test_spec_rebuilds_it_through_a_checkpoint(branches: str, settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY, cutoff=0.2, branches=branches))
    file = io.BytesIO()
    torch.save({"spec": teacher.spec, "state": teacher.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    rebuilt = DualBranchTeacher(**checkpoint["spec"])
    rebuilt.load_state_dict(checkpoint["state"])
    assert rebuilt.spec == teacher.spec
    assert torch.equal(rebuilt.eval()(photographs).logits, teacher(photographs).logits)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18_thin", "test_efficientnet"])
@pytest.mark.parametrize("branch", ["rgb", "frequency"])
@torch.no_grad()
def test_frozen_it_has_no_batch_norms_and_says_the_same(
    backbone: str, branch: str, settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher(backbone, pretrained=False, branches=branch))
    before = copy.deepcopy(teacher.state_dict())
    fast = frozen(teacher)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    ours, expected = fast(photographs), teacher(photographs)
    torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-4, atol=1e-4)
    for stride, maps in getattr(expected, branch).items():
        torch.testing.assert_close(getattr(ours, branch)[stride], maps, rtol=1e-4, atol=1e-3)
    assert getattr(ours, other(branch)) == {}
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_shapes_are_those_of_the_branch_there_is(photographs: Tensor):
    for branch in ("rgb", "frequency"):
        teacher = DualBranchTeacher(**TINY, branches=branch)
        maps = getattr(teacher(photographs), branch)
        assert teacher.shapes(96) == {stride: tuple(x.shape[1:]) for stride, x in maps.items()}


def test_every_parameter_learns(settle: Settle, photographs: Tensor):
    for branch in ("rgb", "frequency"):
        teacher = settle(DualBranchTeacher(**TINY, branches=branch)).train()
        teacher(photographs).logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in teacher.parameters())


def test_both_is_the_default_and_others_are_refused():
    assert DualBranchTeacher(**TINY).branches == ("rgb", "frequency")
    with pytest.raises(ValueError, match="branches 'fourier'"):
        DualBranchTeacher(**TINY, branches="fourier")
