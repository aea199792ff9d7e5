from itertools import pairwise

import pytest
import torch
import torch_dct
from test_frequency import images

from tokd_lightning.frequency import band_frequencies, high_pass, split_bands

EDGES = (0, 0.05, 0.33, 0.5, 1.2, 2)


def by_full_transform(x, low, high):
    height, width = x.shape[-2:]
    frequency = torch.arange(height)[:, None] / height + torch.arange(width) / width
    kept = (frequency >= low) & (frequency < high)
    kept[0, 0] = False
    return torch_dct.idct_2d(torch_dct.dct_2d(x, norm="ortho") * kept, norm="ortho")


@pytest.mark.parametrize("size", [(32, 32), (31, 45), (1, 7)])
def test_every_band_is_that_of_the_full_transform(size):
    x = images(2, 3, *size)
    bands = list(split_bands(x, EDGES))
    assert len(bands) == len(EDGES) - 1
    for band, (low, high) in zip(bands, pairwise(EDGES), strict=True):
        torch.testing.assert_close(band, by_full_transform(x, low, high), atol=1e-10, rtol=0)


def test_the_bands_and_the_mean_are_the_image():
    x = images(2, 3, 31, 45)
    total = torch.stack(list(split_bands(x, EDGES))).sum(0) + x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(total, x, atol=1e-10, rtol=0)


def test_what_is_left_without_all_bands_is_the_mean():
    x = images(2, 3, 24, 24)
    left = x - sum(split_bands(x, EDGES))
    torch.testing.assert_close(left, x.mean((2, 3), keepdim=True).expand_as(x), atol=1e-10, rtol=0)


def test_the_bands_above_a_cutoff_are_the_high_pass_of_the_paper():
    x = images(2, 3, 31, 45)
    above = list(split_bands(x, EDGES))[2:]
    torch.testing.assert_close(sum(above), high_pass(x, 0.33), atol=1e-10, rtol=0)


def test_bands_share_no_energy():
    bands = list(split_bands(images(1, 1, 20, 20), EDGES))
    products = torch.stack(bands).flatten(1)
    energy = products @ products.T
    torch.testing.assert_close(energy, energy.diag().diag(), atol=1e-10, rtol=0)


def test_half_precision_is_split_in_single():
    x = images(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bands = list(split_bands(x.float(), EDGES))
        halves = list(split_bands(x.bfloat16(), EDGES))
    for ours, exact in zip(bands, split_bands(x, EDGES), strict=True):
        torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=0)
    assert {band.dtype for band in halves} == {torch.float32}


@pytest.mark.parametrize("edges", [(0.5,), (0, 0.5, 0.5), (1, 0.5), (-0.1, 1), (0, 2.1)])
def test_edges_that_do_not_increase_within_the_square_are_refused(edges):
    with pytest.raises(ValueError, match="edges must increase"):
        list(split_bands(images(1, 1, 4, 4), edges))


def test_what_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match="floating point"):
        list(split_bands(torch.zeros(3, 4, 4), EDGES))


def test_the_lowest_frequency_is_that_of_the_mean():
    found = band_frequencies(3, 4)
    assert found.shape == (3, 4)
    assert found[0, 0] == 0
    assert float(found[1, 2]) == pytest.approx(1 / 3 + 2 / 4)
