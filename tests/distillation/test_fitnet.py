import naive_losses
import pytest
import torch
from pairs import LABELS, made, student_output, teacher_output, total
from torch.func import functional_call

from tokd_lightning.distillation import FitNet
from tokd_lightning.distillation.fitnet import Regressor, hint


@pytest.mark.parametrize("grid", [(3, 3), (5, 4), (2, 2)])
def test_the_hint_is_the_mean_squared_error_on_the_smaller_grid(grid):
    torch.manual_seed(0)
    student = torch.randn(2, 3, *grid, dtype=torch.float64)
    teacher = torch.randn(2, 3, 3, 3, dtype=torch.float64)

    def naive(s):
        ours, theirs = naive_losses.one_grid(s, teacher.numpy())
        return ((ours - theirs) ** 2).sum() / theirs.size

    naive_losses.assert_loss_and_gradient(lambda s: hint(s, teacher), naive, [student])


@pytest.mark.parametrize("grid", [(3, 3), (5, 4), (2, 2)])
@pytest.mark.parametrize("rectify", ["always", "never"])
def test_loss_and_gradient_are_those_of_the_definition(grid, rectify):
    distiller = made(
        FitNet,
        {16: (2, *grid)},
        {16: (3, 3, 3)},
        rectify=rectify,
        branches="rgb",
        weight=1.0,
    )
    torch.manual_seed(0)
    student = torch.randn(3, 2, *grid, dtype=torch.float64)
    teacher = torch.randn(3, 3, 3, 3, dtype=torch.float64)
    head = distiller.heads["rgb"]["16"]
    names = ["convolution.weight", "norm.weight", "norm.bias"]
    parameters = [head.get_parameter(name) for name in names]
    assert len(list(head.parameters())) == 3
    with torch.no_grad():
        parameters[1].copy_(torch.tensor([0.5, 2.0, -1.0]))
        parameters[2].copy_(torch.tensor([0.2, -0.3, 0.4]))

    def loss(s, *values):
        wrapper = torch.nn.Module()
        wrapper.head = head
        wrapper.forward = lambda: distiller.compare(s, teacher, head)
        given = {f"head.{name}": v for name, v in zip(names, values, strict=True)}
        return functional_call(wrapper, given, ())

    def naive(s, weight, scale, shift):
        relu = rectify == "always"
        return naive_losses.hint(s, teacher.numpy(), weight[:, :, 0, 0], scale, shift, relu)

    naive_losses.assert_loss_and_gradient(loss, naive, [student, *parameters])


def test_relu_follows_where_the_teachers_map_has_no_negative_entry():
    student, teacher = torch.randn(4, 2, 3, 3), torch.randn(4, 3, 3, 3)
    plain, rectified = Regressor(2, 3), Regressor(2, 3)
    assert plain(student, teacher).min() < 0
    assert rectified(student, teacher.relu()).min() == 0
    # What the first map has decided stays.
    assert plain(student, teacher.relu()).min() < 0
    assert rectified(student, teacher).min() == 0


@pytest.mark.parametrize("rectified", [True, False])
def test_the_decision_is_part_of_the_state(rectified):
    student, teacher = torch.randn(4, 2, 3, 3), torch.randn(4, 3, 3, 3)
    first, second = Regressor(2, 3), Regressor(2, 3)
    second.load_state_dict(first.state_dict())
    assert second.rectified is None
    first(student, teacher.relu() if rectified else teacher)
    second.load_state_dict(first.state_dict())
    assert second.rectified is rectified


def test_a_regressor_may_be_told():
    student, teacher = torch.randn(4, 2, 3, 3), torch.randn(4, 3, 3, 3)
    assert Regressor(2, 3, "always")(student, teacher).min() == 0
    assert Regressor(2, 3, "never")(student, teacher.relu()).min() < 0
    with pytest.raises(ValueError, match="rectify 'sometimes' is not one of"):
        made(FitNet, rectify="sometimes")


def test_the_loss_is_zero_where_the_regressor_has_learned_the_map():
    student = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    regressor = Regressor(2, 3, "never").double()
    predicted = regressor(student, student).detach()
    assert hint(regressor(student, predicted), predicted) < 1e-30


def test_branches_learn_apart():
    distiller = made(FitNet)
    student, teacher = student_output(), teacher_output()
    losses = distiller(student, teacher, LABELS)
    for branch, maps in (("rgb", teacher.rgb), ("frequency", teacher.frequency)):
        predicted = distiller.heads[branch]["16"](student.maps[16], maps[16])
        expected = 100 * (predicted - maps[16]).square().mean()
        torch.testing.assert_close(losses[branch], expected)
    total(losses).backward()
    gradients = [distiller.heads[b]["16"].convolution.weight.grad for b in ("rgb", "frequency")]
    assert all(g.abs().max() > 0 for g in gradients)
    assert not torch.equal(*gradients)


def test_dead_maps_send_back_bounded_gradients():
    distiller = made(FitNet).float()
    student, teacher = student_output(dtype=torch.float32), teacher_output(dtype=torch.float32)
    with torch.no_grad():
        student.maps[16].zero_()
    total(distiller(student, teacher, LABELS)).backward()
    assert all(p.grad.isfinite().all() for p in distiller.parameters())
    assert student.maps[16].grad.abs().max() < 1e4
