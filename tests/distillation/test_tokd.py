"""TOKD and Vanilla: losses, rotation, what is refused."""

import logging
from typing import Any

import pytest
import torch
from tiny_networks import LABELS, STUDENT, TEACHER, TinyStudent, made, teacher_output, total
from torch import Tensor
from torch.nn import functional

from tokd_lightning.distillation import TOKD, Vanilla
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import StudentOutput


@pytest.mark.parametrize("mode", ["frozen", "joint"])
def test_losses_and_gradients_equal_naive_separate_passes(
    student: TinyStudent, images: Tensor, mode: str
):
    tokd = made(teacher_projectors=mode, alpha_rgb=7.0, alpha_frequency=3.0, rotation_init="random")
    teacher = teacher_output()
    tokd(student(images), teacher, LABELS)  # calibrates
    losses = tokd(student(images), teacher, LABELS)
    total(losses).backward()
    v = tokd.take_gradients()
    assert v is not None
    found = {n: p.grad.clone() for n, p in (*student.named_parameters(), *tokd.named_parameters())
             if p.grad is not None}  # fmt: skip

    parameters = {n: p for n, p in (*student.named_parameters(), *tokd.named_parameters())
                  if p.requires_grad}  # fmt: skip
    sums = {n: torch.zeros_like(p) for n, p in parameters.items()}
    naive = {"ce": functional.cross_entropy(student(images).logits, LABELS)}
    maps = {}
    for number, branch in enumerate(("rgb", "frequency")):
        z = maps[branch] = student.backbone(images)
        flat = z.flatten(1)
        r = tokd.rotation.get_parameter(branch)
        m = torch.cat((flat[:, :12] @ r.T, flat[:, 12:]), 1).view(z.shape)
        ours = tokd.project[branch](m).flatten(1)
        stack = tokd.teacher_project.get_submodule(branch)
        theirs = stack((teacher.rgb, teacher.frequency)[number][32]).flatten(1)
        ours, theirs = (x / x.norm(dim=1, keepdim=True) for x in (ours, theirs))
        naive[branch] = tokd.weights[branch] * (ours - theirs).square().sum(1).mean()
    for name, loss in naive.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-12, atol=0)
        leaves = [*parameters.values(), *([maps[name]] if name in maps else [])]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        for key, gradient in zip(parameters, gradients, strict=False):
            sums[key] += 0 if gradient is None else gradient
        if name in maps:
            torch.testing.assert_close(v[name], gradients[-1].flatten(1), rtol=1e-10, atol=1e-15)
    assert found.keys() == sums.keys()
    for name, gradient in sums.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-14)


def test_cross_entropy_does_not_pass_through_the_rotation(student: TinyStudent, images: Tensor):
    losses, weights = [], []
    for init in ("identity", "random"):
        student.zero_grad()
        tokd = made(rotation_init=init)
        loss = tokd(student(images), teacher_output(), LABELS)["ce"]
        loss.backward()
        losses.append(loss.detach())
        weights.append(student.backbone.weight.grad.clone())
        assert all(p.grad is None for p in tokd.parameters())
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(weights[0], weights[1])


def test_identity_rotation_equals_no_rotation(student: TinyStudent, images: Tensor):
    results = []
    for rotation in ("learned", "none"):
        student.zero_grad()
        losses = made(rotation=rotation)(student(images), teacher_output(), LABELS)
        total(losses).backward()
        results.append((losses, student.backbone.weight.grad.clone()))
    for name, loss in results[0][0].items():
        assert torch.equal(loss, results[1][0][name])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-12, atol=1e-15)


def test_one_branch_forces_no_rotation_and_says_so(
    student: TinyStudent, images: Tensor, caplog: pytest.LogCaptureFixture
):
    for options in ({"branches": "frequency"}, {"alpha_rgb": 0.0}):
        caplog.clear()
        with caplog.at_level(logging.INFO, "tokd_lightning"):
            tokd = made(**options)
        assert "rotation none" in caplog.text
        assert tokd.rotation is None
        assert tokd.branches == "frequency"
        losses = tokd(student(images), teacher_output(), LABELS)
        assert losses.keys() == {"ce", "frequency"}
        assert tokd.take_gradients() is None


def test_rotation_is_learned_frozen_or_absent():
    assert made().rotation.learned
    control = made(rotation="frozen_random").rotation
    assert not control.learned
    assert not torch.equal(control.rgb, torch.eye(12).double())
    assert made(rotation="none").rotation is None


def test_gradients_are_compared_without_a_rotation_too(student: TinyStudent, images: Tensor):
    found = []
    for rotation in ("none", "learned"):
        tokd = made(rotation=rotation)
        total(tokd(student(images), teacher_output(), LABELS)).backward()
        found.append(tokd.gradient_diagnostics(tokd.take_gradients() or {}))
    for name in ("cosine_full_before", "cosine_full_after", "norm_ratio"):
        torch.testing.assert_close(found[0][name], found[1][name])


