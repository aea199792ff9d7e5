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
    ("build", "millions", "giga_macs", "tolerance", "printed"),
    [
        (lambda: Student("resnet18_thin"), 2.799, 0.912, 0.005, "0.912"),
        (lambda: Student("resnet34_thin"), 5.328, 1.777, 0.005, "1.777"),
        (lambda: Student("xception"), 20.81, 8.44, 0.005, "8.440"),
        (lambda: timm.create_model("legacy_xception"), 22.86, 8.44, 0.005, "8.442"),
        (lambda: DualBranchTeacher(pretrained=False), 62.79, 20.12, 0.0008, "20.120"),
    ],
    ids=["ResNet18-T", "ResNet34-T", "Xception", "Xception, 1000 classes", "Teacher"],
)
def test_table_1_is_met(
    build: Callable[[], nn.Module],
    millions: float,
    giga_macs: float,
    tolerance: float,
    printed: str,
):
    """``printed`` is what ptflops 0.7.5 counts; linear layers with bias count once here."""
    with torch.device("meta"):
        network = build()
    parameters, macs = complexity(network, 299)
    assert parameters == pytest.approx(1e6 * millions, rel=tolerance)
    assert macs == pytest.approx(1e9 * giga_macs, rel=tolerance)
    assert f"{macs / 1e9:.3f}" == printed


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    [
        ("convnext_tiny", 4.47),
        ("nf_resnet50", 4.10),
        ("tf_efficientnet_b0", 0.39),
        ("vit_tiny_patch16_224", 1.26),
    ],
)
def test_macs_are_those_that_are_published(name: str, giga_macs: float):
    """The model cards of timm, which leave batch norms, ReLUs and poolings out."""
    with torch.device("meta"):
        network = timm.create_model(name)
    assert complexity(network, 224).macs == pytest.approx(1e9 * giga_macs, rel=0.03)


class Same(nn.Conv2d):
    """A convolution of another class, as timm's of TensorFlow and of normalised weights."""


class OfItself(nn.MultiheadAttention):
    """Attention of tokens among themselves."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens, tokens, tokens, need_weights=False)[0]


class Called(nn.Module):
    """Takes the first channel of an image as 8 tokens of 8 numbers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image[:, 0])


def heads(tokens: Tensor) -> Tensor:
    """Split 8 numbers among 2 heads."""
    return tokens.unflatten(-1, (2, 4)).transpose(1, 2)


WEIGHT = torch.empty(5, 3, 3, 3, device="meta")
MATRIX = torch.empty(8, 6, device="meta")


@pytest.mark.parametrize(
    ("network", "macs"),
    [
        (Called(nn.Linear(8, 6)), 8 * 8 * 6),
        (Called(nn.Linear(8, 6, bias=False)), 8 * 8 * 6),
        (Called(lambda x: nn.functional.linear(x.transpose(1, 2), MATRIX.T)), 8 * 8 * 6),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), 192 * 7),
        (nn.Sequential(nn.Conv2d(3, 5, 3)), 5 * 3 * 9 * 6 * 6),
        (nn.Sequential(Same(3, 6, 3, groups=3)), 6 * 9 * 6 * 6),
        (nn.Sequential(nn.ConvTranspose2d(3, 5, 2, 2)), 5 * 3 * 4 * 8 * 8),
        (Called(lambda x: nn.functional.conv2d(x[:, None].expand(-1, 3, -1, -1), WEIGHT)), 4860),
        (Called(lambda x: x @ MATRIX), 8 * 8 * 6),
        (Called(lambda x: torch.bmm(x, x)), 8**3),
        (Called(lambda x: torch.einsum("bij,jk->bik", x, MATRIX)), 8 * 8 * 6),
        (
            Called(lambda x: nn.functional.scaled_dot_product_attention(*3 * (heads(x),))),
            2 * (8 * 8 * 4 + 8 * 8 * 4),
        ),
        (Called(timm.models.vision_transformer.Attention(8, 2)), 8 * 8 * 4 * 8 + 2 * 2 * 8 * 8 * 4),
        (Called(OfItself(8, 2, batch_first=True)), 8 * 8 * 4 * 8 + 2 * 2 * 8 * 8 * 4),
        (nn.Sequential(nn.BatchNorm2d(3)), 2 * 3 * 64),
        (nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()), 3 * 2 * 3 * 64),
        (nn.Sequential(nn.MaxPool2d(2)), 2 * 3 * 64),
        (nn.Sequential(nn.AvgPool2d(2)), 2 * 3 * 64),
        (nn.Sequential(nn.GELU(), nn.SiLU(), nn.GroupNorm(1, 3)), 0),
    ],
)
def test_macs_by_hand(network: nn.Module, macs: int):
    assert complexity(network, 8).macs == macs


def test_ptflops_agrees_where_it_counts_right():
    """It counts a linear layer with bias twice, hence none here; and adds biases."""
    ptflops = pytest.importorskip("ptflops")
    network = timm.create_model("resnet18", num_classes=0, global_pool="")
    macs, _ = ptflops.get_model_complexity_info(
        network, (3, 64, 64), as_strings=False, print_per_layer_stat=False
    )
    assert complexity(network, 64).macs == macs


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
    with pytest.raises(RuntimeError, match="channel"):
        complexity(nn.Sequential(nn.Conv2d(4, 1, 1)), 8)
    assert capfd.readouterr() == ("", "")
