from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokd_lightning.models.rfam import RFAM, Attention

Settle = Callable[[nn.Module], Any]


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    rgb, frequency = torch.randn(2, 3, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    return rgb, frequency


def test_spatial_attention_is_the_two_convolutions_of_fig_1(
    settle: Settle, maps: tuple[Tensor, Tensor]
):
    module = settle(RFAM(6))
    mix, norm, _, last, _ = module.body
    hidden = torch.einsum("oi,bihw->bohw", mix.weight[:, :, 0, 0], torch.cat(maps, dim=1))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    hidden = (hidden - norm.running_mean[:, None, None]) * scale[:, None, None]
    hidden = (hidden + norm.bias[:, None, None]).clamp(min=0)
    attention = 1 / (1 + torch.exp(-F.conv2d(hidden, last.weight, last.bias, padding=1)))
    rgb, frequency = module(*maps)
    torch.testing.assert_close(rgb, maps[0] * attention[:, :1])
    torch.testing.assert_close(frequency, maps[1] * attention[:, 1:])


@pytest.mark.parametrize(("attention", "channels"), [("spatial", 1), ("elementwise", 6)])
def test_attention_lies_between_zero_and_one(
    attention: Attention, channels: int, maps: tuple[Tensor, Tensor]
):
    for given, weighed in zip(maps, RFAM(6, attention)(*maps), strict=True):
        ratio = weighed / given
        assert ratio.min() > 0
        assert ratio.max() < 1
        differs = (ratio - ratio[:, :1]).abs().max() > 1e-3
        assert differs == (channels > 1)


@pytest.mark.parametrize("attention", ["spatial", "elementwise"])
def test_each_branch_is_weighed_by_both(
    attention: Attention, settle: Settle, maps: tuple[Tensor, Tensor]
):
    module = settle(RFAM(6, attention))
    rgb, frequency = (x.clone().requires_grad_() for x in maps)
    for output in module(rgb, frequency):
        grads = torch.autograd.grad(output.sum(), (rgb, frequency), retain_graph=True)
        assert all(g.abs().max() > 0 for g in grads)


def test_without_attention_the_maps_pass(maps: tuple[Tensor, Tensor]):
    module = RFAM(6, "none")
    rgb, frequency = module(*maps)
    assert rgb is maps[0]
    assert frequency is maps[1]
    assert not list(module.parameters())


def test_the_maps_given_are_not_overwritten(maps: tuple[Tensor, Tensor]):
    before = [x.clone() for x in maps]
    RFAM(6)(*maps)
    assert all(torch.equal(a, b) for a, b in zip(before, maps, strict=True))


def test_an_unknown_body_is_refused():
    with pytest.raises(ValueError, match="spatial, elementwise or none"):
        RFAM(6, "channel")
