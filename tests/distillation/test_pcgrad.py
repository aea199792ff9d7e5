import math

import pytest
import torch
from tiny_networks import LABELS, TinyStudent, made, teacher_output, total

from tokd_lightning.distillation.gradients import BranchGradients, project_conflict


def reference(first, second):
    """PCGrad of two tasks, sample by sample, in plain loops."""
    projected = []
    for mine, other in ((first, second), (second, first)):
        rows = []
        for g, h in zip(mine.flatten(1).tolist(), other.flatten(1).tolist(), strict=True):
            dot = sum(a * b for a, b in zip(g, h, strict=True))
            square = sum(b * b for b in h)
            factor = dot / square if dot < 0 else 0.0
            rows.append([a - factor * b for a, b in zip(g, h, strict=True)])
        projected.append(torch.tensor(rows, dtype=torch.float64).view(first.shape))
    return projected


def pair(batch=6):
    torch.manual_seed(3)
    return torch.randn(2, batch, 4, 3, 2, dtype=torch.float64).unbind(0)


def test_projection_is_that_of_plain_loops():
    first, second = pair()
    assert ((first * second).flatten(1).sum(1) < 0).unique().numel() == 2, "both cases occur"
    for ours, theirs in zip(
        project_conflict([first, second]), reference(first, second), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_what_is_left_never_points_against_the_other_branch():
    first, second = pair(200)
    ours = project_conflict([first, second])
    for mine, other in ((ours[0], second), (ours[1], first)):
        assert (mine * other).flatten(1).sum(1).min() > -1e-12


def test_gradients_that_agree_pass_untouched():
    first, second = pair()
    agree = (first * second).flatten(1).sum(1) >= 0
    ours = project_conflict([first, second])
    assert torch.equal(ours[0][agree], first[agree])
    assert not torch.equal(ours[0][~agree], first[~agree])


def test_a_sample_does_not_depend_on_its_batch():
    first, second = pair()
    whole = project_conflict([first, second])[0]
    halves = [project_conflict([first[part], second[part]])[0] for part in ([0, 1], [2, 3, 4, 5])]
    assert torch.equal(whole, torch.cat(halves))


@pytest.mark.parametrize("scale", [2.0**16, 2.0**-60])
def test_a_loss_scale_passes_through(scale):
    first, second = (g.float() for g in pair())
    plain = project_conflict([first, second])
    scaled = project_conflict([first * scale, second * scale])
    for ours, theirs in zip(scaled, plain, strict=True):
        torch.testing.assert_close(ours / scale, theirs)


def test_zero_gradients_stay_finite_and_leave_the_other_alone():
    first, _ = pair()
    ours = project_conflict([first, torch.zeros_like(first)])
    assert torch.equal(ours[0], first)
    assert torch.equal(ours[1], torch.zeros_like(first))


def test_what_is_not_finite_stays_so_that_the_scaler_sees_it():
    first, second = pair()
    first[0, 0, 0, 0] = math.inf
    assert not torch.stack(project_conflict([first, second])).sum(0)[0].isfinite().all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_backward_through_the_map_sums_the_projected_gradients(layout):
    g = pair()
    z = torch.randn(6, 4, 3, 2, dtype=torch.float64).contiguous(memory_format=layout)
    z.requires_grad_()
    watched = BranchGradients(("rgb", "frequency"), "pcgrad")
    maps = watched.aliases(z * 1)
    loss = (maps["rgb"] * g[0]).sum() + (maps["frequency"] * g[1]).sum()
    loss.backward()
    torch.testing.assert_close(z.grad, sum(reference(*g)), rtol=1e-12, atol=1e-14)
    kept = watched.pop()
    assert torch.equal(kept["rgb"], g[0].flatten(1)), "what arrived is kept, not what is left"
    assert torch.equal(kept["frequency"], g[1].flatten(1))


@pytest.mark.parametrize("rotation", ["none", "learned", "frozen_random"])
def test_tokd_sends_projected_gradients_into_the_backbone_and_raw_ones_to_its_heads(rotation):
    x, teacher = torch.randn(6, 3, 3, 3, dtype=torch.float64), teacher_output()

    def backward(conflict, keep=("ce", "rgb", "frequency")):
        torch.manual_seed(0)
        student = TinyStudent().double()
        tokd = made(rotation=rotation, conflict=conflict)
        output = student(x)
        output.maps[32].retain_grad()
        losses = tokd(output, teacher, LABELS)
        total({name: loss for name, loss in losses.items() if name in keep}).backward()
        heads = [p.grad for p in tokd.parameters() if p.grad is not None]
        return output.maps[32].grad, heads

    ce, rgb, frequency = (backward("none", (n,))[0] for n in ("ce", "rgb", "frequency"))
    ours, heads = backward("pcgrad")
    torch.testing.assert_close(ours, ce + sum(reference(rgb, frequency)), rtol=1e-9, atol=1e-12)
    plain, same = backward("none")
    assert not torch.allclose(ours, plain)
    for a, b in zip(heads, same, strict=True):
        torch.testing.assert_close(a, b)


def test_an_unknown_choice_is_named():
    with pytest.raises(ValueError, match="conflict 'gradvac' is not one of"):
        made(conflict="gradvac")
