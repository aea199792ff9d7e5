import numpy as np
import pytest
import torch
from add_reference import energies, slope, weights
from add_reference import frequency_attention as by_hand
from torch import Tensor

from tokd_lightning.distillation.frequency_attention import frequency_attention


def maps(batch: int = 2, channels: int = 3, height: int = 3, width: int = 4):
    generator = torch.Generator().manual_seed(0)
    shape = (2, batch, channels, height, width)
    return torch.randn(shape, generator=generator, dtype=torch.float64).unbind()


def loss_and_gradient(student: Tensor, teacher: Tensor, **options):
    student = student.clone().requires_grad_()
    loss = frequency_attention(student, teacher, **options)
    loss.backward()
    return loss.detach(), student.grad


@pytest.mark.thinned(4)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("transform", ["fft", "dct"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_loss_and_gradient_follow_the_definition(gamma, transform, relative):
    student, teacher = maps()
    loss, gradient = loss_and_gradient(
        student, teacher, gamma=gamma, transform=transform, relative=relative
    )
    expected = by_hand(student.numpy(), teacher.numpy(), gamma, transform, relative)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    # The weight is a constant of the gradient.
    kept = [
        weights(energies(t - s, transform), gamma, relative)
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    moved = slope(
        lambda s: by_hand(s, teacher.numpy(), gamma, transform, relative, kept), student.numpy()
    )
    np.testing.assert_allclose(gradient, moved, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("transform", ["fft", "dct"])
@pytest.mark.parametrize("relative", [False, True])
def test_gamma_0_is_the_mean_squared_error_times_the_channels(transform, relative):
    student, teacher = maps(channels=5, height=6, width=3)
    loss = frequency_attention(student, teacher, 0.0, transform, relative)
    torch.testing.assert_close(loss, 5 * (student - teacher).square().mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_numeric_differences_agree_where_there_is_no_weight(gamma):
    student, teacher = maps(1, 2, 3, 3)
    student.requires_grad_()
    agree = torch.autograd.gradcheck(
        lambda s: frequency_attention(s, teacher, gamma), student, raise_exception=False
    )
    assert agree is (gamma == 0)  # the differences see the weight move


def test_equal_maps_give_zero_and_no_gradient():
    for relative in (False, True):
        loss, gradient = loss_and_gradient(*[maps()[0]] * 2, relative=relative)
        assert loss == 0
        assert not gradient.any()


def test_larger_gaps_in_frequency_weigh_more():
    y = torch.linspace(0, 2 * torch.pi, 9, dtype=torch.float64)[:-1]
    wave, flat = torch.sin(3 * y).expand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    for relative in (False, True):
        one = frequency_attention(flat, wave, 1.0, relative=relative)
        plain = frequency_attention(flat, wave, 0.0)
        twice = frequency_attention(flat, 2 * wave, 1.0, relative=relative)
        assert one > plain
        if relative:  # the weight does not know the size
            torch.testing.assert_close(twice, 4 * one)
        else:
            assert twice > 4 * one


def test_large_gaps_stay_finite():
    student, teacher = (1e3 * m.float() for m in maps())
    for relative in (False, True):
        loss, gradient = loss_and_gradient(student, teacher, relative=relative)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_all_zero_samples_have_finite_bounded_gradients():
    student, teacher = maps()
    student[0] = teacher[0] = 0
    for relative in (False, True):
        gradient = loss_and_gradient(student.float(), teacher.float(), relative=relative)[1]
        assert not gradient[0].any()
        assert gradient.abs().max() < 100


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("transform", ["fft", "dct"])
def test_autocast_changes_nothing(dtype, transform):
    student, teacher = (m.float() for m in maps())
    full = frequency_attention(student, teacher, transform=transform)
    with torch.autocast("cpu", dtype):
        mixed = frequency_attention(student, teacher, transform=transform)
        low = frequency_attention(student.to(dtype), teacher, transform=transform)
    assert torch.equal(mixed, full)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=1e-2, atol=0)


def test_memory_format_changes_nothing():
    student, teacher = maps()
    last = [m.to(memory_format=torch.channels_last) for m in (student, teacher)]
    for ours, expected in zip(
        loss_and_gradient(*last), loss_and_gradient(student, teacher), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_unknown_transforms_and_other_shapes_are_refused():
    student, teacher = maps()
    with pytest.raises(ValueError, match="transform 'dft'"):
        frequency_attention(student, teacher, transform="dft")
    with pytest.raises(ValueError, match="different shapes"):
        frequency_attention(student, teacher[:, :2])
