import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokd_lightning.frequency import high_pass
from tokd_lightning.models.outputs import TeacherOutput
from tokd_lightning.models.rfam import RFAM, Attention
from tokd_lightning.models.teacher import DualBranchTeacher

Settle = Callable[[nn.Module], Any]

TINY = {"backbone": "test_resnet", "pretrained": False}


def by_hand(teacher: DualBranchTeacher, x: Tensor, stages_per_rfam: list[int]) -> TeacherOutput:
    """Run the branches apart and let RFAM k step in after stage ``stages_per_rfam[k]``."""
    rgb, frequency = x, high_pass(x, teacher.spec["cutoff"])
    rfams = list(teacher.rfams.values())
    out = TeacherOutput(torch.empty(0), {}, {})
    for index, stride in enumerate(teacher.rgb.strides):
        rgb, frequency = teacher.rgb.stages[index](rgb), teacher.frequency.stages[index](frequency)
        if index in stages_per_rfam:
            rgb, frequency = rfams[stages_per_rfam.index(index)](rgb, frequency)
        out.rgb[stride], out.frequency[stride] = rgb, frequency
    pooled = torch.cat([rgb.mean(dim=(2, 3)), frequency.mean(dim=(2, 3))], dim=1)
    logits = pooled @ teacher.classifier.weight.T + teacher.classifier.bias
    return out._replace(logits=logits)


def assert_equal(ours: TeacherOutput, expected: TeacherOutput) -> None:
    torch.testing.assert_close(ours.logits, expected.logits)
    for maps, theirs in ((ours.rgb, expected.rgb), (ours.frequency, expected.frequency)):
        assert list(maps) == [8, 16, 32]
        for stride in maps:
            torch.testing.assert_close(maps[stride], theirs[stride])


@torch.no_grad()
def test_rfams_couple_the_branches_after_every_stage(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY))
    assert_equal(teacher(photographs), by_hand(teacher, photographs, [0, 1, 2]))


@torch.no_grad()
def test_xceptions_rfams_follow_block3_block11_and_act4(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(pretrained=False))
    assert list(teacher.rfams) == ["1", "2", "3"]
    assert_equal(teacher(photographs), by_hand(teacher, photographs, [1, 2, 3]))
    assert teacher.shapes(299) == {8: (256, 37, 37), 16: (728, 19, 19), 32: (2048, 10, 10)}


def test_the_branches_are_separate_networks():
    teacher = DualBranchTeacher(**TINY)
    ids = {id(p) for p in teacher.rgb.parameters()}
    assert not ids & {id(p) for p in teacher.frequency.parameters()}
    assert not torch.equal(next(teacher.rgb.parameters()), next(teacher.frequency.parameters()))


@torch.no_grad()
def test_the_frequency_branch_does_not_see_the_mean_of_the_image(
    settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher(**TINY, rfam="none"))
    one, two = teacher(photographs), teacher(photographs + 1)
    torch.testing.assert_close(one.frequency[32], two.frequency[32], rtol=1e-3, atol=1e-4)
    assert (one.rgb[32] - two.rgb[32]).abs().max() > 1e-2


@torch.no_grad()
def test_the_cutoff_reaches_the_filter(settle: Settle, photographs: Tensor):
    torch.manual_seed(0)
    teacher = settle(DualBranchTeacher(**TINY, cutoff=0.0, rfam="none"))
    teacher.frequency.load_state_dict(teacher.rgb.state_dict())
    out = teacher(photographs)
    torch.testing.assert_close(out.rgb[32], out.frequency[32])


def test_every_parameter_learns(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY)).train()
    teacher(photographs).logits.square().sum().backward()
    idle = [n for n, p in teacher.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("rfam", ["spatial", "elementwise", "none"])
def test_spec_rebuilds_the_network_through_a_checkpoint(
    rfam: Attention, settle: Settle, photographs: Tensor
):
    teacher = settle(DualBranchTeacher(**TINY, cutoff=0.2, rfam=rfam, num_classes=3))
    file = io.BytesIO()
    torch.save({"spec": teacher.spec, "state": teacher.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    rebuilt = DualBranchTeacher(**checkpoint["spec"])
    rebuilt.load_state_dict(checkpoint["state"])
    assert rebuilt.spec == teacher.spec
    with torch.no_grad():
        logits = rebuilt.eval()(photographs).logits
        assert logits.shape == (2, 3)
        assert torch.equal(logits, teacher(photographs).logits)


def test_shapes_are_those_of_both_branches_and_touch_nothing(photographs: Tensor):
    teacher = DualBranchTeacher(**TINY).train()
    before, rng = copy.deepcopy(teacher.state_dict()), torch.get_rng_state()
    shapes = teacher.shapes(96)
    assert torch.equal(rng, torch.get_rng_state())
    assert all(module.training for module in teacher.modules())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    out = teacher(photographs)
    for maps in (out.rgb, out.frequency):
        assert {stride: tuple(x.shape[1:]) for stride, x in maps.items()} == shapes


@torch.no_grad()
def test_runs_under_autocast_and_in_bfloat16(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY))
    exact = teacher(photographs).logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = teacher(photographs).logits
    half = copy.deepcopy(teacher).to(torch.bfloat16)(photographs.bfloat16()).logits
    assert half.dtype == torch.bfloat16
    for logits in (mixed, half):
        assert (logits.float() - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_takes_channels_last_images(settle: Settle, photographs: Tensor):
    teacher = settle(DualBranchTeacher(**TINY)).to(memory_format=torch.channels_last)
    expected = teacher(photographs).logits
    last = photographs.to(memory_format=torch.channels_last)
    torch.testing.assert_close(teacher(last).logits, expected, rtol=1e-4, atol=1e-5)


def test_an_rfam_stands_at_each_coupled_stage():
    teacher = DualBranchTeacher(**TINY, rfam="elementwise")
    assert [type(m) for m in teacher.rfams.values()] == [RFAM] * 3
