import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import timm.models.resnetv2
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn

from tokd_lightning.models.folding import _fold, _foldable, frozen
from tokd_lightning.models.teacher import DualBranchTeacher

Settle = Callable[[nn.Module], Any]


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def state_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("backbone", "remaining"),
    [
        ("resnet18_thin", 0),
        ("test_efficientnet", 0),  # norms with an activation of their own
        ("tf_efficientnetv2_b0", 0),  # convolutions that pad by the size of their input
        ("xception", 0),
        ("resnetv2_18d", None),  # norms that come before their convolutions stay
        ("convnext_atto", 0),  # its RFAMs have the only ones
    ],
)
@torch.no_grad()
def test_a_frozen_teacher_computes_the_same(
    backbone: str, remaining: int | None, settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher(backbone, pretrained=False))
    copied = frozen(teacher)
    expected, ours = teacher(photographs), copied(photographs)
    pairs = [(ours.logits, expected.logits)]
    for stride in expected.rgb:
        pairs.append((ours.rgb[stride], expected.rgb[stride]))
        pairs.append((ours.frequency[stride], expected.frequency[stride]))
    for a, b in pairs:
        assert (a - b).norm() <= 1e-4 * b.norm()
    assert norms(copied) < norms(teacher)
    assert remaining is None or norms(copied) == remaining


@torch.no_grad()
def test_norms_that_processes_share_are_folded_with_their_activations(
    settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher("test_efficientnet", pretrained=False))
    expected = teacher(photographs).logits
    copied = frozen(convert_sync_batchnorm(teacher))
    assert norms(copied) == 0
    assert (copied(photographs).logits - expected).norm() <= 1e-4 * expected.norm()


def test_the_teacher_itself_is_left_as_it_is(photographs: Tensor):
    teacher = DualBranchTeacher("test_resnet", pretrained=False).train()
    before, count = state_hash(teacher), norms(teacher)
    copied = frozen(teacher)
    copied(photographs)
    assert state_hash(teacher) == before
    assert norms(teacher) == count
    assert all(module.training for module in teacher.modules())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert not {p.data_ptr() for p in teacher.parameters()} & {
        p.data_ptr() for p in copied.parameters()
    }


def test_the_copy_is_still_without_gradients_and_channels_last(settle: Settle, photographs: Tensor):
    copied = frozen(settle(DualBranchTeacher("resnet18_thin", pretrained=False)))
    assert not any(module.training for module in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    out = copied(photographs)
    assert not out.logits.requires_grad
    assert out.rgb[16].is_contiguous(memory_format=torch.channels_last)
    assert copied.shapes(96) == {s: tuple(m.shape[1:]) for s, m in out.rgb.items()}


@torch.no_grad()
def test_a_frozen_teacher_runs_under_autocast(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher("test_efficientnet", pretrained=False))
    exact = teacher(photographs).logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = frozen(teacher)(photographs).logits
    assert (mixed.float() - exact).norm() < 0.05 * exact.norm()


class _Tricky(nn.Module):
    """Every way in which a convolution and a norm may not be one affine map."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.plain_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.read_twice, self.read_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.shared, self.shared_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.before, self.after = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.batchwise = nn.BatchNorm2d(3, track_running_stats=False)
        self.standardised = timm.layers.StdConv2d(3, 3, 1)
        self.standardised_norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_norm(self.plain(x))
        y = self.read_twice(x)
        x = self.read_norm(y) + y
        x = self.shared(self.shared_norm(self.shared(x)))
        x = self.batchwise(self.after(self.before(x)))
        return self.standardised_norm(self.standardised(x))


class _Untraceable(nn.Module):
    """Code that asks about values, around a part that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("network", "pairs"),
    [(_Tricky(), [("plain", "plain_norm")]), (_Untraceable(), [("0", "1")])],
    ids=["tricky", "untraceable"],
)
@torch.no_grad()
def test_only_what_is_one_affine_map_is_folded(
    network: nn.Module, pairs: list[tuple[str, str]], settle: Settle, photographs: Tensor
):
    settle(network).double()  # one of the norms magnifies rounding
    x = photographs.double() + 1
    found = list(_foldable(network))
    assert [names for _, *names in found] == [list(pair) for pair in pairs]
    expected = copy.deepcopy(network)(x)
    for owner, convolution, norm in found:
        _fold(owner, convolution, norm)
    torch.testing.assert_close(network(x), expected)
