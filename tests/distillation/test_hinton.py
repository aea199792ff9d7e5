import naive_losses
import pytest
import torch
from pairs import LABELS, made, student_output, teacher_output
from torch.nn import functional

from tokd_lightning.distillation import Hinton
from tokd_lightning.distillation.hinton import hinton
from tokd_lightning.errors import TokdError


def logits(classes=2, batch=5, scale=3.0):
    torch.manual_seed(classes)
    return (scale * torch.randn(2, batch, classes, dtype=torch.float64)).unbind(0)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_and_gradient_are_those_of_the_definition(classes, temperature):
    student, teacher = logits(classes)
    naive_losses.assert_loss_and_gradient(
        lambda s: hinton(s, teacher, temperature),
        lambda s: naive_losses.hinton(s, teacher.numpy(), temperature),
        [student],
    )


def test_two_classes_by_hand():
    # softmax gives 3/4, 1/4 against 1/2, 1/2 at T = 2.
    teacher = 2 * torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    expected = 4 * (0.75 * torch.tensor(1.5).double().log() + 0.25 * torch.tensor(0.5).log())
    found = hinton(torch.zeros(1, 2, dtype=torch.float64), teacher, 2.0)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


def test_each_samples_gradient_sums_to_zero_over_the_classes():
    student, teacher = logits(5)
    (gradient,) = torch.autograd.grad(hinton(student.requires_grad_(), teacher), [student])
    assert gradient.abs().min() > 0
    assert gradient.sum(1).abs().max() < 1e-15


def test_equal_logits_give_zero_and_so_do_shifted_ones():
    student, _ = logits(5)
    assert hinton(student, student) == 0
    assert hinton(student, student + 7).abs() < 1e-14


def test_at_high_temperature_it_is_the_distance_of_centred_logits():
    # The limit of Hinton et al., Sec. 2.1, which T^2 is there for.
    student, teacher = logits(5)
    centred = student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)
    expected = centred.square().sum(1).mean() / (2 * 5)
    torch.testing.assert_close(hinton(student, teacher, 1e4), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_compared_in_float32(dtype):
    student, teacher = (z.to(dtype) for z in logits(5))
    with torch.autocast("cpu", dtype):
        found = hinton(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hinton(student.float(), teacher.float()), rtol=0, atol=0)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[3e4, -3e4], [0.0, 0.0]], requires_grad=True)
    loss = hinton(student, -student.detach())
    (gradient,) = torch.autograd.grad(loss, [student])
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_the_losses_are_a_tenth_and_nine_tenths():
    student, teacher = student_output(), teacher_output(grad=True)
    losses = made(Hinton)(student, teacher, LABELS)
    ce = functional.cross_entropy(student.logits, LABELS)
    torch.testing.assert_close(losses["ce"], 0.1 * ce)
    torch.testing.assert_close(losses["kd"], 0.9 * hinton(student.logits, teacher.logits, 4.0))
    sum(losses.values()).backward()
    assert teacher.logits.grad is None
    assert student.logits.grad.abs().min() > 0
    distiller = made(Hinton, weight=2.0, ce_weight=0.0, temperature=1.0)
    losses = distiller(student, teacher, LABELS)
    assert losses["ce"] == 0
    torch.testing.assert_close(losses["kd"], 2 * distiller.diagnostics()["distance_logits"])


def test_it_is_one_column_and_needs_a_teacher():
    distiller = made(Hinton)
    assert (distiller.branches, distiller.weights, distiller.rotation) == ("none", {}, None)
    assert not distiller.state_dict()
    assert distiller.take_gradients() is None
    with pytest.raises(ValueError, match="needs the teacher"):
        distiller(student_output(), None, LABELS)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 0.0},
        {"ce_weight": -0.1},
        {"temperature": 0.0},
        {"weight": float("nan")},
        {"ce_weight": float("inf")},
        {"temperature": float("nan")},
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line(options):
    with pytest.raises(TokdError, match="above 0") as caught:
        made(Hinton, **options)
    assert "\n" not in str(caught.value)
