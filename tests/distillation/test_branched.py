"""What the methods that distil branch by branch have in common."""

import logging

import pytest
import torch
from pairs import (
    LABELS,
    MAPS,
    ROTATED,
    STUDENT,
    TEACHER,
    UNROTATED,
    made,
    student_output,
    teacher_output,
    total,
)

from tokd_lightning.distillation import (
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    FitNet,
    SimilarityPreserving,
)
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import StudentOutput

WEIGHTS = {AttentionTransfer: 1000, PKT: 30000, VID: 1, SimilarityPreserving: 3000, FitNet: 100}
TAPS = {
    AttentionTransfer: (8, 16, 32),
    PKT: (32,),
    VID: (16, 32),
    SimilarityPreserving: (32,),
    FitNet: (16,),
}
every = pytest.mark.parametrize("method", MAPS, ids=lambda m: m.__name__)


def losses_of(method, student=None, teacher=None, labels=LABELS, **options):
    student, teacher = student or student_output(), teacher or teacher_output()
    return made(method, **options)(student, teacher, labels)


@every
def test_weights_and_taps_are_the_usual_ones(method):
    distiller = made(method)
    assert distiller.weights == dict.fromkeys(("rgb", "frequency"), WEIGHTS[method])
    assert distiller.taps == TAPS[method]
    assert distiller.rotation is None


@every
def test_losses_are_named_weighted_and_added_over_taps(method):
    distiller = made(method, taps=[32, 8])
    student, teacher = student_output(), teacher_output()
    losses = distiller(student, teacher, LABELS)
    assert list(losses) == ["ce", "rgb", "frequency"]
    torch.testing.assert_close(
        losses["ce"], torch.nn.functional.cross_entropy(student.logits, LABELS)
    )
    for branch, maps in (("rgb", teacher.rgb), ("frequency", teacher.frequency)):
        parts = [
            distiller.compare(student.maps[tap], maps[tap], distiller.heads[branch][str(tap)])
            for tap in (8, 32)
        ]
        assert all(part.abs() > 0 for part in parts)
        torch.testing.assert_close(losses[branch], WEIGHTS[method] * sum(parts))
        torch.testing.assert_close(distiller.diagnostics()[f"distance_{branch}"], sum(parts))
    assert not any(value.requires_grad for value in distiller.diagnostics().values())


@every
@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_one_branch_has_the_loss_that_it_has_beside_the_other(method, branch):
    teacher = teacher_output()
    both, alone = made(method), made(method, branches=branch)
    alone.load_state_dict({k: v for k, v in both.state_dict().items() if f".{branch}." in k})
    assert alone.branches == branch
    found = alone(student_output(), teacher, LABELS)
    assert list(found) == ["ce", branch]
    torch.testing.assert_close(found[branch], both(student_output(), teacher, LABELS)[branch])
    assert alone.take_gradients() is None


@every
def test_mean_halves_the_losses_of_both_branches_and_of_none_alone(method):
    added, averaged = losses_of(method), losses_of(method, branch_reduce="mean")
    for branch in ("rgb", "frequency"):
        torch.testing.assert_close(2 * averaged[branch], added[branch])
    alone = [losses_of(method, branches="rgb", branch_reduce=r)["rgb"] for r in ("sum", "mean")]
    torch.testing.assert_close(*alone)


@every
def test_the_gradient_is_that_of_separate_passes_and_is_watched_at_the_deepest_tap(method):
    student, teacher = student_output(), teacher_output()
    distiller = made(method, weight=7.0)
    losses = distiller(student, teacher, LABELS)
    total(losses).backward()
    found = {stride: m.grad.clone() for stride, m in student.maps.items() if m.grad is not None}
    watched = distiller.take_gradients()
    assert set(found) == set(distiller.taps)
    sums = {stride: torch.zeros_like(g) for stride, g in found.items()}
    for branch in ("rgb", "frequency"):
        fresh = student_output()
        losses = distiller(fresh, teacher, LABELS)
        losses[branch].backward()
        for stride in sums:
            sums[stride] += fresh.maps[stride].grad
        last = fresh.maps[distiller.taps[-1]].grad.flatten(1)
        torch.testing.assert_close(watched[branch], last, rtol=1e-9, atol=1e-14)
    for stride, gradient in sums.items():
        torch.testing.assert_close(found[stride], gradient, rtol=1e-9, atol=1e-13)
    assert distiller.gradient_diagnostics(watched).keys() == {
        "cosine_full_before",
        "cosine_full_after",
        "norm_ratio",
    }


@every
def test_nothing_reaches_the_teacher(method):
    teacher = teacher_output(grad=True)
    kept = [m.detach().clone() for maps in (teacher.rgb, teacher.frequency) for m in maps.values()]
    total(losses_of(method, teacher=teacher)).backward()
    after = [m for maps in (teacher.rgb, teacher.frequency) for m in maps.values()]
    assert all(m.grad is None for m in after)
    assert all(torch.equal(a, b) for a, b in zip(kept, after, strict=True))


