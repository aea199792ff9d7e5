"""Each perturbation against an independent reference, and what all of them keep."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.io import decode_jpeg, encode_jpeg

from tokd_lightning.data.codecs import decode_h264, encode_h264
from tokd_lightning.data.perturbations import (
    PERTURBATIONS,
    STRENGTHS,
    chosen,
    every_strength,
    perturb,
)
from tokd_lightning.errors import TokdError

SIDE = 45  # odd, as 299 is
KEYS = [f"video/{number}.png" for number in range(4)]


def photographs(number=4, side=SIDE):
    """Smooth shapes with some texture, 8 bits per channel."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((number, 3, 6, 6), generator=generator)
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic")
    texture = 0.06 * torch.randn((number, 3, side, side), generator=generator)
    return ((smooth * 0.6 + 0.2 + texture).clamp(0, 1) * 255).round() / 255


def picture(image):
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_stronger_is_farther_from_clean_and_eight_bits_are_left(name):
    images = photographs()
    perturbed = list(every_strength(images, name, KEYS))
    assert len(perturbed) == len(PERTURBATIONS[name].values) == 5
    distances = [float((one - images).square().mean()) for one in perturbed]
    assert distances == sorted(distances)
    assert 0 < distances[0] < distances[4] / 2
    for one in perturbed:
        assert one.shape == images.shape
        assert one.dtype == images.dtype
        assert 0 <= one.min() <= one.max() <= 1
        assert torch.equal((one * 255).round() / 255, one)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_frame_becomes_the_same_in_any_batch_at_any_strength_alone(name):
    images = photographs()
    together = list(every_strength(images, name, KEYS))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for strength in (1, 5):
            alone = [
                perturb(images[n : n + 1], name, strength, KEYS[n : n + 1]) for n in (3, 0, 1, 2)
            ]
            assert torch.equal(torch.cat(alone)[[1, 2, 3, 0]], together[strength - 1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_gpu_perturbs_as_a_cpu_does(name):
    images = photographs()
    there = every_strength(images.cuda(), name, KEYS)
    for here, one in zip(every_strength(images, name, KEYS), there, strict=True):
        assert one.is_cuda
        assert (one.cpu() - here).abs().max() < 1.5 / 255  # the last bit of eight may round apart


@pytest.mark.parametrize("strength", STRENGTHS)
def test_jpeg_is_what_torchvision_encodes_at_that_quality(strength):
    images = photographs()
    quality = PERTURBATIONS["jpeg"].values[strength - 1]
    ours = perturb(images, "jpeg", strength, KEYS)
    for image, one in zip(images, ours, strict=True):
        theirs = decode_jpeg(encode_jpeg((image * 255).round().to(torch.uint8), int(quality)))
        assert ((one * 255).round() - theirs).abs().float().mean() < 0.5


def test_the_stream_of_h264_says_its_crf_and_psnr_falls_with_it():
    image = picture(photographs(1, 64)[0])
    quality = []
    for crf in PERTURBATIONS["h264"].values:
        stream = encode_h264(image, crf)
        assert f"crf={crf:.1f}".encode() in stream  # x264 writes its settings into an SEI
        assert encode_h264(image, crf) == stream
        error = decode_h264(stream).astype(float) - image
        quality.append(10 * np.log10(255**2 / np.square(error).mean()))
    assert quality == sorted(quality, reverse=True)
    assert quality[0] > 25


def test_h264_of_a_grey_picture_is_that_picture():
    grey = torch.full((1, 3, SIDE, SIDE), 100 / 255)
    for one in every_strength(grey, "h264", KEYS[:1]):
        assert (one - grey).abs().max() <= 2 / 255


@pytest.mark.parametrize("name", ["blur", "resize", "contrast"])
def test_a_flat_image_stays_as_it_is(name):
    flat = torch.full((1, 3, SIDE, SIDE), 128 / 255)
    for one in every_strength(flat, name, KEYS[:1]):
        assert torch.allclose(one, flat, atol=1e-6)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_is_a_gaussian_of_its_sigma(strength):
    sigma = PERTURBATIONS["blur"].values[strength - 1]
    point = torch.zeros(1, 3, SIDE, SIDE)
    point[..., SIDE // 2] = 1  # a line, so that 8 bits suffice
    row = perturb(point, "blur", strength, KEYS[:1])[0, 0, SIDE // 2].double()
    place = torch.arange(SIDE) - SIDE // 2
    wanted = torch.exp(-(place**2) / (2 * sigma**2)).double()
    assert torch.allclose(row, wanted / wanted.sum(), atol=0.006)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_has_its_sigma_in_every_image_and_images_differ(strength):
    grey = torch.full((4, 3, 120, 120), 0.5)
    noise = 255 * (perturb(grey, "noise", strength, KEYS) - grey)
    sigma = PERTURBATIONS["noise"].values[strength - 1]
    assert noise.std((1, 2, 3)) == pytest.approx([(sigma**2 + 1 / 12) ** 0.5] * 4, rel=0.02)
    assert noise.mean((1, 2, 3)).abs().max() < 0.1 * sigma
    flat = noise.flatten(1)
    assert torch.corrcoef(flat).triu(1).abs().max() < 0.03


@pytest.mark.parametrize("strength", STRENGTHS)
def test_contrast_scales_the_distance_to_the_mean_grey(strength):
    images = photographs()
    factor = PERTURBATIONS["contrast"].values[strength - 1]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    found = perturb(images, "contrast", strength, KEYS)
    assert torch.allclose(found, mean + factor * (images - mean), atol=0.5 / 255 + 1e-5)


def test_resizing_takes_away_what_the_small_image_cannot_hold():
    place = torch.arange(96) * 2 * torch.pi
    fine, coarse = ((0.5 + 0.4 * torch.sin(place / px)).expand(1, 3, 96, 96) for px in (3, 24))
    kept = [
        float(perturb(wave, "resize", 3, KEYS[:1])[..., 24:72].std() / wave[..., 24:72].std())
        for wave in (fine, coarse)
    ]
    assert kept[0] < 0.3
    assert kept[1] > 0.9


def test_occlusion_covers_its_share_in_grey_and_grows_where_it_is():
    images, percents = photographs(4, 100), PERTURBATIONS["occlusion"].values
    covered, places = torch.zeros(4, 100, 100, dtype=torch.bool), []
    for percent, one in zip(percents, every_strength(images, "occlusion", KEYS), strict=True):
        changed = (one != images).any(1)
        assert changed.float().mean((1, 2)) == pytest.approx([percent / 100] * 4, rel=0.1)
        assert (one - 0.5).abs().amax(1)[changed].max() < 1 / 255
        assert not (covered & (one - 0.5).abs().gt(1 / 255).any(1)).any()
        covered |= changed
        places.append([tuple(rows.nonzero()[0].tolist()) for rows in changed])
    assert len(set(places[0])) == 4


def test_names_come_in_any_order_and_unknown_ones_are_refused():
    assert chosen("all") == list(PERTURBATIONS)
    assert chosen("blur, jpeg") == ["jpeg", "blur"]
    for wrong, said in (("sepia,jpeg", "no perturbation 'sepia'"), (",", "no perturbation named")):
        with pytest.raises(TokdError, match=f"{said}: choose from jpeg, h264"):
            chosen(wrong)
    with pytest.raises(ValueError, match="1 to 5, not 6"):
        perturb(photographs(1), "blur", 6, KEYS[:1])


def test_without_libx264_only_h264_is_refused(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", frozenset({"h264"}))
    with pytest.raises(TokdError, match="this PyAV was built without libx264"):
        chosen("all")
    assert chosen("jpeg,blur,noise") == ["jpeg", "blur", "noise"]


def test_the_documentation_has_these_strengths():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| (.+?) \|((?: [\d.]+ \|){5})", page, re.MULTILINE)
    written = {
        name: (parameter, tuple(float(value) for value in values.split("|")[:5]))
        for name, parameter, values in found
    }
    assert written == {name: (one.parameter, one.values) for name, one in PERTURBATIONS.items()}
