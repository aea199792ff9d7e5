from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tokd_lightning.models import DualBranchTeacher, Student, build_backbone, keep_maps_from

Settle = Callable[[nn.Module], Any]

NAMES = ["test_resnet", "test_efficientnet", "resnet50", "convnext_atto", "densenet121"]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_map_at_stride_4_is_timms(name: str, settle: Settle, photographs: Tensor):
    backbone = settle(build_backbone(name))
    wrapper = timm.create_model(name, features_only=True)
    weights = backbone.state_dict().values()
    wrapper.load_state_dict(dict(zip(wrapper.state_dict(), weights, strict=True)))
    expected = wrapper.eval()(photographs)[wrapper.feature_info.reduction().index(4)]
    keep_maps_from(backbone, 4)
    maps = backbone(photographs)
    assert list(maps) == [4, 8, 16, 32]
    assert torch.equal(maps[4], expected)


@torch.no_grad()
def test_xceptions_is_block1(settle: Settle, photographs: Tensor):
    backbone = settle(build_backbone("xception"))
    seen = []
    block = backbone.stages[0].get_submodule("block1")
    block.register_forward_hook(lambda _module, _args, output: seen.append(output.clone()))
    keep_maps_from(backbone, 4)
    assert torch.equal(backbone(photographs)[4], seen[0])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["resnet18_thin", "test_resnet", "test_efficientnet", "xception"])
@torch.no_grad()
def test_it_costs_the_other_maps_nothing(
    name: str, training: bool, settle: Settle, photographs: Tensor
):
    backbone = settle(build_backbone(name)).train(training)
    names = list(backbone.state_dict())
    plain = backbone(photographs)
    keep_maps_from(backbone, 4)
    maps = backbone(photographs)
    assert list(plain) == [8, 16, 32]
    assert all(torch.equal(plain[stride], maps[stride]) for stride in plain)
    assert list(backbone.state_dict()) == names
    keep_maps_from(backbone, 8)
    assert list(backbone(photographs)) == [8, 16, 32]


@pytest.mark.parametrize("build", [Student, DualBranchTeacher])
def test_whole_networks_give_it_and_tell_its_shape(build: Callable[..., Any], photographs: Tensor):
    network = build("test_resnet", False)
    keep_maps_from(network, 4)
    out = network(photographs)
    shapes = network.shapes(96)
    assert shapes[4] == (32, 24, 24)
    for maps in out[1:]:
        assert {stride: tuple(x.shape[1:]) for stride, x in maps.items()} == shapes


def test_later_modules_leave_it_alone(photographs: Tensor):
    for name in ("resnet18_thin", "xception", "test_efficientnet"):
        student = Student(name)
        keep_maps_from(student, 4)
        maps = student(photographs).maps
        maps[4].square().sum().backward(retain_graph=True)  # refuses a map that was overwritten
        maps[32].square().sum().backward()