@every
def test_heads_are_separate_and_hold_what_is_learned(method):
    distiller = made(method)
    assert bool(distiller.state_dict()) == (method in (VID, FitNet))
    assert all(name.startswith("heads.") for name in distiller.state_dict())
    rgb, frequency = (
        {id(p) for p in distiller.heads[b].parameters()} for b in ("rgb", "frequency")
    )
    assert len(rgb) == len(frequency)
    assert not rgb & frequency


@every
def test_forward_draws_no_random_numbers(method):
    distiller = made(method)
    before = torch.get_rng_state()
    distiller(student_output(), teacher_output(), LABELS)
    assert torch.equal(torch.get_rng_state(), before)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(method, dtype):
    distiller = made(method).float()
    low, teacher = student_output(dtype=dtype), teacher_output(dtype=dtype)
    wide = StudentOutput(low.logits.float(), {s: m.float() for s, m in low.maps.items()})
    with torch.autocast("cpu", dtype):
        found = distiller(low, teacher, LABELS)
    expected = distiller(wide, teacher, LABELS)
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        torch.testing.assert_close(loss, expected[name], rtol=1e-6, atol=0)


@every
def test_channels_last_changes_nothing(method):
    student, teacher = student_output(), teacher_output()

    def last(maps):
        return {s: m.contiguous(memory_format=torch.channels_last) for s, m in maps.items()}

    turned = StudentOutput(student.logits, last(student.maps))
    other = teacher._replace(rgb=last(teacher.rgb), frequency=last(teacher.frequency))
    distiller = made(method)
    found = distiller(turned, other, LABELS)
    total(found).backward()
    for name, loss in distiller(student, teacher, LABELS).items():
        torch.testing.assert_close(found[name], loss, rtol=1e-10, atol=0)


@every
def test_a_dead_sample_sends_back_bounded_gradients(method):
    student, teacher = student_output(dtype=torch.float32), teacher_output(dtype=torch.float32)
    with torch.no_grad():
        for maps in (student.maps, teacher.rgb, teacher.frequency):
            for m in maps.values():
                m[1] = 0
    distiller = made(method, weight=1.0).float()
    total(distiller(student, teacher, LABELS)).backward()
    for tap in distiller.taps:
        assert student.maps[tap].grad.isfinite().all()
        assert student.maps[tap].grad.abs().max() < 1e3


@every
def test_a_batch_of_one_class_passes(method):
    losses = losses_of(method, labels=torch.ones(4, dtype=torch.int64))
    assert total(losses).isfinite()


# Rotation


@every
@pytest.mark.parametrize("shift", [1, 2])
def test_all_but_vid_and_fitnet_ignore_the_order_of_the_channels(method, shift):
    student, teacher = student_output(), teacher_output()
    rolled = {s: m.detach().roll(shift, 1).requires_grad_() for s, m in student.maps.items()}
    distiller = made(method)
    plain = distiller(student, teacher, LABELS)["rgb"]
    found = distiller(student._replace(maps=rolled), teacher, LABELS)["rgb"]
    same = torch.allclose(found, plain, rtol=1e-10, atol=0)
    assert same == (method not in (VID, FitNet))


@pytest.mark.parametrize("rotation", ["learned", "frozen_random"])
@pytest.mark.parametrize("method", UNROTATED, ids=lambda m: m.__name__)
def test_a_rotation_is_refused_where_it_changes_nothing_in_a_line_that_says_why(method, rotation):
    with pytest.raises(TokdError, match=rf"{method.__name__} cannot take rotation: {rotation}, be"):
        made(method, rotation=rotation)
    with pytest.raises(TokdError) as caught:
        made(method, rotation="learned")
    assert "\n" not in str(caught.value)
    assert ("the same under every rotation" in str(caught.value)) == (method in MAPS)
    with pytest.raises(ValueError, match="rotation 'learnt' is not one of"):
        made(method, rotation="learnt")


@pytest.mark.parametrize("method", ROTATED, ids=lambda m: m.__name__)
def test_a_rotation_stands_at_the_deepest_tap_and_moves_with_its_gradients(method):
    student, teacher = student_output(), teacher_output()
    distiller = made(method, rotation="learned", dim=8, rotation_init="random")
    losses = distiller(student, teacher, LABELS)
    total(losses).backward()
    v = distiller.take_gradients()
    z = student.maps[distiller.taps[-1]]
    torch.testing.assert_close(
        (v["rgb"] + v["frequency"]).view(z.shape), z.grad, rtol=1e-9, atol=1e-14
    )
    rows, target = distiller.rotation.rows(v, distiller.weights)
    assert rows["rgb"].shape == target.shape == (4, 8)
    assert all(not matrix.requires_grad for matrix in distiller.rotation.matrices().values())
    assert "cosine_rotated_after" in distiller.gradient_diagnostics(v)


