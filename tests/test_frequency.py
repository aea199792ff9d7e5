import copy
import math

import pytest
import torch
import torch_dct
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.augmentation import RandomHorizontalFlip
from kornia.augmentation.container import ImageSequential
from torch import Tensor, nn

from tokd_lightning.frequency import HighPass, high_pass

CUTOFFS = (0.1, 0.33, 0.5, 1.0, 1.4)


def images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        dtype
    )


def by_full_transform(x: Tensor, cutoff: float) -> Tensor:
    height, width = x.shape[-2:]
    u = torch.arange(height, dtype=torch.float64) / height
    v = torch.arange(width, dtype=torch.float64) / width
    kept = (u[:, None] + v >= cutoff).to(x.dtype)
    return torch_dct.idct_2d(torch_dct.dct_2d(x, norm="ortho") * kept, norm="ortho")


def by_cosine_sum(x: Tensor, cutoff: float) -> Tensor:
    """Remove one cosine after the other, by its explicit formula."""
    height, width = x.shape[-2:]
    result = x.clone()
    for u in range(height):
        for v in range(width):
            if u / height + v / width >= cutoff:
                continue
            wave = torch.tensor(
                [
                    [
                        math.cos(math.pi * (2 * i + 1) * u / (2 * height))
                        * math.cos(math.pi * (2 * j + 1) * v / (2 * width))
                        for j in range(width)
                    ]
                    for i in range(height)
                ],
                dtype=torch.float64,
            )
            wave /= wave.norm()
            result -= (x * wave).sum(dim=(-2, -1), keepdim=True) * wave
    return result


@pytest.mark.parametrize("cutoff", CUTOFFS)
@pytest.mark.parametrize("size", [(32, 32), (31, 45), (40, 9), (1, 7), (2, 1)])
def test_agrees_with_the_full_transform(size: tuple[int, int], cutoff: float):
    x = images(2, 3, *size)
    torch.testing.assert_close(
        high_pass(x, cutoff), by_full_transform(x, cutoff), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_agrees_with_an_explicit_cosine_sum(cutoff: float):
    x = images(1, 2, 10, 7)
    torch.testing.assert_close(high_pass(x, cutoff), by_cosine_sum(x, cutoff), rtol=0, atol=1e-10)


def test_agrees_with_the_full_transform_at_299_pixels():
    x = images(1, 3, 299, 299)
    torch.testing.assert_close(high_pass(x, 0.33), by_full_transform(x, 0.33), rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 2), st.integers(0, 3))
def test_is_an_orthogonal_projection(height: int, width: int, cutoff: float, batch: int):
    x, y = images(2, batch, 2, height, width).unbind()
    filtered = high_pass(x, cutoff)
    torch.testing.assert_close(high_pass(filtered, cutoff), filtered, rtol=0, atol=1e-12)
    torch.testing.assert_close((filtered * y).sum(), (x * high_pass(y, cutoff)).sum())


def test_flat_image_has_no_high_frequencies():
    flat = torch.full((1, 3, 20, 24), 0.7)
    assert high_pass(flat, 0.01).abs().max() < 1e-6


def test_channel_means_are_zero():
    x = images(2, 3, 21, 34, dtype=torch.float32) + 5
    assert high_pass(x, 0.05).mean(dim=(2, 3)).abs().max() < 1e-5


def test_cutoff_zero_is_the_identity():
    x = images(2, 3, 12, 15, dtype=torch.float32)
    assert torch.equal(high_pass(x, 0), x)


def test_cutoff_two_leaves_nothing():
    x = images(2, 3, 12, 15)
    assert high_pass(x, 2).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("u", "v", "kept"), [(2, 0, False), (3, 0, True), (0, 5, False), (1, 4, True)]
)
def test_a_cosine_on_the_hypotenuse_is_kept(u: int, v: int, kept: bool):
    i, j = torch.arange(10, dtype=torch.float64), torch.arange(20, dtype=torch.float64)
    wave = torch.outer(
        torch.cos(math.pi * (2 * i + 1) * u / 20), torch.cos(math.pi * (2 * j + 1) * v / 40)
    )[None, None]
    expected = wave if kept else torch.zeros_like(wave)
    torch.testing.assert_close(high_pass(wave, 0.3), expected, rtol=0, atol=1e-12)


def test_filtering_commutes_with_normalisation():
    x, mean, std = images(2, 3, 16, 16), torch.tensor(0.5), torch.tensor(0.25)
    torch.testing.assert_close(high_pass((x - mean) / std, 0.2), high_pass(x, 0.2) / std)


def test_gradient_is_the_filter_itself():
    x, weights = images(1, 2, 9, 14).requires_grad_(), images(1, 2, 9, 14) + 1
    (high_pass(x, 0.4) * weights).sum().backward()
    torch.testing.assert_close(x.grad, high_pass(weights, 0.4))


