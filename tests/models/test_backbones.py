from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import STRIDES, Backbone, build_backbone
from tokd_lightning.models.probe import map_shapes

Settle = Callable[[nn.Module], Any]

TIMM_NAMES = [
    "test_resnet",
    "test_efficientnet",
    "resnet18",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "convnext_atto",
    "regnetx_002",
    "densenet121",
]


def timm_features(name: str, backbone: Backbone, x: Tensor) -> list[Tensor]:
    """Compute timm's own features of the same weights, through its ``features_only`` wrapper."""
    wrapper = timm.create_model(name, features_only=True)
    # The same modules in the same order; only the names of opened containers differ.
    ours, theirs = backbone.state_dict(), wrapper.state_dict()
    wrapper.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    reductions = wrapper.feature_info.reduction()
    with torch.no_grad():
        features = wrapper.eval()(x)
    return [features[reductions.index(stride)] for stride in STRIDES]


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_maps_are_timms_features_bit_for_bit(name: str, settle: Settle, photographs: Tensor):
    backbone = settle(build_backbone(name))
    with torch.no_grad():
        maps = backbone(photographs)
    assert list(maps) == [8, 16, 32]
    for ours, theirs in zip(maps.values(), timm_features(name, backbone, photographs), strict=True):
        assert torch.equal(ours, theirs)
    assert tuple(x.shape[1] for x in maps.values()) == backbone.channels


def test_xceptions_maps_are_block2_block11_and_act4(settle: Settle, photographs: Tensor):
    backbone = settle(build_backbone("xception"))
    model = timm.create_model("legacy_xception", num_classes=0).eval()
    model.load_state_dict(
        {key.split(".", 2)[2]: value for key, value in backbone.state_dict().items()}
    )
    expected = {}
    for stride, name in ((8, "block2"), (16, "block11"), (32, "act4")):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, stride=stride: expected.update({stride: output.clone()})
        )
    with torch.no_grad():
        model(photographs)
        maps = backbone(photographs)
    assert maps.keys() == expected.keys()
    assert all(torch.equal(maps[stride], expected[stride]) for stride in maps)


def test_xception_is_cut_where_its_flows_end():
    backbone = build_backbone("xception")
    ends = [list(dict(stage.named_children()))[-1] for stage in backbone.stages]
    assert ends == ["block2", "block3", "block11", "act4"]
    assert backbone.coupled == (False, True, True, True)
    assert map_shapes(backbone, 299) == {8: (256, 37, 37), 16: (728, 19, 19), 32: (2048, 10, 10)}


@pytest.mark.parametrize("name", ["xception", "resnet18_thin", "test_efficientnet"])
@pytest.mark.parametrize("training", [False, True])
def test_later_stages_leave_earlier_maps_alone(
    name: str, training: bool, settle: Settle, photographs: Tensor
):
    backbone = settle(build_backbone(name)).train(training)
    x, copies = photographs.clone(), []
    maps = []
    with torch.no_grad():
        for stage in backbone.stages:
            x = stage(x)
            maps.append(x)
            copies.append(x.clone())
    assert all(torch.equal(*pair) for pair in zip(maps, copies, strict=True))


@pytest.mark.parametrize("name", ["resnet18_thin", "resnet34_thin"])
def test_thin_resnets_are_half_as_wide_from_the_stem_on(name: str):
    backbone = build_backbone(name)
    stem = backbone.stages[0].get_submodule("conv1")
    first = backbone.stages[0].get_submodule("layer1.0.conv1")
    assert stem.out_channels == 32
    assert first.in_channels == first.out_channels == 32
    assert map_shapes(backbone, 299) == {8: (64, 38, 38), 16: (128, 19, 19), 32: (256, 10, 10)}


@pytest.mark.parametrize("name", ["resnet18_thin", "test_resnet"])
def test_building_is_deterministic_and_ends_in_train_mode(name: str):
    torch.manual_seed(3)
    one = build_backbone(name)
    torch.manual_seed(3)
    two = build_backbone(name)
    assert all(module.training for module in one.modules())
    assert all(torch.equal(*p) for p in zip(one.parameters(), two.parameters(), strict=True))
    for module in one.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.running_mean.any()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hrnet_w18_small", "xception41"])
def test_networks_without_a_chain_of_maps_are_refused(name: str):
    with pytest.raises(TokdError, match=f"{name} cannot be cut .* resnet50"):
        build_backbone(name)


def test_a_misspelt_name_is_answered_with_near_ones():
    with pytest.raises(TokdError, match=r"no network is named resnet18_thn: resnet18_thin"):
        build_backbone("resnet18_thn")