@pytest.mark.parametrize("method", [FitNet, VID], ids=lambda m: m.__name__)
def test_heads_read_the_rotated_map_at_the_deepest_tap_alone(method):
    student, teacher = student_output(), teacher_output()
    distiller = made(method, taps=(16, 32), rotation="frozen_random", dim=8)
    assert not distiller.rotation.learned
    losses = distiller(student, teacher, LABELS)
    for branch, maps in (("rgb", teacher.rgb), ("frequency", teacher.frequency)):
        r = distiller.rotation.get_parameter(branch)
        flat = student.maps[32].flatten(1)
        m = torch.cat((flat[:, :8] @ r.T, flat[:, 8:]), 1).view(student.maps[32].shape)
        heads = distiller.heads[branch]
        expected = distiller.compare(student.maps[16], maps[16], heads["16"])
        expected = expected + distiller.compare(m, maps[32], heads["32"])
        torch.testing.assert_close(losses[branch], distiller.weights[branch] * expected)


@pytest.mark.parametrize("method", [FitNet, VID], ids=lambda m: m.__name__)
def test_an_identity_rotation_equals_none_and_one_branch_is_never_rotated(method, caplog):
    for name, loss in losses_of(method, rotation="learned", dim=8).items():
        torch.testing.assert_close(loss, losses_of(method)[name], rtol=1e-12, atol=0)
    with caplog.at_level(logging.INFO, "tokd_lightning"):
        alone = made(method, rotation="learned", branches="rgb")
    assert alone.rotation is None
    assert "rotation none" in caplog.text


@pytest.mark.parametrize("rotation", ["none", "frozen_random"])
@pytest.mark.parametrize("method", ROTATED, ids=lambda m: m.__name__)
def test_pcgrad_changes_the_gradient_and_not_the_loss(method, rotation):
    found, shapes = [], {16: (8, 4, 4), 32: (8, 3, 3)}
    for conflict in ("none", "pcgrad"):
        student = student_output()
        options = {"rotation": rotation, "dim": 8, "conflict": conflict}
        distiller = made(method, teacher=shapes, **options)
        losses = distiller(student, teacher_output(shapes), LABELS)
        total(losses).backward()
        found.append((losses, student.maps[distiller.taps[-1]].grad, distiller.take_gradients()))
    assert all(torch.equal(found[0][0][name], found[1][0][name]) for name in found[0][0])
    clash = (found[0][2]["rgb"] * found[0][2]["frequency"]).sum(1) < 0
    assert clash.any()
    assert all(torch.equal(found[0][2][b], found[1][2][b]) for b in ("rgb", "frequency"))
    assert not torch.allclose(found[0][1][clash], found[1][1][clash])


# What is refused


@every
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "must not be negative"),
        ({"weight": float("nan")}, "must be finite"),
        ({"weight": float("inf")}, "must be finite"),
        ({"weight": 0.0}, "Vanilla"),
        ({"taps": []}, "taps must name strides"),
        ({"taps": [32, 32]}, "each once"),
        ({"taps": [4]}, "student has no feature map at stride 4"),
    ],
    ids=lambda value: str(value),
)
def test_settings_that_do_not_fit_are_refused_in_one_line(method, options, message):
    with pytest.raises(TokdError, match=message) as caught:
        made(method, **options)
    assert "\n" not in str(caught.value)


@every
def test_unknown_choices_and_missing_maps_are_refused(method):
    for options in ({"branches": "none"}, {"branch_reduce": "max"}):
        with pytest.raises(ValueError, match="is not one of"):
            made(method, **options)
    with pytest.raises(TokdError, match="teacher has no feature map"):
        made(method, STUDENT, {})
    with pytest.raises(ValueError, match="needs the teacher"):
        made(method)(student_output(), None, LABELS)


@pytest.mark.parametrize("method", [FitNet, VID], ids=lambda m: m.__name__)
def test_a_rotation_larger_than_the_map_is_refused(method):
    with pytest.raises(TokdError, match="does not fit"):
        made(method, STUDENT, TEACHER, rotation="learned", dim=1024)


@pytest.mark.parametrize("options", [{"branches": "rgb"}, {"branches": "frequency"}])
@pytest.mark.parametrize("method", ROTATED, ids=lambda m: m.__name__)
def test_one_branch_has_no_conflict_to_resolve(method, options):
    with pytest.raises(TokdError, match=f"only the {options['branches']} branch is distilled"):
        made(method, conflict="pcgrad", **options)


def test_tokd_keeps_its_names_in_the_state():
    names = {name.split(".")[0] for name in made(TOKD).state_dict()}
    assert names == {"project", "teacher_project", "rotation", "_extra_state"}
