import naive_losses
import pytest
import torch

from tokd_lightning.distillation.similarity import similarities, similarity_preserving


def pair(grid=(3, 3), batch=4):
    torch.manual_seed(0)
    return (
        torch.randn(batch, 2, *grid, dtype=torch.float64),
        torch.randn(batch, 3, 3, 3, dtype=torch.float64),
    )


@pytest.mark.parametrize("grid", [(3, 3), (4, 5), (2, 1)])
def test_loss_and_gradient_are_those_of_the_definition(grid):
    student, teacher = pair(grid)
    naive_losses.assert_loss_and_gradient(
        lambda s: similarity_preserving(s, teacher),
        lambda s: naive_losses.similarity_preserving(s, teacher.numpy()),
        [student],
    )


def test_two_samples_by_hand():
    # G is [[1, 0], [0, 1]] for the teacher; rows (1, 1) / sqrt(2) for the student.
    student = torch.ones(2, 1, 1, 2, dtype=torch.float64)
    teacher = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 2)
    half = 0.5**0.5
    expected = 2 * ((1 - half) ** 2 + half**2) / 4
    assert float(similarity_preserving(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_equal_maps_give_zero_and_so_does_a_common_factor():
    student, _ = pair()
    assert similarity_preserving(student, student) == 0
    assert similarity_preserving(5 * student, student) < 1e-30


def test_rows_have_length_one():
    rows = similarities(pair()[0])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4).double())


def test_a_batch_of_one_gives_zero():
    student, teacher = pair(batch=1)
    assert similarity_preserving(student, teacher) < 1e-30


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_that_float16_cannot_hold_are_taken_in_float32(dtype):
    student, teacher = (30 * x.repeat(1, 20, 3, 3).to(dtype) for x in pair())
    with torch.autocast("cpu", dtype):
        found = similarity_preserving(student, teacher)
    assert (student.float().flatten(1).square().sum(1) > 66000).all()
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, similarity_preserving(student.float(), teacher.float()), rtol=0, atol=0
    )


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-6])
@pytest.mark.parametrize("dead", [1, 4], ids=["one sample", "all samples"])
def test_dead_samples_send_back_bounded_gradients(size, dead):
    student, teacher = (x.float() for x in pair())
    student[:dead] *= size
    loss = similarity_preserving(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(loss, [student])
    assert loss.isfinite()
    assert gradient.isfinite().all()
    # All samples at 1e-6 are the same loss at a scale of 1e-6: the gradient grows by as much.
    assert gradient.abs().max() < (1e7 if dead == 4 and size == 1e-6 else 1e3)
