import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokd_lightning.models.student import Student

Settle = Callable[[nn.Module], Any]


@pytest.mark.parametrize("backbone", ["resnet18_thin", "test_efficientnet"])
@torch.no_grad()
def test_logits_are_the_pooled_last_map_through_the_classifier(
    backbone: str, settle: Settle, photographs: Tensor
):
    student = settle(Student(backbone, num_classes=3))
    logits, maps = student(photographs)
    assert list(maps) == [8, 16, 32]
    pooled = nn.functional.adaptive_avg_pool2d(maps[32], 1)[:, :, 0, 0]
    torch.testing.assert_close(logits, student.classifier(pooled))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("backbone", ["resnet18_thin", "resnet34_thin", "test_efficientnet"])
def test_every_parameter_gets_a_gradient_from_the_logits(backbone: str, photographs: Tensor):
    """Data-parallel training fails on the second step otherwise."""
    student = Student(backbone)
    student(photographs).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_shapes_agree_with_a_run_and_touch_nothing(photographs: Tensor):
    student = Student().train()
    before, rng = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    shapes = student.shapes(96)
    assert torch.equal(rng, torch.get_rng_state())
    assert all(module.training for module in student.modules())
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert shapes == {s: tuple(m.shape[1:]) for s, m in student(photographs).maps.items()}


def test_spec_rebuilds_the_network(settle: Settle, photographs: Tensor):
    student = settle(Student("test_resnet", num_classes=4))
    rebuilt = Student(**student.spec)
    rebuilt.load_state_dict(student.state_dict())
    assert rebuilt.spec == {"backbone": "test_resnet", "pretrained": False, "num_classes": 4}
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(photographs).logits, student(photographs).logits)
