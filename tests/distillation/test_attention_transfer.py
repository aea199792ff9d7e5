import math

import naive_losses
import pytest
import torch

from tokd_lightning.distillation.attention_transfer import attention_map, attention_transfer


def pair(grid=(4, 3), other=(4, 3), batch=3):
    torch.manual_seed(0)
    return (
        torch.randn(batch, 4, *grid, dtype=torch.float64),
        torch.randn(batch, 2, *other, dtype=torch.float64),
    )


@pytest.mark.parametrize("grid", [(4, 3), (5, 5), (3, 2), (6, 2)])
def test_loss_and_gradient_are_those_of_the_definition(grid):
    student, teacher = pair(grid)
    naive_losses.assert_loss_and_gradient(
        lambda s: attention_transfer(s, teacher),
        lambda s: naive_losses.attention_transfer(s, teacher.numpy()),
        [student],
    )


def test_two_positions_by_hand():
    # Energies 9, 16 against 1, 0, each at length 1: (9, 16) / sqrt(337) and (1, 0).
    student = torch.tensor([3.0, 4.0], dtype=torch.float64).view(1, 1, 1, 2)
    teacher = torch.tensor([5.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    expected = (1 - 9 / math.sqrt(337)) * 2 / 2
    assert float(attention_transfer(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_equal_maps_give_zero_and_the_size_of_a_sample_does_not_count():
    student, _ = pair()
    assert attention_transfer(student, student) == 0
    sizes = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)[:, None, None, None]
    assert attention_transfer(sizes * student, student) < 1e-30


def test_attention_maps_have_length_one_and_no_negative_entry():
    maps = attention_map(pair()[0])
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(3).double())
    assert maps.min() >= 0


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-5])
def test_dead_samples_send_back_bounded_gradients(size):
    student, teacher = (x.float() for x in pair())
    student[1] *= size
    loss = attention_transfer(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(loss, [student])
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3
