"""The phase image against NumPy's FFT, and its invariants."""

import numpy as np
import pytest
import torch

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.detectors import SPSL
from tokd_lightning.models.detectors.spsl import _by_matrices, phase_image


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(16, 16), (15, 15), (12, 17)])
def test_phase_image_is_numpy_s(size):
    grey = noise(2, *size)
    spectrum = np.fft.fft2(grey.numpy())
    expected = np.fft.ifft2(np.exp(1j * np.angle(spectrum))).real
    for found in (phase_image(grey), _by_matrices(grey)):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    torch.testing.assert_close(phase_image(grey.float()), phase_image(grey).float())


@pytest.mark.parametrize("size", [16, 15])
def test_phase_image_has_unit_energy_and_amplitude(size):
    p = phase_image(noise(3, size, size))
    torch.testing.assert_close(p.square().sum(dim=(1, 2)), torch.ones(3, dtype=p.dtype))
    torch.testing.assert_close(torch.fft.fft2(p).abs(), torch.ones_like(p))


def test_phase_image_ignores_contrast_and_follows_shifts():
    grey = noise(1, 16, 16)
    torch.testing.assert_close(phase_image(7 * grey), phase_image(grey))
    moved = grey.roll((3, -5), dims=(1, 2))
    torch.testing.assert_close(phase_image(moved), phase_image(grey).roll((3, -5), dims=(1, 2)))


@pytest.mark.parametrize("make", [phase_image, _by_matrices])
def test_phase_image_of_a_flat_image_is_a_delta(make):
    delta = torch.zeros(1, 32, 32)
    delta[0, 0, 0] = 1
    torch.testing.assert_close(make(torch.full((1, 32, 32), 0.3)), delta, atol=1e-5, rtol=0)
    torch.testing.assert_close(make(torch.zeros(1, 32, 32)), delta, atol=1e-5, rtol=0)


def test_phase_image_is_computed_in_float32_under_autocast():
    grey = noise(1, 16, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(phase_image(grey), phase_image(grey.clone()))
        assert phase_image(grey.bfloat16()).dtype == torch.float32


def test_spsl_feeds_the_phase_of_the_mean_of_the_channels():
    image = noise(2, 3, 32, 32).float()
    raw = phase_image(image.mean(dim=1, keepdim=True))
    unit, plain = (
        SPSL("resnet18_thin", False, gain=gain).eval().phase(image) for gain in ("unit", "raw")
    )
    torch.testing.assert_close(plain, raw)
    torch.testing.assert_close(unit, 32 * raw)
    torch.testing.assert_close(unit.std(), torch.tensor(1.0), atol=0.05, rtol=0)


def test_spsl_stem_keeps_rgb_and_adds_their_mean():
    torch.manual_seed(0)
    rgb = next(build_backbone("resnet18_thin", False).parameters())
    torch.manual_seed(0)
    network = SPSL("resnet18_thin", False)
    weight = next(network.backbone.parameters())
    assert weight.shape[1] == 4
    assert torch.equal(weight[:, :3], rgb)
    torch.testing.assert_close(weight[:, 3], weight[:, :3].mean(dim=1))
    mean = next(SPSL("resnet18_thin", False, stem="mean").backbone.parameters())
    assert all(torch.equal(mean[:, 0], mean[:, k]) for k in (1, 2, 3))


def test_spsl_depth_is_that_of_its_middle_flow():
    with torch.device("meta"):
        counts = {
            middle: sum(p.numel() for p in SPSL(pretrained=False, middle=middle).parameters())
            for middle in (None, 0, 8)
        }
    assert counts[None] == counts[0]
    assert counts[8] - counts[0] == 8 * (3 * (728 * 728 + 728 * 9) + 3 * 2 * 728)
    with pytest.raises(TokdError, match="no middle flow"):
        SPSL("resnet18_thin", False, middle=0)