def test_without_projectors_maps_are_compared_directly(student: TinyStudent, images: Tensor):
    with pytest.raises(TokdError, match=r"6 channels and the teacher 8"):
        made(projectors="none")
    tokd = TOKD(STUDENT, {32: (6, 3, 3)}, projectors="none", dim=12).double()
    teacher = teacher_output(channels=6)
    losses = tokd(student(images), teacher, LABELS)
    cosine = functional.cosine_similarity(
        student(images).maps[32].flatten(1), teacher.rgb[32].flatten(1)
    )
    torch.testing.assert_close(losses["rgb"], 10 * (2 - 2 * cosine).mean())
    assert not [p for p in tokd.parameters() if p.requires_grad]


def test_grids_may_differ(student: TinyStudent, images: Tensor):
    for grid in (2, 5):
        losses = made()(student(images), teacher_output(grid=grid), LABELS)
        assert total(losses).isfinite()


def test_dead_student_maps_send_back_finite_gradients():
    tokd = made().float()
    z = torch.zeros(6, 6, 3, 3, requires_grad=True)
    output = StudentOutput(torch.zeros(6, 2, requires_grad=True), {32: z})
    total(tokd(output, teacher_output(dtype=torch.float32), LABELS)).backward()
    assert z.grad.isfinite().all()


def test_losses_are_float32_under_autocast():
    tokd, teacher = made().float(), teacher_output(dtype=torch.float32)
    z, logits = torch.randn(6, 6, 3, 3), torch.randn(6, 2)
    tokd(StudentOutput(logits, {32: z}), teacher, LABELS)
    tokd.eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = tokd(StudentOutput(logits.bfloat16(), {32: z.bfloat16()}), teacher, LABELS)
    full = tokd(StudentOutput(logits, {32: z}), teacher, LABELS)
    for name, loss in low.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name], rtol=2e-2, atol=2e-2)


def test_diagnostics_are_unweighted_and_detached(student: TinyStudent, images: Tensor):
    tokd = made(alpha_rgb=7.0)
    losses = tokd(student(images), teacher_output(), LABELS)
    found = tokd.diagnostics()
    torch.testing.assert_close(7 * found["distance_rgb"], losses["rgb"].detach())
    names = {f"variance_{side}_{b}" for side in ("student", "teacher") for b in tokd.weights}
    assert names | {"distance_rgb", "distance_frequency"} == found.keys()
    assert all(not value.requires_grad for value in found.values())
    assert all(0 < float(found[name]) < 1 for name in names)


def test_forward_draws_no_random_numbers_and_leaves_the_maps_alone(
    student: TinyStudent, images: Tensor
):
    tokd, teacher = made(), teacher_output()
    kept = {b: maps[32].clone() for b, maps in (("r", teacher.rgb), ("f", teacher.frequency))}
    before = torch.random.get_rng_state()
    tokd(student(images), teacher, LABELS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(kept["r"], teacher.rgb[32])
    assert torch.equal(kept["f"], teacher.frequency[32])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 55}, "2 to 54"),
        ({"alpha_rgb": -1.0}, "negative"),
        ({"alpha_rgb": 0.0, "branches": "rgb"}, "Vanilla"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(options: dict[str, Any], message: str):
    with pytest.raises(TokdError, match=message) as caught:
        made(**options)
    assert "\n" not in str(caught.value)


def test_unknown_choices_and_missing_maps_are_refused():
    with pytest.raises(ValueError, match="rotation 'learnt'"):
        made(rotation="learnt")
    with pytest.raises(TokdError, match=r"student has no feature map at stride 32 .*\[16\]"):
        TOKD({16: (4, 6, 6)}, TEACHER)
    with pytest.raises(ValueError, match="teacher"):
        made()(StudentOutput(torch.zeros(6, 2), {32: torch.zeros(6, 6, 3, 3)}), None, LABELS)


def test_vanilla_is_cross_entropy_with_class_weights(student: TinyStudent, images: Tensor):
    vanilla = Vanilla(STUDENT, {})
    output = student(images)
    expected = functional.cross_entropy(output.logits, LABELS)
    assert torch.equal(total(vanilla(output, None, LABELS)), expected)
    assert vanilla.branches == "none"
    assert vanilla.take_gradients() is None
    assert vanilla.diagnostics() == {}
    vanilla.class_weights = torch.tensor([4.0, 1.0])
    weighted = functional.cross_entropy(output.logits, LABELS, vanilla.class_weights.double())
    assert torch.equal(vanilla(output, None, LABELS)["ce"], weighted)
    assert not torch.equal(weighted, expected)
    assert not vanilla.state_dict()
