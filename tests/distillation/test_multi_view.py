import numpy as np
import pytest
import torch
from add_reference import histogram, slope
from add_reference import multi_view as by_hand
from torch import Tensor

from tokd_lightning.distillation.multi_view import (
    assign,
    draw_directions,
    histograms,
    multi_view,
)

LABELS = torch.tensor([0, 1, 1, 0, 1])


def maps(batch: int = 5, channels: int = 6, height: int = 2, width: int = 3):
    generator = torch.Generator().manual_seed(0)
    shape = (2, batch, channels, height, width)
    return torch.randn(shape, generator=generator, dtype=torch.float64).unbind()


def loss_and_gradient(student: Tensor, teacher: Tensor, margin: float = 0.2, labels=LABELS):
    """Weigh the two parts as ADD does, 100 and 50."""
    student = student.clone().requires_grad_()
    found = multi_view(student, teacher, labels, draw_directions(3, 7, 1), margin)
    (100 * found.histogram + 50 * found.contrastive).backward()
    return torch.stack(found).detach(), student.grad


@pytest.mark.thinned(2)
@pytest.mark.parametrize("margin", [0.012, 0.2])
@pytest.mark.parametrize("shape", [(6, 2, 1), (5, 1, 2), (1, 2, 2)])
def test_loss_and_gradient_follow_the_definition(margin, shape):
    student, teacher = maps(5, *shape)
    parts, gradient = loss_and_gradient(student, teacher, margin)
    directions = draw_directions(3, 7, 1).numpy()
    args = teacher.numpy(), LABELS.tolist(), directions, margin
    np.testing.assert_allclose(parts, by_hand(student.numpy(), *args), rtol=1e-9, atol=1e-15)
    moved = slope(lambda s: np.dot((100, 50), by_hand(s, *args)), student.numpy())
    np.testing.assert_allclose(gradient, moved, rtol=1e-8, atol=1e-9)


def test_some_unlike_pairs_are_nearer_than_the_margin_and_some_are_not():
    student, teacher = (m.numpy() for m in maps())
    direction = draw_directions(3, 7, 1).numpy()[0]
    distances = [
        ((histogram(a, direction) - histogram(b, direction)) ** 2).sum()
        for a in student
        for b in teacher
    ]
    assert min(distances) < 0.2 < max(distances)


def test_autograd_agrees_with_numeric_differences():
    student, teacher = maps(4, 4, 2, 2)
    directions = draw_directions(2, 0, 0)
    assert torch.autograd.gradcheck(
        lambda s: tuple(multi_view(s, teacher, LABELS[:4], directions, 0.2)),
        student.requires_grad_(),
    )


def test_the_mass_of_every_view_is_one():
    for found in histograms(*maps(), draw_directions(12, 0, 0)):
        assert found.shape == (12, 5, 3)
        torch.testing.assert_close(found.sum(2), torch.ones(12, 5, dtype=torch.float64))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_view_along_an_axis_cuts_that_axis(axis):
    shape = torch.Size((8, 8, 8))
    direction = torch.zeros(1, 3, dtype=torch.float64)
    direction[0, axis] = 1
    slab = assign(shape, direction).view(shape)
    line = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    expected = line.view([-1 if i == axis else 1 for i in range(3)]).expand(shape)
    assert torch.equal(slab, expected)


def test_views_differ_from_one_another():
    slabs = assign(torch.Size((8, 4, 4)), draw_directions(12, 0, 0)).T
    assert len({tuple(view.tolist()) for view in slabs}) == 12
    # An unsorted cut would put consecutive elements into one slab.
    assert not any((view.diff() >= 0).all() for view in slabs)


def test_slabs_are_of_equal_width():
    directions = draw_directions(6, 3, 0)
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in (10, 5, 4)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    slabs = assign(torch.Size((10, 5, 4)), directions).T
    for view, slab in zip(directions @ points, slabs, strict=True):
        width = (view.max() - view.min()) / 5
        for k in range(5):
            inside = view[slab == k] - view.min()
            assert inside.min() >= k * width - 1e-12
            assert inside.max() <= (k + 1) * width + 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_lies_on_a_border_belongs_to_the_upper_slab(dtype):
    # On the diagonal of an odd grid the projection is a whole share of its range in every view.
    directions = draw_directions(50, 0, 0).abs().to(dtype)
    slabs = assign(torch.Size((33, 9, 9)), directions).view(33, 9, 9, 50)
    for step in range(9):
        assert slabs[4 * step, step, step].unique().tolist() == [min(2 * step, 15)]


@pytest.mark.parametrize("shape", [(8, 5, 4), (5, 3, 3), (6, 1, 2)])
def test_slabs_are_the_same_in_either_order_of_the_coordinates(shape):
    directions = draw_directions(6, 3, 0)
    plain = assign(torch.Size(shape), directions).view(*shape, 6)
    last = assign(torch.Size(shape), directions, last=True).view(*shape[1:], shape[0], 6)
    assert torch.equal(plain.permute(1, 2, 0, 3), last)


def test_equal_maps_have_no_distance():
    student, _ = maps()
    parts, _ = loss_and_gradient(student, student)
    assert parts[0] == 0


