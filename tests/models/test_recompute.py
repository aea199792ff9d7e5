import pytest
import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.detectors import build_detector
from tokd_lightning.models.probe import activation_bytes
from tokd_lightning.models.recompute import recomputed
from tokd_lightning.models.tuning import Tune, Tuning, recompute


def twins(make):
    torch.manual_seed(1)
    first = make().train()
    second = make().train()
    second.load_state_dict(first.state_dict())
    recompute(second, 64)
    return first, second


def step(network, x):
    torch.manual_seed(2)
    network(x).logits.square().sum().backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DualBranchTeacher("test_resnet", pretrained=False),
        lambda: Student("test_convnext3"),
        lambda: build_detector({"detector": "spsl", "backbone": "test_resnet"}),
    ],
    ids=["teacher", "student", "detector"],
)
def test_gradients_and_statistics_equal_those_of_plain_training_bit_for_bit(make):
    plain, spared = twins(make)
    x = torch.randn(4, 3, 64, 64)
    for _ in range(2):  # gradients add up; statistics move twice
        step(plain, x)
        step(spared, x)
    state = spared.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    gradients = {name: p.grad for name, p in spared.named_parameters()}
    assert all(torch.equal(p.grad, gradients[name]) for name, p in plain.named_parameters())
    assert torch.equal(plain.eval()(x).logits, spared.eval()(x).logits)


def test_dropout_is_the_same_in_both_passes():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6))
    x = torch.randn(5, 6, requires_grad=True)
    grads = []
    for run in (lambda: block(x), lambda: recomputed(block, x)):
        torch.manual_seed(3)
        [grad] = torch.autograd.grad(run().square().sum(), x)
        grads.append(grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("tune", ["all", "norms"])
def test_activations_are_spared(tune):
    plain, spared = (Student("resnet18_thin") for _ in range(2))
    for network in (plain, spared):
        Tuning(network, Tune(tune))
    recompute(spared, 64)
    assert activation_bytes(spared, 64) < 0.35 * activation_bytes(plain, 64)


@pytest.mark.parametrize("name", ["addnet", "f3net", "multitask", "twobranch"])
def test_networks_that_run_their_layers_themselves_are_refused(name):
    options = {} if name == "multitask" else {"backbone": "test_resnet"}
    options |= {"size": 64} if name == "f3net" else {}
    detector = build_detector({"detector": name, "pretrained": False, **options})
    with pytest.raises(TokdError, match="does not run its backbone block by block"):
        recompute(detector, 64)
