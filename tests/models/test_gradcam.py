import pytest
import torch
from torch import nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher, Student, StudentOutput
from tokd_lightning.models.gradcam import grad_cam


def heat(network, x, stride=32):
    _, [found] = grad_cam(network, x, (stride,))
    return found.values


@pytest.fixture
def student(settle):
    return settle(Student("test_resnet"))


def test_on_the_last_map_of_a_student_it_is_the_class_activation_map(student, photographs):
    output = student(photographs)
    weight = student.classifier.weight
    cam = torch.einsum("c,bchw->bhw", weight[1] - weight[0], output.maps[32])
    ours = heat(student, photographs)
    torch.testing.assert_close(ours, (cam / cam[0].numel()).detach())
    assert (ours != 0).any()


def test_on_other_maps_the_weights_are_those_of_finite_differences(student, photographs):
    """A step along one channel everywhere: the score's change is hw times its weight."""
    student, x, step, stride = student.double(), photographs[:1, :, :64, :64].double(), 1e-6, 8
    at = student(x).maps[stride].detach()
    channels, places = at.shape[1], at[0, 0].numel()
    steps = step * torch.cat([torch.eye(channels), -torch.eye(channels)])[:, :, None, None]
    stage = student.backbone.stages[student.backbone.strides.index(stride)]
    hook = stage.register_forward_hook(lambda module, args, output: output + steps)
    with torch.no_grad():
        logits = student(x.expand(2 * channels, -1, -1, -1)).logits
    hook.remove()
    up, down = (logits[:, 1] - logits[:, 0]).chunk(2)
    expected = torch.einsum("c,bchw->bhw", (up - down) / (2 * step * places), at)
    torch.testing.assert_close(heat(student, x, stride), expected, rtol=1e-4, atol=1e-10)


class Corner(nn.Module):
    """Calls fake what is bright in the upper left quarter; it sees nothing else."""

    def forward(self, x):
        pooled = functional.avg_pool2d(x.mean(1, keepdim=True), 8)
        mask = torch.zeros_like(pooled)
        mask[..., : pooled.shape[2] // 2, : pooled.shape[3] // 2] = 1
        maps = pooled * mask
        seen = maps.mean((1, 2, 3))
        return StudentOutput(torch.stack([-seen, seen], 1), {32: maps})


def test_a_network_that_looks_at_one_corner_has_its_heat_there():
    found = heat(Corner(), torch.rand(3, 3, 64, 64) + 0.1)
    assert bool((found[:, :4, :4] > 0).all())
    assert bool((found[:, 4:] == 0).all())
    assert bool((found[:, :, 4:] == 0).all())


def test_a_common_part_of_both_logits_leaves_no_heat(student, photographs):
    before = heat(student, photographs)
    with torch.no_grad():
        student.classifier.weight += torch.randn(student.classifier.weight.shape[1])
    torch.testing.assert_close(heat(student, photographs), before, atol=1e-5, rtol=1e-4)


def test_each_image_of_a_batch_has_the_heat_it_has_alone(student, photographs):
    student, photographs = student.double(), photographs.double()
    for stride in (8, 32):
        together = heat(student, photographs, stride)
        alone = torch.cat([heat(student, image[None], stride) for image in photographs])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("branches", "names"), [("both", ["rgb", "frequency"]), ("frequency", ["frequency"])]
)
def test_a_teacher_has_a_map_of_each_branch(settle, photographs, branches, names):
    teacher = settle(DualBranchTeacher("test_resnet", pretrained=False, branches=branches))
    logits, heats = grad_cam(teacher, photographs, (16, 32))
    assert [(h.branch, h.stride) for h in heats] == [(n, s) for n in names for s in (16, 32)]
    output = teacher(photographs)
    torch.testing.assert_close(logits, output.logits.detach())
    weight = teacher.classifier.weight[1] - teacher.classifier.weight[0]
    for part, found in zip(weight.chunk(len(names)), heats[1::2], strict=True):
        cam = torch.einsum("c,bchw->bhw", part, getattr(output, found.branch)[32])
        torch.testing.assert_close(found.values, (cam / cam[0].numel()).detach())


def test_frozen_weights_and_inference_mode_are_no_obstacle(student, photographs):
    before = heat(student, photographs)
    student.requires_grad_(False)
    with torch.inference_mode():
        torch.testing.assert_close(heat(student, photographs), before)
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_stride_without_a_map_is_named(student, photographs):
    with pytest.raises(TokdError, match="no map at stride 4: it has 8, 16, 32"):
        grad_cam(student, photographs, (4,))
