import pytest
import torch

from tokd_lightning.models import DualBranchTeacher, Student, build_backbone
from tokd_lightning.models.layers import decayed_groups, layers_of


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        # conv1 and bn1, then two blocks in each of four stages
        ("resnet18_thin", "0.conv1", "2.layer4.1", 9),
        # a stem of two layers, and four stages
        ("test_convnext3", "0.stem", "2.stages_3.blocks", None),
    ],
)
def test_layers_run_from_the_input_to_the_output(name, first, last, count):
    backbone = build_backbone(name)
    layers = layers_of(backbone)
    names = {id(p): key for key, p in backbone.named_parameters()}
    assert names[id(layers[0][0])].startswith(f"stages.{first}")
    assert names[id(layers[-1][-1])].startswith(f"stages.{last}")
    flat = [id(p) for layer in layers for p in layer]
    assert sorted(flat) == sorted(names)  # each parameter once
    assert count is None or len(layers) == count


def test_a_transformer_has_a_layer_per_block():
    backbone = build_backbone("test_vit", size=64, role="maps")
    layers = layers_of(backbone)
    names = {id(p): key.removeprefix("network.") for key, p in backbone.named_parameters()}
    assert {names[id(p)] for p in layers[0]} >= {"cls_token", "pos_embed", "patch_embed.proj.bias"}
    depth = len(backbone.blocks)
    for number, layer in enumerate(layers[1 : 1 + depth]):
        assert {names[id(p)].split(".")[:2] == ["blocks", str(number)] for p in layer} == {True}
    assert {names[id(p)] for p in layers[1 + depth]} == {"norm.weight", "norm.bias"}
    assert len(layers) == depth + 2


def test_factors_fall_by_the_decay_from_the_head_to_the_input():
    network = Student("resnet18_thin")
    extra = torch.nn.Linear(2, 2)
    parameters = [*network.parameters(), *extra.parameters()]
    groups, factors = decayed_groups(network, parameters, 0.5)
    assert factors == [0.5**k for k in range(9, -1, -1)]
    stem = network.backbone.stages[0]
    first = {id(p) for p in (*stem.conv1.parameters(), *stem.bn1.parameters())}
    assert {id(p) for p in groups[0]["params"]} == first
    top = {id(p) for p in (*network.classifier.parameters(), *extra.parameters())}
    assert {id(p) for p in groups[-1]["params"]} == top
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_both_branches_have_the_same_factors_and_rfams_those_of_the_head():
    network = DualBranchTeacher("test_resnet", False)
    groups, factors = decayed_groups(network, list(network.parameters()), 0.7)
    of = {id(p): f for g, f in zip(groups, factors, strict=True) for p in g["params"]}
    for (name, rgb), (_, other) in zip(
        network.rgb.named_parameters(), network.frequency.named_parameters(), strict=True
    ):
        assert of[id(rgb)] == of[id(other)] < 1, name
    assert {of[id(p)] for p in network.rfams.parameters()} == {1.0}