def test_size_does_not_matter():
    student, teacher = maps()
    torch.testing.assert_close(
        loss_and_gradient(3 * student, teacher)[0], loss_and_gradient(student, 0.5 * teacher)[0]
    )


def test_like_classes_attract_and_unlike_ones_repel():
    sample = torch.eye(4, dtype=torch.float64).view(4, 4, 1, 1) + 0.1
    labels = torch.tensor([0, 0, 1, 1])
    directions = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    apart = sample[[0, 0, 3, 3]]  # classes at either end of the channels
    mixed = sample[[0, 3, 0, 3]]
    assert (
        multi_view(apart, apart, labels, directions, 0.2).contrastive
        < multi_view(mixed, mixed, labels, directions, 0.2).contrastive
    )


@pytest.mark.parametrize("label", [0, 1])
def test_a_batch_of_one_class_has_no_contrast(label):
    student, teacher = maps()
    labels = torch.full((5,), label)
    parts, gradient = loss_and_gradient(student, teacher, labels=labels)
    assert parts[0] > 0
    assert parts[1] == 0
    _, mixed = loss_and_gradient(student, teacher)
    assert gradient.isfinite().all()
    assert not torch.equal(gradient, mixed)
    alone = multi_view(student[:1], teacher[:1], labels[:1], draw_directions(2, 0, 0))
    assert alone.contrastive == 0


def test_contrast_can_be_left_out():
    student, teacher = maps()
    directions = draw_directions(3, 7, 1)
    with_it = multi_view(student, teacher, LABELS, directions)
    without = multi_view(student, teacher, LABELS, directions, contrast=False)
    assert torch.equal(with_it.histogram, without.histogram)
    assert without.contrastive == 0
    assert with_it.contrastive > 0


def test_all_zero_samples_have_finite_bounded_gradients():
    student, teacher = (m.float() for m in maps())
    student[0] = teacher[1] = 0
    _, gradient = loss_and_gradient(student, teacher)
    assert gradient.isfinite().all()
    assert not gradient[0].any()
    tiny = loss_and_gradient(1e-20 * student, teacher)[1]
    assert tiny.abs().max() < 1e6


@pytest.mark.slow
def test_a_map_shorter_than_the_bound_has_the_gradient_of_what_is_computed():
    student, teacher = maps(5, 4, 2, 2)
    student *= 1e-4
    assert 0 < student.flatten(1).norm(dim=1).max() < 1e-3
    parts, gradient = loss_and_gradient(student, teacher, 0.2)
    args = teacher.numpy(), LABELS.tolist(), draw_directions(3, 7, 1).numpy(), 0.2
    np.testing.assert_allclose(parts, by_hand(student.numpy(), *args), rtol=1e-9)
    moved = slope(lambda s: np.dot((100, 50), by_hand(s, *args)), student.numpy(), step=1e-6)
    np.testing.assert_allclose(gradient, moved, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    student, teacher = (m.float() for m in maps())
    directions = draw_directions(3, 7, 1)
    full = multi_view(student, teacher, LABELS, directions)
    with torch.autocast("cpu", dtype):
        mixed = multi_view(student, teacher, LABELS, directions)
        low = multi_view(student.to(dtype), teacher, LABELS, directions)
    for part, whole, rounded in zip(mixed, full, low, strict=True):
        assert torch.equal(part, whole)
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, whole, rtol=2e-2, atol=0)


def test_single_precision_is_enough_for_samples_that_are_nearly_alike():
    generator = torch.Generator().manual_seed(1)
    common, own = torch.rand(2, 2, 5, 256, 4, 4, generator=generator, dtype=torch.float64)
    student, teacher = common[:1, :1] + 0.02 * own  # samples that are nearly alike
    wide = loss_and_gradient(student, teacher, 0.012)[0]
    single = loss_and_gradient(student.float(), teacher.float(), 0.012)[0]
    torch.testing.assert_close(single.double(), wide, rtol=1e-3, atol=0)


def test_memory_format_changes_nothing():
    student, teacher = maps()
    last = [m.to(memory_format=torch.channels_last) for m in (student, teacher)]
    wanted = loss_and_gradient(student, teacher)
    for pair in (last, (student, last[1]), (last[0], teacher)):
        for ours, expected in zip(loss_and_gradient(*pair), wanted, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-15)


def test_directions_are_unit_vectors_drawn_anew_for_every_step():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = draw_directions(12, 5, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(12, dtype=torch.float64))
    assert torch.equal(first, draw_directions(12, 5, 0))
    for other in (draw_directions(12, 5, 1), draw_directions(12, 6, 0)):
        assert not torch.equal(first, other)
    many = draw_directions(4000, 0, 0)
    assert many.mean(0).abs().max() < 0.05
    assert (many.T @ many / 4000 - torch.eye(3) / 3).abs().max() < 0.03


def test_the_teacher_is_a_constant():
    student, teacher = maps()
    parts = multi_view(student, teacher.requires_grad_(), LABELS, draw_directions(2, 0, 0))
    assert not sum(parts).requires_grad


def test_maps_of_different_shapes_are_refused():
    student, teacher = maps()
    with pytest.raises(ValueError, match="different shapes"):
        multi_view(student, teacher[:, :2], LABELS, draw_directions(1, 0, 0))
