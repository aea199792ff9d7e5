import math

import naive_losses
import numpy as np
import pytest
import torch
from pairs import LABELS, made, student_output, teacher_output, total
from torch.func import functional_call

from tokd_lightning.distillation import VID
from tokd_lightning.distillation.variational import VariationalHead, variational


def head_and_maps(grid=(3, 3)):
    torch.manual_seed(0)
    head = VariationalHead(2, 3).double()
    with torch.no_grad():
        head.spread.copy_(torch.tensor([5.0, -2.0, 0.3]))
        for convolution in (head.mean[2], head.mean[4]):
            convolution.weight.abs_()  # ReLU must not silence all of it
    student = torch.randn(3, 2, *grid, dtype=torch.float64)
    return head, student, torch.randn(3, 3, 3, 3, dtype=torch.float64)


@pytest.mark.parametrize("grid", [(3, 3), (5, 4), (2, 2)])
def test_loss_and_gradient_are_those_of_the_definition(grid):
    head, student, teacher = head_and_maps(grid)
    names = ["mean.0.weight", "mean.2.weight", "mean.4.weight", "spread"]
    assert names == sorted(dict(head.named_parameters()), key=names.index)

    def loss(s, *parameters):
        return functional_call(head, dict(zip(names, parameters, strict=True)), (s, teacher))

    def naive(s, *parameters):
        weights = [p[:, :, 0, 0] if p.ndim == 4 else p for p in parameters]
        return naive_losses.variational(s, teacher.numpy(), *weights)

    parameters = [head.get_parameter(name) for name in names]
    naive_losses.assert_loss_and_gradient(loss, naive, [student, *parameters])


def test_the_variance_starts_at_five_and_is_learned():
    head = VariationalHead(2, 3).double()
    torch.testing.assert_close(head.variance(), torch.full((3,), 5.0).double(), rtol=1e-7, atol=0)
    assert head.spread.requires_grad
    _, student, teacher = head_and_maps()
    head(student, teacher).backward()
    assert head.spread.grad.abs().min() > 0


def test_the_variance_stays_positive():
    head = VariationalHead(2, 3)
    with torch.no_grad():
        head.spread.fill_(-200.0)
    assert head.variance().min() >= 1e-5 * (1 - 1e-6)


def test_the_least_value_is_half_the_mean_log_variance():
    target = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    variance = torch.tensor([0.5, 2.0, 5.0], dtype=torch.float64)
    expected = np.log([0.5, 2.0, 5.0]).mean() / 2
    assert float(variational(target, target, variance)) == pytest.approx(expected, rel=1e-12)
    assert variational(target + 0.1, target, variance) > expected


def test_the_best_variance_of_a_channel_is_its_mean_squared_error():
    mean, target = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64).unbind(0)
    best = (mean - target).square().mean((0, 2, 3)).requires_grad_()
    (gradient,) = torch.autograd.grad(variational(mean, target, best), [best])
    assert gradient.abs().max() < 1e-15


def test_values_by_hand():
    mean, target = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0)
    found = variational(mean, target, torch.tensor([4.0]))
    assert float(found) == pytest.approx((4 / 4 + math.log(4)) / 2)


def test_taps_are_added_and_branches_learn_apart():
    distiller = made(VID)
    student, teacher = student_output(), teacher_output()
    losses = distiller(student, teacher, LABELS)
    for branch, maps in (("rgb", teacher.rgb), ("frequency", teacher.frequency)):
        heads = distiller.heads[branch]
        expected = sum(heads[str(tap)](student.maps[tap], maps[tap]) for tap in (16, 32))
        torch.testing.assert_close(losses[branch], expected)
    parameters = [id(p) for p in distiller.parameters()]
    assert len(set(parameters)) == 2 * 2 * 4
    total(losses).backward()
    for name, parameter in distiller.named_parameters():
        if name.endswith("spread"):
            assert parameter.grad.abs().min() > 0


def test_dead_maps_send_back_finite_gradients():
    distiller = made(VID).float()
    student, teacher = student_output(dtype=torch.float32), teacher_output(dtype=torch.float32)
    with torch.no_grad():
        for maps in (student.maps, teacher.rgb, teacher.frequency):
            for m in maps.values():
                m.zero_()
    total(distiller(student, teacher, LABELS)).backward()
    assert all(p.grad.isfinite().all() for p in distiller.parameters())
    assert student.maps[32].grad.abs().max() < 1e3
