"""Normalised distances, Eq. 6 and 7."""

import pytest
import torch

from tokd_lightning.distillation.distance import (
    batch_variance,
    normalised,
    on_one_grid,
    squared_distance,
)


def test_distance_is_the_squared_angle_chord_per_sample():
    a, b = torch.randn(5, 3, 2, 2).double(), torch.randn(5, 3, 2, 2).double()
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    found = squared_distance(normalised(a), normalised(b))
    torch.testing.assert_close(found, (2 - 2 * cosine).mean(), rtol=1e-12, atol=0)
    assert squared_distance(normalised(a), normalised(-3 * a)) == pytest.approx(4.0)


def test_distance_ignores_the_length_of_each_sample():
    a, b = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    length = torch.tensor([0.1, 1.0, 10.0, 1e4])[:, None, None, None]
    found = squared_distance(normalised(length * a), normalised(b))
    torch.testing.assert_close(found, squared_distance(normalised(a), normalised(b)))


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-3])
def test_tiny_maps_send_back_bounded_gradients(size: float):
    a = (size * torch.randn(2, 3, 2, 2)).requires_grad_()
    squared_distance(normalised(a), normalised(torch.randn(2, 3, 2, 2))).backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    assert 0 < a.grad.norm() < 4e3


def test_batch_variance_is_zero_at_collapse_and_one_for_orthogonal_maps():
    same = normalised(torch.randn(1, 3, 2, 2).expand(4, -1, -1, -1).clone().requires_grad_())
    assert float(batch_variance(same)) == pytest.approx(0.0, abs=1e-6)
    assert not batch_variance(same).requires_grad
    assert float(batch_variance(torch.eye(8))) == pytest.approx(1 - 1 / 8)
    units = normalised(torch.randn(6, 3, 2, 2))
    expected = units.var(0, unbiased=False).sum()
    torch.testing.assert_close(batch_variance(units), expected)


def test_the_larger_map_is_pooled():
    small, large = torch.randn(2, 3, 4, 4).bfloat16(), torch.randn(2, 3, 8, 8)
    for ours, theirs in ((small, large), (large, small)):
        a, b = on_one_grid(ours, theirs)
        assert a.shape == b.shape == (2, 3, 4, 4)
        assert a.dtype == b.dtype == torch.float32
    expected = large.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))
    torch.testing.assert_close(on_one_grid(small, large)[1], expected)
