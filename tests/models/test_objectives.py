import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.detectors import build_detector
from tokd_lightning.models.objectives import (
    NORMALISED,
    Objectives,
    alignment,
    normalise_head,
    uniformity,
)
from tokd_lightning.models.rebuild import rebuild


def on_sphere(z):
    return [[value / math.hypot(*row) for value in row] for row in z.tolist()]


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(4)
    z = 3 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return z, torch.tensor([0, 1, 1, 0, 1, 0, 0])


def pairs(label, of):
    return [of(i, j) for j in range(len(label)) for i in range(j)]


def test_alignment_equals_its_equation(batch):
    z, label = batch
    f = on_sphere(z)
    same = [(i, j) for j in range(7) for i in range(j) if label[i] == label[j]]
    expected = sum(squared(f[i], f[j]) for i, j in same) / len(same)
    assert float(alignment(z, label)) == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: alignment(x, label), z.requires_grad_())


def test_uniformity_equals_its_equation(batch):
    z, label = batch
    f = on_sphere(z)
    every = pairs(label, lambda i, j: math.exp(-2 * squared(f[i], f[j])))
    assert float(uniformity(z)) == pytest.approx(math.log(sum(every) / len(every)), rel=1e-12)
    assert torch.autograd.gradcheck(uniformity, z.requires_grad_())


def test_both_do_not_depend_on_lengths_and_are_0_for_equal_features(batch):
    z, label = batch
    scaled = z * torch.arange(1, 8)[:, None]
    torch.testing.assert_close(alignment(scaled, label), alignment(z, label))
    torch.testing.assert_close(uniformity(scaled), uniformity(z))
    alike = torch.ones(4, 3, requires_grad=True)
    for loss in (alignment(alike, label[:4]), uniformity(alike)):
        assert float(loss) == pytest.approx(0, abs=1e-6)
        loss.backward()
    assert torch.isfinite(alike.grad).all()


def test_a_batch_without_pairs_has_no_loss_and_a_finite_gradient():
    z = torch.randn(2, 3, requires_grad=True)
    (alignment(z, torch.tensor([0, 1])) + alignment(z[:1], torch.tensor([0]))).backward()
    (uniformity(z[:1]) + uniformity(z)).backward()
    assert torch.isfinite(z.grad).all()
    assert float(uniformity(z[:1])) == 0


def test_only_what_has_a_weight_is_computed(batch):
    z, label = batch
    assert Objectives().on_features(z, label) == {}
    assert not Objectives(label_smoothing=0.1).read_features
    found = Objectives(alignment=0.5, uniformity=0.1).on_features(z, label)
    torch.testing.assert_close(found["alignment"], 0.5 * alignment(z, label))
    torch.testing.assert_close(found["uniformity"], 0.1 * uniformity(z))


@pytest.mark.parametrize("name", ["label_smoothing", "alignment", "uniformity"])
def test_check_raises_for_values_out_of_range(name):
    with pytest.raises(TokdError, match=f"--model.{name} must be at least 0"):
        Objectives(**{name: -0.1}).check()
    with pytest.raises(TokdError, match="below 1, not 1"):
        Objectives(label_smoothing=1.0).check()


@pytest.mark.parametrize("branches", ["both", "rgb"])
def test_a_normalised_head_sees_directions_alone_and_is_rebuilt(branches):
    network = DualBranchTeacher("test_resnet", False, branches=branches).eval()
    before, weight = network.state_dict(), network.classifier.weight
    x = torch.randn(2, 3, 64, 64)
    z = network.features(network(x))
    torch.testing.assert_close(network.classifier(z), network(x).logits)
    normalise_head(network)
    assert network.state_dict().keys() == before.keys()
    assert network.classifier.weight is weight
    unit = torch.tensor(on_sphere(z.detach()))
    expected = functional.linear(unit, weight, network.classifier.bias)
    torch.testing.assert_close(network(x).logits, expected, rtol=1e-4, atol=1e-6)
    again = rebuild(network.spec, "teacher").eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x).logits, network(x).logits)
    assert NORMALISED not in DualBranchTeacher("test_resnet", False).spec


@pytest.mark.parametrize("name", ["spsl", "f3net"])
def test_the_heat_map_of_a_normalised_head_still_averages_to_the_logit(name):
    options = {"detector": name, "backbone": "test_resnet", "pretrained": False}
    detector = build_detector(options | ({"size": 64} if name == "f3net" else {})).eval()
    normalise_head(detector)
    output = detector(torch.randn(2, 3, 64, 64))
    logit = output.logits[:, 1] - output.logits[:, 0]
    torch.testing.assert_close(detector.heat_map(output).mean(dim=(1, 2)), logit)
    assert rebuild(detector.spec, "detector").spec == detector.spec


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["facexray", "multiatt", "multitask"])
def test_heads_without_features_are_refused(name):
    options = {"backbone": "resnet18_thin"} if name != "multitask" else {}
    detector = build_detector({"detector": name, "pretrained": False, **options})
    with pytest.raises(TokdError, match="no single linear classifier of features"):
        normalise_head(detector)
    assert not isinstance(getattr(detector, "classifier", None), nn.Linear) or name == "facexray"
