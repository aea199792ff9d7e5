"""AddNet's mask against OpenCV, and its places in the network."""

import math

import numpy as np
import pytest
import torch

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import AddNet
from tokd_lightning.models.detectors.addnet import attention_mask
from tokd_lightning.models.detectors.hulls import ORGANS, filled_hulls, gaussian_blur


def points(count=2, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 68, 2, generator=generator) * side * 0.6 + side * 0.2


def test_filled_hulls_are_opencv_s():
    cv2 = pytest.importorskip("cv2")
    drawn = (points(4) // 1).float()
    for found, hull in zip(filled_hulls(drawn, 64), drawn.numpy().astype(np.int32), strict=True):
        expected = np.zeros((64, 64), np.uint8)
        cv2.fillConvexPoly(expected, cv2.convexHull(hull), 1)
        inside = cv2.erode(expected, np.ones((3, 3)))  # OpenCV draws edges thicker
        assert bool((found.numpy() >= inside).all())
        assert bool((found.numpy() <= expected).all())
    line = torch.stack([torch.arange(5.0), torch.arange(5.0)], dim=1)[None]
    assert float(filled_hulls(line, 8).sum()) == 0


def test_gaussian_blur_is_opencv_s():
    cv2 = pytest.importorskip("cv2")
    image = torch.rand(1, 1, 20, 24)
    expected = cv2.GaussianBlur(image[0, 0].numpy(), (7, 7), 1.5, borderType=cv2.BORDER_REPLICATE)
    torch.testing.assert_close(gaussian_blur(image, 7, 1.5)[0, 0], torch.from_numpy(expected))


def test_attention_mask_adds_the_organs_to_the_face():
    drawn = points(1, 112)
    mask = attention_mask(drawn, 112, sigma=0.02, organs=0.5)
    total = gaussian_blur(filled_hulls(drawn, 112)[:, None], 9, 2.24)  # round(15 / 2) | 1
    for part in ORGANS.values():
        total = total + 0.5 * gaussian_blur(filled_hulls(drawn[:, part], 112)[:, None], 9, 2.24)
    torch.testing.assert_close(mask, total / total.max())
    assert (float(mask.min()), float(mask.max())) == (0, 1)
    assert float(attention_mask(drawn, 112, floor=0.3).min()) == pytest.approx(0.3)


def test_a_face_without_points_has_a_mask_of_ones():
    drawn = points(2)
    drawn[0, 3] = math.nan
    mask = attention_mask(drawn, 64)
    assert torch.equal(mask[0], torch.ones(1, 64, 64))
    torch.testing.assert_close(mask[1:], attention_mask(drawn[1:], 64))


def test_mask_and_image_mirror_alike():
    drawn = points(2)
    mirrored = drawn.clone()
    mirrored[..., 0] = 63 - mirrored[..., 0]
    found = attention_mask(mirrored, 64, organs=0.0)
    torch.testing.assert_close(found, attention_mask(drawn, 64, organs=0.0).flip(-1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AddNet("resnet18_thin", False).eval()


def test_a_mask_of_ones_is_the_plain_network(network):
    image = torch.randn(2, 3, 64, 64)
    plain = network.classifier(network.backbone(image)[32].mean(dim=(2, 3)))
    assert torch.equal(network.masked(image, torch.ones(2, 1, 64, 64)).logits, plain)


def test_the_image_is_masked_before_the_first_layer(network):
    seen, image, mask = [], torch.randn(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    handle = next(network.backbone.stages[0].children()).register_forward_pre_hook(
        lambda m, a: seen.append(a[0])
    )
    network.masked(image, mask)
    handle.remove()
    assert torch.equal(seen[0], image * mask)


def test_a_mask_of_zeros_gives_constant_logits(network):
    logits = network.masked(torch.randn(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)).logits
    torch.testing.assert_close(logits[0], logits[1])


def test_xception_is_masked_at_the_five_places_of_the_figure(monkeypatch):
    sides = []
    pool = torch.nn.functional.adaptive_avg_pool2d
    with torch.device("meta"):
        xception = AddNet(pretrained=False)

    def noted(mask, size):
        sides.append(tuple(size))
        return pool(mask, size)

    monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", noted)
    xception(torch.empty(1, 3, 299, 299, device="meta"))
    assert [n for n, _ in sides if sides][:4] == [147, 74, 37, 19]


def test_addnet_without_landmarks_is_one_line(network):
    with pytest.raises(TokdError, match=r"needs landmarks.*tokd landmarks DIR"):
        network(torch.randn(1, 3, 64, 64))


def test_before_normalisation_masks_to_black():
    dark = AddNet("resnet18_thin", False, before_normalisation=True).eval()
    seen = []
    next(dark.backbone.stages[0].children()).register_forward_pre_hook(
        lambda m, a: seen.append(a[0])
    )
    dark.masked(torch.full((1, 3, 64, 64), 0.4), torch.zeros(1, 1, 64, 64))
    assert float(seen[0].max()) == -1
