"""Rotation and the gradients it delivers, against naive separate passes in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.distillation.rotation import Layout, Rotation, Target, random_rotation
from tokd_lightning.errors import TokdError

LAYOUTS: list[tuple[Layout, int]] = [("flat_prefix", 20), ("blocks", 10), ("channels", 5)]
SHAPE = (6, 3, 3)
SCALE = {"rgb": 7.0, "frequency": 3.0}


def matrix_of(layout: str, dim: int, r: Tensor) -> Tensor:
    """The whole rotation of a flattened map as one explicit ``(CHW, CHW)`` matrix."""
    channels, height, width = SHAPE
    whole = torch.eye(channels * height * width, dtype=r.dtype)
    if layout == "channels":
        places = [torch.arange(dim) * height * width + p for p in range(height * width)]
    else:
        chunks = 1 if layout == "flat_prefix" else channels * height * width // dim
        places = [torch.arange(dim) + chunk * dim for chunk in range(chunks)]
    for place in places:
        whole[place[:, None], place] = r
    return whole


def rotation_of(layout: Layout, dim: int, **options: Any) -> Rotation:
    rotation = Rotation(SHAPE, dim, layout, init="random", seed=3, **options).double()
    for matrix in rotation.matrices().values():
        matrix.copy_(torch.linalg.qr(matrix)[0] * torch.linalg.qr(matrix)[1].diagonal().sign())
    return rotation


@pytest.fixture
def heads() -> nn.ModuleDict:
    torch.manual_seed(1)
    return nn.ModuleDict(
        {b: nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.Tanh()) for b in SCALE}
    ).double()


def branch_losses(heads: nn.ModuleDict, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    return {b: SCALE[b] * heads[b](maps[b]).square().sum(1).mean() for b in SCALE}


@pytest.mark.parametrize(("layout", "dim"), LAYOUTS)
@pytest.mark.parametrize("last", [False, True])
def test_rotation_is_the_explicit_block_matrix(layout: Layout, dim: int, last: bool):
    rotation = rotation_of(layout, dim)
    z = torch.randn(4, *SHAPE, dtype=torch.float64)
    order = torch.channels_last if last else torch.contiguous_format
    for branch, m in rotation(z.contiguous(memory_format=order)).items():
        expected = z.flatten(1) @ matrix_of(layout, dim, rotation.matrices()[branch]).T
        torch.testing.assert_close(m.flatten(1), expected, rtol=1e-12, atol=1e-12)
        assert m.is_contiguous(memory_format=order)


@pytest.mark.parametrize(("layout", "dim"), LAYOUTS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("target", ["mean", "mean_direction"])
def test_one_backward_equals_naive_separate_passes(
    heads: nn.ModuleDict, layout: Layout, dim: int, last: bool, target: Target
):
    torch.manual_seed(0)
    rotation = rotation_of(layout, dim, target=target)
    order = torch.channels_last if last else torch.contiguous_format
    backbone = nn.Conv2d(3, 6, 1).double().to(memory_format=order)
    x = torch.randn(4, 3, 3, 3, dtype=torch.float64).contiguous(memory_format=order)

    loss = torch.stack(list(branch_losses(heads, rotation(backbone(x))).values())).sum()
    loss.backward()
    v = rotation.take_gradients()
    assert v is not None
    rows, g = rotation.rows(v, SCALE)

    naive_v, naive_m, total = {}, {}, torch.zeros_like(backbone.weight)
    whole = {b: matrix_of(layout, dim, r) for b, r in rotation.matrices().items()}
    for branch in SCALE:
        z = backbone(x)
        m = (z.flatten(1) @ whole[branch].T).view(z.shape)
        one = branch_losses(heads, dict.fromkeys(SCALE, m))[branch]
        at_z, at_m, at_weight = torch.autograd.grad(one, (z, m, backbone.weight))
        total += at_weight
        naive_v[branch] = at_z.flatten(1) / SCALE[branch]
        naive_m[branch] = at_m.flatten(1) / SCALE[branch]
        torch.testing.assert_close(v[branch], at_z.flatten(1), rtol=1e-10, atol=1e-16)
    torch.testing.assert_close(backbone.weight.grad, total, rtol=1e-10, atol=1e-16)

    # The places the layout rotates, then Eq. 13 differentiated by autograd with respect to R.
    places = (matrix_of(layout, dim, torch.zeros(dim, dim)).diagonal() == 0).nonzero()[:, 0]
    sides = [naive_v[b][:, places] for b in SCALE]
    if target == "mean_direction":
        sides = [functional.normalize(side, dim=1, eps=0) for side in sides]
    naive_g = (sides[0] + sides[1]) / 2
    for branch in SCALE:
        r = rotation.matrices()[branch].detach().clone().requires_grad_()
        turned = (naive_m[branch] @ matrix_of(layout, dim, r))[:, places]
        loss_r = -functional.cosine_similarity(turned, naive_g, dim=1, eps=1e-300).mean()
        euclidean = torch.autograd.grad(loss_r, r)[0]
        tangent = r.detach().T @ euclidean
        a = -(rows[branch].T @ g - g.T @ rows[branch]) / (2 * len(g))
        torch.testing.assert_close(a, (tangent - tangent.T) / 2, rtol=1e-10, atol=1e-15)


def test_rotation_gradient_is_the_slope_along_cayley_curves(heads: nn.ModuleDict):
    rotation = rotation_of("flat_prefix", 20)
    z = torch.randn(5, *SHAPE, dtype=torch.float64, requires_grad=True)
    torch.stack(list(branch_losses(heads, rotation(z)).values())).sum().backward()
    rows, g = rotation.rows(rotation.take_gradients() or {}, SCALE)
    v = rows["rgb"]
    a = -(v.T @ g - g.T @ v) / (2 * len(v))
    x = torch.randn(20, 20, dtype=torch.float64)
    x, eye = x - x.T, torch.eye(20, dtype=torch.float64)

    def loss(t: float) -> Tensor:
        moved = v @ torch.linalg.solve(eye - t * x / 2, eye + t * x / 2)
        return -functional.cosine_similarity(moved, g, dim=1).mean()

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    torch.testing.assert_close(slope, (a * x).sum(), rtol=1e-7, atol=0)


def test_identity_rotation_changes_nothing():
    z = torch.randn(3, 16, 4, 4)
    for layout in ("flat_prefix", "blocks", "channels"):
        for m in Rotation((16, 4, 4), 16, layout)(z).values():
            assert torch.equal(m, z)


def test_loss_leaves_no_gradient_on_the_matrices(heads: nn.ModuleDict):
    rotation = rotation_of("flat_prefix", 20)
    z = torch.randn(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    torch.stack(list(branch_losses(heads, rotation(z)).values())).sum().backward()
    assert all(not r.requires_grad and r.grad is None for r in rotation.matrices().values())


def test_micro_batches_are_put_together_once(heads: nn.ModuleDict):
    rotation, z = rotation_of("flat_prefix", 20), torch.randn(6, *SHAPE, dtype=torch.float64)
    heads.eval()
    together = []
    for parts in (z.split(2), z.split(6)):
        for part in parts:
            maps = rotation(part.requires_grad_())
            (torch.stack(list(branch_losses(heads, maps).values())).sum() * len(part)).backward()
        together.append(rotation.take_gradients())
    for branch in SCALE:
        torch.testing.assert_close(together[0][branch], together[1][branch])
    assert rotation.take_gradients() is None


def test_no_gradients_where_one_branch_was_not_reached(heads: nn.ModuleDict):
    rotation = rotation_of("flat_prefix", 20)
    z = torch.randn(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    branch_losses(heads, rotation(z))["rgb"].backward()
    assert rotation.take_gradients() is None
    with torch.no_grad():
        rotation(z)
    assert rotation.take_gradients() is None


def test_gradients_that_nobody_takes_do_not_pile_up(
    heads: nn.ModuleDict, caplog: pytest.LogCaptureFixture
):
    rotation = rotation_of("flat_prefix", 20)
    z = torch.randn(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    heads.eval()
    for _ in range(70):
        torch.stack(list(branch_losses(heads, rotation(z)).values())).sum().backward()
    assert len((rotation.take_gradients() or {})["rgb"]) == 6
    assert "take_gradients" in caplog.text


@pytest.mark.parametrize("factor", [1e-12, 1e-30, 2.0**16])
def test_rows_do_not_depend_on_the_scale_of_the_gradients(factor: float):
    torch.manual_seed(0)
    rotation = Rotation((8, 4, 4), 64)
    v = {b: torch.randn(5, 128) for b in SCALE}
    rows, g = rotation.rows(v, SCALE)
    scaled, scaled_g = rotation.rows({b: x * factor for b, x in v.items()}, SCALE)
    torch.testing.assert_close(scaled_g, g, rtol=1e-5, atol=1e-6)
    for branch in SCALE:
        torch.testing.assert_close(scaled[branch], rows[branch], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rows[branch].norm(dim=1), torch.ones(5))


def test_target_divides_the_weights_out():
    v = {b: torch.randn(4, 18) for b in SCALE}
    rotation = Rotation((2, 3, 3), 9)
    weighted = {b: SCALE[b] * x for b, x in v.items()}
    plain = rotation.rows(v, {"rgb": 1.0, "frequency": 1.0})[1]
    torch.testing.assert_close(rotation.rows(weighted, SCALE)[1], plain)
    mean = functional.normalize((v["rgb"] + v["frequency"])[:, :9], dim=1)
    torch.testing.assert_close(plain, mean)


def test_zero_and_opposite_gradients_give_zero_rows_and_bad_ones_stay_bad():
    rotation = Rotation((2, 3, 3), 9)
    v = torch.randn(3, 18)
    v[0] = 0
    rows, g = rotation.rows({"rgb": v, "frequency": -v}, {"rgb": 10.0, "frequency": 10.0})
    assert torch.equal(g, torch.zeros(3, 9))
    assert torch.equal(rows["rgb"][0], torch.zeros(9))
    for bad in (math.nan, math.inf):
        v[1, 2] = bad
        rows, g = rotation.rows({"rgb": v, "frequency": v.clone()}, SCALE)
        assert not rows["rgb"].isfinite().all()
        assert rows["rgb"][2].isfinite().all()


@pytest.mark.parametrize("dim", [128, 256, 512, 1024, 2048])
def test_every_size_of_table_5_fits_a_resnet_map(dim: int):
    rotation = Rotation((256, 10, 10), dim)
    assert rotation.rgb.shape == (dim, dim)
    z = torch.randn(1, 256, 10, 10)
    assert torch.equal(rotation(z)["frequency"], z)


def test_error_of_a_large_dim_names_the_largest():
    for layout, largest in (("flat_prefix", 25600), ("blocks", 25600), ("channels", 256)):
        with pytest.raises(TokdError, match=f"2 to {largest}$"):
            Rotation((256, 10, 10), largest + 1, layout)
    assert Rotation((8, 3, 3), 72).rotated == 72
    with pytest.raises(TokdError, match="2 to 72"):
        Rotation((8, 3, 3), 1)


def test_random_start_is_special_orthogonal_reproducible_and_differs_between_branches():
    for seed in range(4):
        r = random_rotation(11, seed).double()
        torch.testing.assert_close(r.T @ r, torch.eye(11).double(), rtol=0, atol=1e-6)
        assert torch.linalg.det(r) > 0
    before = torch.random.get_rng_state()
    first, again = (Rotation((8, 3, 3), 12, init="random", seed=5) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.rgb, again.rgb)
    assert not torch.equal(first.rgb, first.frequency)


def test_rotation_is_exact_under_autocast_and_its_gradients_are_float32(heads: nn.ModuleDict):
    rotation = Rotation(SHAPE, 20, init="random")
    z = torch.randn(3, *SHAPE).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        maps = rotation(z)
        loss = torch.stack([heads.float()[b](maps[b]).square().mean() for b in SCALE]).sum()
    expected = z.float().flatten(1) @ matrix_of("flat_prefix", 20, rotation.rgb.detach()).T
    torch.testing.assert_close(maps["rgb"].flatten(1), expected)
    loss.backward()
    v = rotation.take_gradients() or {}
    assert v["rgb"].dtype == torch.float32
    assert z.grad is not None
    assert z.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(("layout", "dim"), LAYOUTS)
def test_diagnostics_are_the_cosines_before_and_after(layout: Layout, dim: int):
    torch.manual_seed(2)
    rotation = rotation_of(layout, dim)
    v = {b: SCALE[b] * torch.randn(5, 54, dtype=torch.float64) for b in SCALE}
    found = rotation.gradient_diagnostics(v, SCALE)
    places = slice(rotation.rotated)
    m = {b: v[b] @ matrix_of(layout, dim, r).T for b, r in rotation.matrices().items()}

    def cosine(x: dict[str, Tensor], where: slice) -> Tensor:
        return functional.cosine_similarity(x["rgb"][:, where], x["frequency"][:, where]).mean()

    g = v["rgb"] / SCALE["rgb"] + v["frequency"] / SCALE["frequency"]
    expected = {
        "cosine_full_before": cosine(m, slice(None)),
        "cosine_full_after": cosine(v, slice(None)),
        "cosine_rotated_before": cosine(m, places),
        "cosine_rotated_after": cosine(v, places),
        "norm_ratio": v["rgb"].norm(dim=1).mean() / v["frequency"].norm(dim=1).mean() * 3 / 7,
        "rotation_loss_rgb": -cosine({"rgb": v["rgb"], "frequency": g}, places),
        "rotation_loss_frequency": -cosine({"rgb": v["frequency"], "frequency": g}, places),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


def test_drift_measures_distance_and_orthogonality():
    rotation = Rotation((8, 3, 3), 64)
    assert all(float(value) == 0 for value in rotation.drift().values())
    rotation.rgb.mul_(1.01)
    drift = rotation.drift()
    assert float(drift["distance_rgb"]) == pytest.approx(0.01, rel=1e-3)
    assert float(drift["orthogonality_rgb"]) == pytest.approx(0.0201, rel=1e-3)
    assert float(drift["orthogonality_frequency"]) == 0


def test_drift_is_measured_in_float32_under_autocast():
    rotation = Rotation((8, 3, 3), 64, init="random")
    exact = rotation.drift()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = rotation.drift()
    assert all(torch.equal(mixed[name], value) for name, value in exact.items())
    assert float(mixed["orthogonality_rgb"]) < 1e-5
