import copy
import math
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from tokd_lightning.models.complexity import complexity
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher


@pytest.mark.parametrize(
    ("build", "millions", "giga_macs", "tolerance"),
    [
        (lambda: Student("resnet18_thin"), 2.799, 0.912, 0.005),
        (lambda: Student("resnet34_thin"), 5.328, 1.777, 0.005),
        (lambda: Student("xception"), 20.81, 8.44, 0.005),
        (lambda: timm.create_model("legacy_xception"), 22.86, 8.44, 0.005),
        (lambda: DualBranchTeacher(pretrained=False), 62.79, 20.12, 0.0008),
    ],
    ids=["ResNet18-T", "ResNet34-T", "Xception", "Xception, 1000 classes", "Teacher"],
)
def test_table_1_is_met(
    build: Callable[[], nn.Module], millions: float, giga_macs: float, tolerance: float
):
    parameters, macs = complexity(build(), 299)
    assert parameters == pytest.approx(1e6 * millions, rel=tolerance)
    assert macs == pytest.approx(1e9 * giga_macs, rel=tolerance)


def by_formula(network: nn.Module, size: int) -> int:
    """Count convolutions and linear layers alone: outputs times inputs of each output."""
    total = 0

    def count(module: nn.Module, _args: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        fan_in = module.weight[0].numel()
        total += output.numel() * fan_in

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    return total


@pytest.mark.parametrize(
    "build",
    [lambda: Student("resnet18_thin"), lambda: DualBranchTeacher("test_resnet", False)],
    ids=["student", "teacher"],
)
def test_convolutions_make_up_nearly_all_of_the_count(build: Callable[[], nn.Module]):
    network = build()
    macs = complexity(network, 96).macs
    convolutions = by_formula(network, 96)
    assert convolutions < macs < 1.04 * convolutions


def test_the_thin_stem_by_hand():
    """7x7x3 inputs for each of 32 channels on a 150x150 grid; 64 channels would double it."""
    student = Student("resnet18_thin")
    stem = student.backbone.stages[0].get_submodule("conv1")
    assert by_formula(nn.Sequential(stem), 299) == 32 * math.ceil(299 / 2) ** 2 * 7 * 7 * 3


def test_frozen_parameters_count():
    student = Student("test_resnet")
    free = complexity(student, 64)
    assert complexity(student.requires_grad_(False), 64) == free


def test_a_filter_costs_nothing():
    counts = {complexity(DualBranchTeacher("test_resnet", False, c), 64) for c in (0.0, 0.33, 2.0)}
    assert len(counts) == 1


def test_counting_leaves_everything_as_it_was(capfd: pytest.CaptureFixture[str]):
    student = Student("test_resnet").train()
    state, rng = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    attributes = {name: set(vars(module)) for name, module in student.named_modules()}
    patched = [nn.functional.relu, torch.matmul, torch.Tensor.add]
    complexity(student, 64)
    assert torch.equal(rng, torch.get_rng_state())
    assert [nn.functional.relu, torch.matmul, torch.Tensor.add] == patched
    for name, module in student.named_modules():
        assert set(vars(module)) == attributes[name]
        assert not module._forward_hooks
        assert module.training
    assert all(torch.equal(value, state[key]) for key, value in student.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_a_network_that_does_not_run_is_an_error(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match=r"ptflops failed: .*channel"):
        complexity(nn.Sequential(nn.Conv2d(4, 1, 1)), 8)
    assert capfd.readouterr() == ("", "")
