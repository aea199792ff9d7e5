"""Descent on SO(d): steps against explicit formulas, invariants, safety."""

import io
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tokd_lightning.distillation.rotation import Layout, Rotation, random_rotation
from tokd_lightning.distillation.rotation_optimizer import Direction, RotationOptimizer

DIRECTIONS: list[Direction] = ["normalized", "adam", "plain"]


def units(n: int, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return functional.normalize(torch.randn(n, d, dtype=dtype), dim=1)


def matrix(d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A rotation that is orthogonal to the rounding of ``dtype``."""
    q, r = torch.linalg.qr(random_rotation(d, seed).double())
    return (q * r.diagonal().sign()).to(dtype)


def naive_step(r: Tensor, v: Tensor, g: Tensor, lr: float, direction: str) -> Tensor:
    """The first step of Eq. 16 written out with explicit inverses."""
    x, eye = v.T @ g / len(v), torch.eye(len(r), dtype=r.dtype)
    a = -(x - x.T) / 2
    if direction == "normalized":
        a = a * len(r) / torch.linalg.matrix_norm(a)
    elif direction == "adam":
        a = a / (a.abs() + 1e-8)
    return r @ torch.linalg.inv(eye + lr * a / 2) @ (eye - lr * a / 2)


def orthogonality(r: Tensor) -> float:
    wide = r.double()
    return float((wide.T @ wide - torch.eye(len(r)).double()).norm() / math.sqrt(len(r)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("n", [1, 5, 12, 30])
def test_step_equals_the_formula_in_low_rank_and_dense(direction: Direction, n: int):
    torch.manual_seed(n)
    r, v, g = matrix(24), units(n, 24), units(n, 24)
    expected = naive_step(r, v, g, 0.02, direction)
    RotationOptimizer([r], lr=0.02, direction=direction).step(rows=[(v, g)])
    torch.testing.assert_close(r, expected, rtol=1e-10, atol=1e-12)


def test_adam_follows_adam_on_the_skew_gradient():
    torch.manual_seed(0)
    r, eye = matrix(10), torch.eye(10, dtype=torch.float64)
    expected, mean, square = r.clone(), torch.zeros_like(r), torch.zeros_like(r)
    optimizer = RotationOptimizer([r], lr=0.01, direction="adam", betas=(0.8, 0.9))
    for step in range(1, 6):
        v, g = units(4, 10), units(4, 10)
        a = -(v.T @ g - g.T @ v) / 8
        mean, square = 0.8 * mean + 0.2 * a, 0.9 * square + 0.1 * a**2
        d = mean / (1 - 0.8**step) / ((square / (1 - 0.9**step)).sqrt() + 1e-8)
        expected = expected @ torch.linalg.inv(eye + 0.005 * d) @ (eye - 0.005 * d)
        optimizer.step(rows=[(v, g)])
    torch.testing.assert_close(r, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_step_lowers_the_rotation_loss(direction: Direction):
    torch.manual_seed(0)
    r, m, g = matrix(16), units(4, 16), units(4, 16)
    before = -((m @ r) * g).sum(1).mean()
    RotationOptimizer([r], lr=1e-3, direction=direction).step(rows=[(m @ r, g)])
    assert -((m @ r) * g).sum(1).mean() < before


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("dim", "n", "direction", "steps"),
    [
        (32, 20, "normalized", 2000),
        (48, 8, "normalized", 2000),
        (24, 4, "adam", 2000),
        (48, 8, "plain", 2000),
        (256, 8, "normalized", 2000),
    ],
)
def test_matrices_stay_special_orthogonal_in_float32(
    dim: int, n: int, direction: Direction, steps: int
):
    torch.manual_seed(0)
    r = torch.eye(dim)
    optimizer = RotationOptimizer([r], lr=5e-4, direction=direction)
    batches = [(units(n, dim, torch.float32), units(n, dim, torch.float32)) for _ in range(10)]
    for step in range(steps):
        optimizer.step(rows=[batches[step % 10]])
    assert orthogonality(r) < 1e-5
    assert torch.linalg.det(r.double()) == pytest.approx(1.0, abs=1e-4)
    assert float((r - torch.eye(dim)).norm()) > 1e-3


@pytest.mark.thinned(3)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_special_procrustes_optimum_is_reached(sign: float, direction: Direction):
    torch.manual_seed(4)
    dim = 6
    v, q = units(40, dim), matrix(dim, seed=7)
    q[:, 0] *= sign
    g = functional.normalize(v @ q + 0.3 * units(40, dim), dim=1)
    u, s, wt = torch.linalg.svd(v.T @ g / len(v))
    det = torch.linalg.det(u @ wt)
    assert det.sign() == sign
    best = s[:-1].sum() + det.sign() * s[-1]

    r = torch.eye(dim, dtype=torch.float64)
    lr, decay = {"plain": (3.0, 1.0), "normalized": (0.02, 0.99), "adam": (0.05, 0.99)}[direction]
    # A long memory of large gradients keeps Adam at the saddles that a flipped sign makes.
    optimizer = RotationOptimizer([r], lr=lr, direction=direction, betas=(0.9, 0.9))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    for _ in range(1200):
        optimizer.step(rows=[(v @ r, g)])
        scheduler.step()
    assert float(((v @ r) * g).sum(1).mean()) == pytest.approx(float(best), rel=1e-7)
    assert torch.linalg.det(r) == pytest.approx(1.0)


def test_normalized_direction_takes_a_built_in_conflict_away():
    torch.manual_seed(0)
    dim, n = 32, 12
    rotation = Rotation((2, 4, 4), dim)
    m = {"rgb": torch.randn(n, dim), "frequency": torch.randn(n, dim)}
    scale = {"rgb": 1.0, "frequency": 1.0}
    optimizer = RotationOptimizer(rotation.matrices().values(), lr=1e-3)
    cosines = []
    for _ in range(800):
        v = {b: m[b] @ r for b, r in rotation.matrices().items()}
        cosines.append(float(functional.cosine_similarity(v["rgb"], v["frequency"]).mean()))
        rows, g = rotation.rows(v, scale)
        optimizer.step(rows=[(rows[b], g) for b in rotation.branches])
    assert abs(cosines[0]) < 0.2
    assert cosines[-1] > 0.8


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("n", [3, 20])
def test_gradients_that_need_no_move_leave_the_matrix_alone(direction: Direction, n: int):
    torch.manual_seed(0)
    v = units(n, 16, torch.float32)
    zero = torch.zeros_like(v)
    for rows in ((zero, v), (v, zero), (v, v.clone()), (v, v / 3), (v, -v / 7)):
        r = matrix(16, dtype=torch.float32)
        before = r.clone()
        assert RotationOptimizer([r], lr=0.1, direction=direction).step(rows=[rows])
        torch.testing.assert_close(r, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 10])
def test_gradients_that_cancel_over_the_batch_give_no_direction(n: int):
    a, b = units(n, 64, torch.float32), units(n, 64, torch.float32)
    r = matrix(64, dtype=torch.float32)
    before = r.clone()
    RotationOptimizer([r], lr=1.0).step(rows=[(torch.cat((a, b)), torch.cat((b, a)))])
    assert orthogonality(r) < 1e-5
    torch.testing.assert_close(r, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_gradient_skips_the_step_of_all_matrices(direction: Direction, bad: float):
    torch.manual_seed(0)
    rs = [matrix(12, 0), matrix(12, 1)]
    optimizer = RotationOptimizer(rs, lr=0.1, direction=direction)
    rows = [(units(3, 12), units(3, 12)) for _ in rs]
    assert optimizer.step(rows=rows)
    before = [r.clone() for r in rs]
    moments = [{k: v for k, v in optimizer.state[r].items() if k in ("mean", "square")} for r in rs]
    moments = [{k: v.clone() for k, v in moment.items()} for moment in moments]
    broken = rows[1][1].clone()
    broken[2, 5] = bad
    assert not optimizer.step(rows=[rows[0], (rows[1][0], broken)])
    assert int(optimizer.skipped) == 1
    for r, old, moment in zip(rs, before, moments, strict=True):
        assert torch.equal(r, old)
        assert int(optimizer.state[r]["steps"]) == 1
        assert all(torch.equal(optimizer.state[r][k], v) for k, v in moment.items())
    assert optimizer.step(rows=rows)
    assert all(r.isfinite().all() for r in rs)
    assert int(optimizer.skipped) == 1


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("factor", [1e-12, 2.0**16])
def test_scaled_gradients_give_the_same_step(direction: Direction, factor: float):
    torch.manual_seed(0)
    v = {b: torch.randn(5, 72) for b in ("rgb", "frequency")}
    results = []
    for scale in (1.0, factor):
        rotation = Rotation((8, 3, 3), 40)
        rows, g = rotation.rows({b: scale * x for b, x in v.items()}, dict.fromkeys(v, 10.0))
        optimizer = RotationOptimizer(rotation.matrices().values(), lr=1e-2, direction=direction)
        optimizer.step(rows=[(rows[b], g) for b in rotation.branches])
        results.append(rotation.rgb.clone())
    assert not torch.equal(results[0], torch.eye(40))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", ["flat_prefix", "blocks", "channels"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rows_of_two_processes_put_together_are_those_of_one(layout: Layout, direction: Direction):
    torch.manual_seed(0)
    v = {b: torch.randn(6, 72, dtype=torch.float64) for b in ("rgb", "frequency")}
    scale = {"rgb": 10.0, "frequency": 5.0}
    results = []
    for parts in (1, 2):
        rotation = Rotation((8, 3, 3), 8, layout).double()
        made = [
            rotation.rows({b: x.chunk(parts)[i] for b, x in v.items()}, scale) for i in range(parts)
        ]
        pairs = [
            (torch.cat([rows[b] for rows, _ in made]), torch.cat([g for _, g in made]))
            for b in rotation.branches
        ]
        optimizer = RotationOptimizer(rotation.matrices().values(), lr=0.1, direction=direction)
        optimizer.step(rows=pairs)
        results.append(rotation.frequency.clone())
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_resumed_run_is_bit_identical(direction: Direction):
    torch.manual_seed(0)
    batches = [(units(3, 16, torch.float32), units(3, 16, torch.float32)) for _ in range(130)]
    r = torch.eye(16)
    optimizer = RotationOptimizer([r], lr=1e-2, direction=direction)
    for batch in batches[:65]:
        optimizer.step(rows=[batch])
    optimizer.step(rows=[(batches[0][0] * math.nan, batches[0][1])])
    saved = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "r": r}, saved)
    for batch in batches[65:]:
        optimizer.step(rows=[batch])

    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    again = torch.eye(16)
    resumed = RotationOptimizer([again], lr=1.0, direction=direction)
    resumed.load_state_dict(state["optimizer"])
    again.copy_(state["r"])
    for batch in batches[65:]:
        resumed.step(rows=[batch])
    assert torch.equal(again, r)
    assert int(resumed.skipped) == 1


def test_schedulers_set_the_step():
    torch.manual_seed(0)
    r = torch.eye(8, dtype=torch.float64)
    optimizer = RotationOptimizer([r], lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    lengths = []
    for _ in range(3):
        before = r.clone()
        optimizer.step(rows=[(units(2, 8), units(2, 8))])
        scheduler.step()
        lengths.append(float((r - before).norm()))
    assert lengths == pytest.approx([0.08, 0.04, 0.02], rel=1e-2)


def test_rows_must_match_the_matrices():
    r = torch.eye(4)
    optimizer = RotationOptimizer([r])
    with pytest.raises(ValueError, match="1 rotations"):
        optimizer.step(rows=[])
    with pytest.raises(ValueError, match="rows"):
        optimizer.step(rows=[(torch.ones(2, 5), torch.ones(2, 5))])
    with pytest.raises(ValueError, match="direction"):
        RotationOptimizer([r], direction="steepest")
