"""The rotations on a CUDA device: on the group, repeatable, where the CPU would bring them."""

import math

import pytest
import torch

from tokd_lightning.distillation.rotation import Rotation
from tokd_lightning.distillation.rotation_optimizer import RotationOptimizer

pytestmark = pytest.mark.gpu


def turned(direction, batch, dim, device, steps, dtype=torch.float32, spoiled=()):
    """Turn both rotations by random gradients and return them, and the optimizer."""
    generator = torch.Generator().manual_seed(0)
    rotation = Rotation((dim // 4, 2, 2), dim).to(device, dtype)
    rate = {"normalized": 1e-3, "adam": 1e-3, "plain": 1.0}[direction]
    optimizer = RotationOptimizer(rotation.matrices().values(), rate, direction)
    weights = dict.fromkeys(rotation.branches, 10.0)
    for step in range(steps):
        drawn = torch.randn(2, batch, dim, generator=generator, dtype=torch.float64)
        if step in spoiled:
            drawn[0, 0, 0] = math.nan
        v = dict(zip(rotation.branches, drawn.to(device, dtype), strict=True))
        rows, g = rotation.rows(v, weights)
        optimizer.step(rows=[(rows[branch], g) for branch in rotation.branches])
    return rotation, optimizer


@pytest.mark.parametrize("direction", ["normalized", "adam", "plain"])
@pytest.mark.parametrize(("batch", "dim"), [(16, 256), (64, 96)], ids=["low rank", "dense"])
def test_rotations_stay_orthogonal_and_come_out_alike_twice(direction, batch, dim):
    one, _ = turned(direction, batch, dim, "cuda", 120)
    other, _ = turned(direction, batch, dim, "cuda", 120)
    for branch, r in one.matrices().items():
        assert torch.equal(r, other.matrices()[branch])
        wide = r.double()
        eye = torch.eye(dim, dtype=torch.float64, device="cuda")
        assert float((wide.T @ wide - eye).norm()) / math.sqrt(dim) < 1e-5
        assert float((wide - eye).norm()) / math.sqrt(dim) > 1e-3


@pytest.mark.parametrize("direction", ["normalized", "adam", "plain"])
@pytest.mark.parametrize(("batch", "dim"), [(16, 256), (64, 96)], ids=["low rank", "dense"])
def test_rotations_turn_as_on_the_cpu(direction, batch, dim):
    expected, _ = turned(direction, batch, dim, "cpu", 5, torch.float64)
    found, _ = turned(direction, batch, dim, "cuda", 5, torch.float64)
    for branch, r in found.matrices().items():
        torch.testing.assert_close(r.cpu(), expected.matrices()[branch], rtol=1e-9, atol=1e-12)


def test_a_step_of_broken_gradients_is_skipped_without_waiting():
    turned("normalized", 16, 256, "cuda", 2)  # what is made once is made now
    generator = torch.Generator("cuda").manual_seed(0)
    rotation = Rotation((64, 2, 2), 256).to("cuda")
    optimizer = RotationOptimizer(rotation.matrices().values())
    weights = dict.fromkeys(rotation.branches, 10.0)
    broken = torch.randn(16, 256, generator=generator, device="cuda")
    broken[3, 5] = torch.inf
    v = {"rgb": broken, "frequency": torch.ones_like(broken)}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        rows, g = rotation.rows(v, weights)
        optimizer.step(rows=[(rows[branch], g) for branch in rotation.branches])
        rotation.gradient_diagnostics(v, weights)
        rotation.drift()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(optimizer.skipped) == 1
    for r in rotation.matrices().values():
        assert torch.equal(r, torch.eye(256, device="cuda"))
