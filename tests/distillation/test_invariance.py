"""Why AT, PKT and SP take no rotation: nothing that a rotation does changes their losses."""

import pytest
import torch

from tokd_lightning.distillation import Rotation
from tokd_lightning.distillation.attention_transfer import attention_transfer
from tokd_lightning.distillation.fitnet import hint
from tokd_lightning.distillation.probabilistic import pkt
from tokd_lightning.distillation.similarity import similarity_preserving

SHAPE = (6, 3, 4)


def rotated(layout, dim, z):
    """Return z under a random rotation, orthogonal to the last digit of float64."""
    rotation = Rotation(SHAPE, dim, layout, init="random", seed=3).double()
    for matrix in rotation.matrices().values():
        matrix.data = torch.linalg.qr(matrix.data)[0]
    m = rotation(z)["frequency"]
    assert not torch.allclose(m, z)
    return m


def pair():
    torch.manual_seed(0)
    z = torch.randn(5, *SHAPE, dtype=torch.float64) + 0.3
    return z, torch.randn(5, *SHAPE, dtype=torch.float64) + 0.3


def apart(loss, layout, dim):
    z, teacher = pair()
    plain, turned = loss(z, teacher), loss(rotated(layout, dim, z), teacher)
    return float((turned - plain).abs() / plain.abs())


@pytest.mark.parametrize("dim", [6, 4])
@pytest.mark.parametrize("loss", [attention_transfer, pkt, similarity_preserving])
def test_a_rotation_of_the_channels_changes_nothing(loss, dim):
    assert apart(loss, "channels", dim) < 1e-12


@pytest.mark.parametrize("dim", [72, 30, 7])
@pytest.mark.parametrize("layout", ["flat_prefix", "blocks"])
def test_a_rotation_of_the_flattened_map_does_not_change_sp(layout, dim):
    assert apart(similarity_preserving, layout, dim) < 1e-12


@pytest.mark.parametrize("layout", ["flat_prefix", "blocks"])
@pytest.mark.parametrize("loss", [attention_transfer, pkt])
def test_a_rotation_across_positions_does_change_at_and_pkt(loss, layout):
    assert apart(loss, layout, 30) > 1e-3


@pytest.mark.parametrize("layout", ["flat_prefix", "blocks", "channels"])
def test_every_rotation_changes_a_hint(layout):
    assert apart(hint, layout, 6) > 1e-3


@pytest.mark.parametrize("loss", [attention_transfer, pkt, similarity_preserving])
def test_a_rotation_does_not_change_what_the_student_learns(loss):
    gradients = []
    for turn in (False, True):
        z, teacher = pair()
        z.requires_grad_()
        loss(rotated("channels", 6, z) if turn else z, teacher).backward()
        gradients.append(z.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-15)
