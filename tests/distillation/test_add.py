"""ADD as a whole: stages, weights, adapters, what is refused; and as TOKD's third task."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from add_reference import frequency_attention as fr_by_hand
from add_reference import multi_view as mv_by_hand
from add_reference import slope
from torch import Tensor
from torch.nn import functional

from tokd_lightning.distillation import ADD, TOKD, TOKDWithADD, Vanilla
from tokd_lightning.distillation.multi_view import draw_directions
from tokd_lightning.errors import TokdError
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput

LABELS = torch.tensor([0, 1, 1, 0])
TEACHER: Shapes = {4: (4, 2, 2), 8: (4, 2, 1), 16: (6, 1, 2), 32: (4, 1, 1)}
# Equal, fewer and more channels; equal, larger and smaller grids.
STUDENTS: dict[str, Shapes] = {
    "equal": TEACHER,
    "larger": {4: (4, 4, 2), 8: (3, 4, 2), 16: (5, 2, 2), 32: (4, 2, 2)},
    "smaller": {4: (2, 1, 2), 8: (4, 1, 1), 16: (3, 1, 1), 32: (6, 1, 1)},
}
FREQUENCY, VIEWS = (0.5, 1.0, 2.0, 0.25), (1.0, 0.5, 2.5, 2.0)


def drawn(shapes: Shapes, seed: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(10 + seed)  # no pair of samples near the margin
    return {
        stride: torch.randn(len(LABELS), *shape, generator=generator, dtype=torch.float64)
        for stride, shape in shapes.items()
    }


def outputs(student: Shapes, dtype: torch.dtype = torch.float64):
    logits = torch.linspace(-1, 1, 8, dtype=torch.float64).view(4, 2)
    ours = {s: m.to(dtype).requires_grad_() for s, m in drawn(student, 0).items()}
    rgb, frequency = ({s: m.to(dtype) for s, m in drawn(TEACHER, n).items()} for n in (1, 2))
    return (
        StudentOutput(logits.to(dtype).requires_grad_(), ours),
        TeacherOutput(torch.zeros_like(logits), rgb, frequency),
    )


def made(student: Shapes, **options: Any) -> ADD:
    torch.manual_seed(3)
    weights = {"frequency_weights": FREQUENCY, "view_weights": VIEWS, "views": 2, "seed": 5}
    return ADD(student, TEACHER, **{**weights, **options}).double()


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def pooled(x: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Average the cells of the larger grid that fall into each of the smaller."""
    height, width = (n // m for n, m in zip(x.shape[2:], grid, strict=True))
    parts = x.reshape(*x.shape[:2], grid[0], height, grid[1], width)
    return parts.mean((3, 5))


def by_hand(add: ADD, stride: int, ours: np.ndarray, theirs: np.ndarray, matrix: Any, frozen: Any):
    """Return the weighted losses of one stage, L_FR and L_MV, in NumPy."""
    grid = tuple(min(a, b) for a, b in zip(ours.shape[2:], theirs.shape[2:], strict=True))
    if matrix is not None:
        ours = np.einsum("ij,bjhw->bihw", matrix, ours)
    ours, theirs = pooled(ours, grid), pooled(theirs, grid)
    stage = list(TEACHER).index(stride)
    near = fr_by_hand(ours, theirs, add.gamma, "fft", False, frozen)
    directions = draw_directions(add.views, 5, 0).numpy()
    histogram, contrast = mv_by_hand(ours, theirs, LABELS.tolist(), directions, add.margin)
    views = 16 * VIEWS[stage] * (100 * histogram + 50 * contrast)
    return FREQUENCY[stage] * near, views


def summed(stage, ours, theirs, matrix):
    return sum(stage(ours, theirs, matrix, None))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("case", STUDENTS)
def test_losses_and_all_gradients_follow_the_definition(case: str):
    shapes = STUDENTS[case]
    # At gamma 0 the weight is 1; that it is a constant is shown in test_frequency_attention.
    add = made(shapes, gamma=0.0)
    student, teacher = outputs(shapes)
    losses = add(student, teacher, LABELS)
    total(losses).backward()
    expected = np.zeros(2)
    for stride in TEACHER:
        ours, theirs = student.maps[stride].detach().numpy(), teacher.rgb[stride].numpy()
        adapter = add.adapters.get_submodule(f"rgb.{stride}")
        learned = next(adapter.parameters(), None)
        assert (learned is None) == (shapes[stride][0] == TEACHER[stride][0])
        matrix = None if learned is None else learned.detach().numpy()[:, :, 0, 0]
        stage = partial(by_hand, add, stride)
        expected += stage(ours, theirs, matrix, None)
        moved = slope(partial(summed, stage, theirs=theirs, matrix=matrix), ours)
        close = partial(np.testing.assert_allclose, rtol=1e-8, atol=2e-8)  # of gradients near 10
        close(student.maps[stride].grad, moved)
        if learned is not None:
            moved = slope(lambda w, its=(stage, ours, theirs): summed(*its, w), matrix)
            close(learned.grad[:, :, 0, 0], moved)
    np.testing.assert_allclose(losses["frequency_attention"].detach(), expected[0], rtol=1e-9)
    np.testing.assert_allclose(losses["multi_view"].detach(), expected[1], rtol=1e-9)
    ce = functional.cross_entropy(student.logits, LABELS)
    torch.testing.assert_close(losses["ce"], ce)


def test_the_defaults_are_the_published_configuration():
    add = ADD(TEACHER, TEACHER)
    assert add.branches == "rgb"
    assert add.frequency_weights == {8: 1.0, 16: 2.0, 32: 0.25}
    assert add.view_weights == {8: 8.0, 16: 40.0, 32: 32.0}
    assert (add.histogram_weight, add.contrastive_weight, add.margin) == (100.0, 50.0, 0.012)
    assert (add.gamma, add.transform, add.relative, add.views) == (1.0, "fft", False, 12)
    assert add.taps == (8, 16, 32)


def test_a_stage_of_weight_0_is_not_looked_at():
    coarse = {s: TEACHER[s] for s in (8, 16, 32)}
    add = ADD(coarse, coarse, seed=0).double()
    student, teacher = outputs(coarse)
    total(add(student, teacher, LABELS)).backward()
    assert all(m.grad.any() for m in student.maps.values())
    with pytest.raises(TokdError, match=r"student has no feature map at stride 4 .*\[8, 16, 32\]"):
        made(coarse)
    alone = made(TEACHER, frequency_weights=(0, 0, 0, 0))
    assert alone(*outputs(TEACHER), LABELS).keys() == {"ce", "multi_view"}


def test_frequency_and_both_branches_are_read_from_their_own_maps():
    student, teacher = outputs(TEACHER)
    found = {b: made(TEACHER, branches=b) for b in ("rgb", "frequency", "both")}
    losses = {b: add(student, teacher, LABELS) for b, add in found.items()}
    for name in ("frequency_attention", "multi_view"):
        assert losses["rgb"][name] != losses["frequency"][name]
        torch.testing.assert_close(
            losses["both"][name], losses["rgb"][name] + losses["frequency"][name]
        )
    swapped = TeacherOutput(teacher.logits, teacher.frequency, {})
    assert torch.equal(
        made(TEACHER)(student, swapped, LABELS)["multi_view"], losses["frequency"]["multi_view"]
    )
    assert [add.reads for add in found.values()] == [("rgb",), ("frequency",), BOTH]


BOTH = ("rgb", "frequency")


def test_every_step_of_training_sees_other_views_and_evaluation_none():
    student, teacher = outputs(TEACHER)
    add = made(TEACHER)
    first, second = (add(student, teacher, LABELS)["multi_view"] for _ in range(2))
    assert first != second
    again = made(TEACHER)
    again.load_state_dict(add.state_dict())
    third = add(student, teacher, LABELS)["multi_view"]
    assert third == again(student, teacher, LABELS)["multi_view"]
    assert made(TEACHER)(student, teacher, LABELS)["multi_view"] == first
    assert made(TEACHER, seed=6)(student, teacher, LABELS)["multi_view"] != first
    again.eval()
    still, stiller = (again(student, teacher, LABELS)["multi_view"] for _ in range(2))
    assert still == stiller


def test_the_teacher_is_a_constant_and_nothing_is_changed_in_place():
    student, teacher = outputs(STUDENTS["larger"])
    for m in teacher.rgb.values():
        m.requires_grad_()
    kept = [m.clone() for maps in (student.maps, teacher.rgb) for m in maps.values()]
    before = torch.random.get_rng_state()
    add = made(STUDENTS["larger"])
    torch.random.set_rng_state(before)
    total(add(student, teacher, LABELS)).backward()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(m.grad is None for m in teacher.rgb.values())
    now = [m for maps in (student.maps, teacher.rgb) for m in maps.values()]
    assert all(torch.equal(*pair) for pair in zip(now, kept, strict=True))


def test_adapters_are_all_there_is_to_learn():
    assert not list(made(TEACHER).parameters())
    names = {name for name, _ in made(STUDENTS["smaller"]).named_parameters()}
    assert names == {f"adapters.rgb.{s}.weight" for s in (4, 16, 32)}


def test_all_zero_maps_have_finite_gradients():
    for case, shapes in STUDENTS.items():
        add = made(shapes).float()
        student, _ = outputs(shapes, torch.float32)
        dead = {s: torch.zeros_like(m).requires_grad_() for s, m in student.maps.items()}
        zero = {s: torch.zeros(len(LABELS), *shape) for s, shape in TEACHER.items()}
        teacher = TeacherOutput(torch.zeros(4, 2), zero, zero)
        total(add(StudentOutput(student.logits, dead), teacher, LABELS)).backward()
        assert all(m.grad.isfinite().all() for m in dead.values()), case
        assert all(p.grad.isfinite().all() for p in add.parameters()), case


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_loss_of_single_precision(dtype: torch.dtype):
    shapes = STUDENTS["larger"]
    student, teacher = outputs(shapes, torch.float32)
    full = made(shapes).float()(student, teacher, LABELS)
    with torch.autocast("cpu", dtype):
        mixed = made(shapes).float()(student, teacher, LABELS)
    for name, loss in mixed.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name], rtol=1e-6, atol=0)


