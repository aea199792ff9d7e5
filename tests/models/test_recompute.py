import pytest
import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.detectors import build_detector
from tokd_lightning.models.probe import activation_bytes
from tokd_lightning.models.recompute import recomputing
from tokd_lightning.models.tuning import Tune, Tuning, recompute

SPSL = {"detector": "spsl", "backbone": "test_resnet", "pretrained": False}


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


CASES = {
    "teacher": lambda: DualBranchTeacher("test_resnet", pretrained=False),
    "vit": lambda: Student("test_vit", size=64),
    "convnext": lambda: Student("test_convnext3"),
    "vit teacher": lambda: DualBranchTeacher("test_vit", pretrained=False, size=64),
    "detector": lambda: build_detector(SPSL),
}
SOON = ("teacher", "vit")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=() if name in SOON else pytest.mark.slow)
        for name, make in CASES.items()
    ],
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
    block = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.5, batch_first=True)
    x = torch.randn(5, 3, 6, requires_grad=True)
    grads = []
    for wanted in (False, True):
        torch.manual_seed(3)
        with recomputing(block, wanted):
            y = block(x)
        [grad] = torch.autograd.grad(y.square().sum(), x)
        grads.append(grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize(
    ("tune", "share"), [("all", 0.25), pytest.param("norms", 0.5, marks=pytest.mark.slow)]
)
def test_activations_are_spared(tune, share):
    plain, spared = (Student("test_vit", size=64) for _ in range(2))
    for network in (plain, spared):
        Tuning(network, Tune(tune))
    recompute(spared, 64)
    assert activation_bytes(spared, 64) < share * activation_bytes(plain, 64)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", ["addnet", "f3net", "multitask", "twobranch"])
def test_networks_that_run_their_layers_themselves_are_refused(name):
    options = {} if name == "multitask" else {"backbone": "test_resnet"}
    options |= {"size": 64} if name == "f3net" else {}
    detector = build_detector({"detector": name, "pretrained": False, **options})
    with pytest.raises(TokdError, match="does not run its backbone block by block"):
        recompute(detector, 64)