def test_input_is_left_alone_whatever_its_layout():
    x = images(2, 3, 16, 18)
    before = x.clone()
    expected = high_pass(x, 0.3)
    assert torch.equal(x, before)
    torch.testing.assert_close(high_pass(x.to(memory_format=torch.channels_last), 0.3), expected)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(high_pass(turned, 0.3), expected)


@pytest.mark.parametrize(
    ("given_dtype", "returned"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_is_computed_and_returned_in_at_least_float32(
    given_dtype: torch.dtype, returned: torch.dtype
):
    x = images(1, 3, 64, 64, dtype=given_dtype)
    filtered = high_pass(x, 0.33)
    assert filtered.dtype == returned
    assert (filtered.double() - by_full_transform(x.double(), 0.33)).abs().max() < 5e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_does_not_reach_the_filter(dtype: torch.dtype):
    x = images(1, 3, 64, 64, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        filtered = high_pass(x, 0.33)
        assert (x.float() @ x.float()).dtype == torch.bfloat16
    assert torch.equal(filtered, high_pass(x, 0.33))


def test_reduced_matmul_precision_does_not_reach_the_filter():
    x = images(1, 3, 64, 64, dtype=torch.float32)
    exact, single = high_pass(x.double(), 0.33).float(), high_pass(x, 0.33)
    assert not torch.equal(single, exact)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        assert torch.equal(high_pass(x, 0.33), exact)  # no setting lowers float64 products
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize("cutoff", [0.1, 0.33, 0.5])
def test_neither_autocast_nor_tf32_reaches_the_filter_on_cuda(dtype, precision, cutoff):
    x = images(2, 3, 299, 299, dtype=torch.float32)
    exact = by_full_transform(x.double(), cutoff)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = precision
        with torch.autocast("cuda", dtype):
            filtered = high_pass(x.cuda(), cutoff)
            channels_last = high_pass(
                x.cuda().contiguous(memory_format=torch.channels_last), cutoff
            )
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    for found in (filtered, channels_last):
        assert found.dtype == torch.float32
        assert (found.cpu() - exact).abs().max() < 1e-5


def test_casting_and_copying_a_network_leave_its_filter_exact():
    x = images(1, 3, 32, 32, dtype=torch.float32)
    network = nn.Sequential(HighPass(0.33), nn.Conv2d(3, 3, 1))
    network(x)
    cast = copy.deepcopy(network).to(torch.bfloat16)
    assert torch.equal(cast[0](x), high_pass(x, 0.33))
    assert not cast[0].state_dict()


def test_survives_the_modes_it_was_first_called_in():
    """Each size is first met in a mode whose tensors would be useless outside of it."""
    with torch.inference_mode():
        high_pass(torch.randn(1, 1, 13, 17), 0.5)
    x = torch.randn(1, 1, 13, 17, requires_grad=True)
    high_pass(x, 0.5).sum().backward()

    with torch.device("meta"):
        high_pass(torch.randn(1, 1, 17, 13, device="cpu"), 0.5)
    assert high_pass(torch.randn(1, 1, 17, 13), 0.5).device.type == "cpu"

    exported = torch.export.export(HighPass(0.5), (torch.randn(1, 1, 19, 13),))
    x = torch.randn(1, 1, 19, 13)
    torch.testing.assert_close(exported.module()(x), high_pass(x, 0.5))
    assert type(high_pass(x, 0.5)) is Tensor


def test_meta_images_have_shapes_only():
    assert high_pass(torch.empty(2, 3, 299, 301, device="meta"), 0.33).shape == (2, 3, 299, 301)


def test_compiles_without_a_graph_break():
    compiled = torch.compile(HighPass(0.3), backend="aot_eager", fullgraph=True)
    x = images(1, 3, 24, 20, dtype=torch.float32)
    torch.testing.assert_close(compiled(x), high_pass(x, 0.3))


def test_composes_with_kornia():
    x = images(2, 3, 16, 16, dtype=torch.float32)
    pipeline = ImageSequential(RandomHorizontalFlip(p=1.0), HighPass(0.33))
    torch.testing.assert_close(pipeline(x), high_pass(x.flip(-1), 0.33))


@pytest.mark.parametrize("cutoff", [-0.1, 2.1, math.nan])
def test_a_cutoff_outside_its_range_is_refused(cutoff: float):
    with pytest.raises(ValueError, match=r"cutoff must be in \[0, 2\]"):
        HighPass(cutoff)
    with pytest.raises(ValueError, match=r"cutoff must be in \[0, 2\]"):
        high_pass(torch.zeros(1, 3, 4, 4), cutoff)


@pytest.mark.parametrize("x", [torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_what_is_not_a_batch_of_real_images_is_refused(x: Tensor):
    with pytest.raises(ValueError, match="floating point"):
        high_pass(x, 0.33)