def test_memory_format_changes_nothing():
    shapes = STUDENTS["larger"]
    student, teacher = outputs(shapes)
    last = [
        {s: m.contiguous(memory_format=torch.channels_last) for s, m in maps.items()}
        for maps in (student.maps, teacher.rgb)
    ]
    plain = made(shapes)(student, teacher, LABELS)
    found = made(shapes)(
        student._replace(maps=last[0]), TeacherOutput(teacher.logits, last[1], {}), LABELS
    )
    for name, loss in found.items():
        torch.testing.assert_close(loss, plain[name])


def test_diagnostics_are_the_unweighted_parts():
    student, teacher = outputs(TEACHER)
    add = made(TEACHER)
    losses = add(student, teacher, LABELS)
    parts = add.diagnostics()
    assert all(not value.requires_grad for value in parts.values())
    near = sum(
        w * parts[f"frequency_attention_rgb_{s}"] for s, w in zip(TEACHER, FREQUENCY, strict=True)
    )
    views = sum(
        16 * w * (100 * parts[f"histogram_rgb_{s}"] + 50 * parts[f"contrastive_rgb_{s}"])
        for s, w in zip(TEACHER, VIEWS, strict=True)
    )
    torch.testing.assert_close(near, losses["frequency_attention"].detach())
    torch.testing.assert_close(views, losses["multi_view"].detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequency_weights": (1, 1, -1, 1)}, "none negative"),
        ({"view_weights": (1, 1, 1)}, "one finite weight for each of four stages"),
        ({"view_weights": (1, 1, 1, float("nan"))}, "one finite weight"),
        ({"gamma": float("nan")}, "finite and not negative"),
        ({"histogram_weight": float("inf")}, "finite and not negative"),
        ({"multi_view_weight": -1.0}, "none negative"),
        ({"margin": -0.1}, "not negative"),
        ({"views": 0}, "at least one view"),
        ({"frequency_weights": (0, 0, 0, 0), "multi_view_weight": 0.0}, "Vanilla"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(options: dict[str, Any], message: str):
    with pytest.raises(TokdError, match=message) as caught:
        made(TEACHER, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="teacher"):
        made(TEACHER)(outputs(TEACHER)[0], None, LABELS)


SMALL: dict[str, Any] = {"width": 5, "dim": 4, "teacher_projectors": "frozen"}


def beside(third: Any = None, **options: Any) -> TOKDWithADD:
    torch.manual_seed(2)
    third = third or partial(ADD, view_weights=VIEWS, seed=5)
    return TOKDWithADD(TEACHER, TEACHER, add=third, **{**SMALL, **options}).double()


def test_beside_tokd_add_is_a_third_task_that_leaves_the_rotation_alone():
    torch.manual_seed(2)
    tokd = TOKD(TEACHER, TEACHER, **SMALL).double()
    both = beside()
    results = []
    for method in (tokd, both):
        student, teacher = outputs(TEACHER)
        losses = method(student, teacher, LABELS)
        total(losses).backward()
        results.append((losses, method.take_gradients(), student.maps))
    (alone, v, _), (three, w, maps) = results
    assert three.keys() == {*alone, "frequency_attention", "multi_view"}
    assert all(torch.equal(three[name], loss) for name, loss in alone.items())
    assert all(torch.equal(v[branch], w[branch]) for branch in BOTH)
    # ADD's own gradient arrives too, at the last map and at those before it.
    student, teacher = outputs(TEACHER)
    add = both.add
    add.step = 0
    total(add.distances(student, teacher, LABELS)).backward()
    last = results[0][2][32].grad + student.maps[32].grad
    torch.testing.assert_close(maps[32].grad, last)
    torch.testing.assert_close(maps[16].grad, student.maps[16].grad)


def test_beside_tokd_the_rest_is_tokds():
    both = beside(branches="frequency")
    assert both.weights.keys() == {"frequency"}
    assert set(both.reads) == {"rgb", "frequency"}
    assert both.taps == (4, 8, 16, 32)
    assert beside().rotation is not None
    outer, _ = outputs(TEACHER)
    both(outer, outputs(TEACHER)[1], LABELS)
    assert {"distance_frequency", "histogram_rgb_8"} <= both.diagnostics().keys()
    both.class_weights = torch.tensor([4.0, 1.0])
    expected = functional.cross_entropy(outer.logits, LABELS, both.class_weights.double())
    torch.testing.assert_close(both(outer, outputs(TEACHER)[1], LABELS)["ce"], expected)
    with pytest.raises(ValueError, match="must make an ADD, not a Vanilla"):
        beside(Vanilla)
