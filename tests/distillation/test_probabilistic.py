import math

import naive_losses
import pytest
import torch

from tokd_lightning.distillation.probabilistic import neighbours, pkt


def pair(grid=(3, 3), batch=4):
    torch.manual_seed(0)
    return (
        torch.randn(batch, 3, *grid, dtype=torch.float64),
        torch.randn(batch, 5, 3, 3, dtype=torch.float64),
    )


@pytest.mark.parametrize("grid", [(3, 3), (4, 5), (2, 1)])
def test_loss_and_gradient_are_those_of_the_definition(grid):
    student, teacher = pair(grid)
    naive_losses.assert_loss_and_gradient(
        lambda s: pkt(s, teacher), lambda s: naive_losses.pkt(s, teacher.numpy()), [student]
    )


def test_vectors_are_taken_as_they_are():
    student, teacher = pair()
    expected = naive_losses.pkt(*(x.mean((2, 3)).numpy() for x in (student, teacher)))
    assert float(pkt(student.mean((2, 3)), teacher)) == pytest.approx(expected, rel=1e-9)


def test_two_samples_by_hand():
    # Orthogonal: kernel [[1, 1/2], [1/2, 1]], rows 2/3, 1/3. Equal: rows 1/2, 1/2.
    student = torch.ones(2, 2, dtype=torch.float64)
    teacher = torch.eye(2, dtype=torch.float64)
    expected = (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)) / 2
    assert float(pkt(student, teacher)) == pytest.approx(expected, rel=1e-6)


def test_it_is_not_symmetric():
    student, teacher = pair()
    assert abs(pkt(student, teacher) / pkt(teacher, student) - 1) > 1e-3


def test_equal_maps_give_zero_and_the_size_of_a_sample_hardly_counts():
    student, _ = pair()
    assert pkt(student, student) == 0
    sizes = torch.tensor([0.1, 1.0, 10.0, 30.0], dtype=torch.float64)[:, None, None, None]
    assert pkt(sizes * student, student).abs() < 1e-6


def test_rows_are_distributions():
    rows = neighbours(pair()[0].mean((2, 3)))
    torch.testing.assert_close(rows.sum(1), torch.ones(4).double())
    assert rows.min() >= 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_compared_in_float32(dtype):
    student, teacher = (x.to(dtype) for x in pair())
    with torch.autocast("cpu", dtype):
        found = pkt(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pkt(student.float(), teacher.float()), rtol=0, atol=0)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-6])
@pytest.mark.parametrize("dead", [1, 4], ids=["one sample", "all samples"])
def test_dead_samples_send_back_bounded_gradients(size, dead):
    student, teacher = (x.float() for x in pair())
    student[:dead] *= size
    loss = pkt(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(loss, [student])
    assert loss.isfinite()
    assert gradient.isfinite().all()
    # All samples at 1e-6 are the same loss at a scale of 1e-6: the gradient grows by as much.
    assert gradient.abs().max() < (1e7 if dead == 4 and size == 1e-6 else 1e3)


def test_opposite_samples_stay_finite():
    # A cosine of -1 is a probability of 0.
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = pkt(student, torch.eye(2))
    (gradient,) = torch.autograd.grad(loss, [student])
    assert loss.isfinite()
    assert gradient.isfinite().all()
