"""FAD, LFS and MixBlock against loops and the partition of the spectrum."""

import math

import pytest
import torch
import torch_dct

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import F3Net
from tokd_lightning.models.detectors.f3net import (
    FAD,
    LFS,
    ChannelScale,
    MixBlock,
    global_bands,
    local_bands,
)


def zeroed(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


def test_global_bands_have_the_published_sizes():
    area, diagonal = (
        global_bands(299, bands).sum(dim=(1, 2)).tolist() for bands in ("area", "diagonal")
    )
    assert area == [5778, 5547, 299**2 - 5778 - 5547, 299**2]
    assert diagonal == [190, 551, 44407, 299**2]  # public code: 189 in the first, without DC
    assert torch.equal(global_bands(64, "area")[:3].sum(dim=0), torch.ones(64, 64).double())
    assert bool(global_bands(64)[0, 0, 0])


def test_local_bands_partition_the_window():
    bands = local_bands()
    assert bands.sum(dim=(1, 2)).tolist() == [10, 18, 36, 21, 12, 3]
    assert torch.equal(bands.sum(dim=0), torch.ones(10, 10).double())


def test_fad_splits_an_image_into_bands_that_add_up():
    fad = zeroed(FAD(32)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    bands = fad(x).unflatten(1, (4, 3))
    torch.testing.assert_close(bands[:, :3].sum(dim=1), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(bands[:, 3], x, atol=1e-5, rtol=0)
    energy = bands[:, :3].square().sum(dim=(3, 4)).sum(dim=1)
    torch.testing.assert_close(energy, x.square().sum(dim=(2, 3)), rtol=1e-5, atol=0)


def test_fad_applies_base_plus_learned_filters():
    torch.manual_seed(0)
    fad, x = FAD(16), torch.randn(1, 3, 16, 16)
    filters = global_bands(16) + 2 * torch.sigmoid(fad.weight.detach().double()) - 1
    spectrum = torch_dct.dct_2d(x.double(), norm="ortho")
    for band in range(4):
        expected = torch_dct.idct_2d(spectrum * filters[band], norm="ortho")
        found = fad(x).unflatten(1, (4, 3))[:, band].double()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("statistic", ["log_of_sum", "sum_of_logs"])
def test_lfs_is_a_loop_over_windows(statistic):
    torch.manual_seed(0)
    lfs, x = LFS(statistic).double(), torch.rand(1, 3, 24, 24).double() * 2 - 1
    found = lfs(x)[0].double()
    grey = 127.5 * (x.double()[0] + 1)
    grey = 0.299 * grey[0] + 0.587 * grey[1] + 0.114 * grey[2]
    padded = torch.nn.functional.pad(grey, (4, 4, 4, 4))
    filters = local_bands() + 2 * torch.sigmoid(lfs.weight.detach().double()) - 1
    assert found.shape == (6, 12, 12)
    for row in range(0, 12, 2):
        for column in range(1, 12, 3):
            window = padded[2 * row : 2 * row + 10, 2 * column : 2 * column + 10]
            c = torch_dct.dct_2d(window, norm="ortho")
            for band in range(6):
                if statistic == "log_of_sum":
                    expected = math.log10(float((c * filters[band]).abs().sum()) + 1e-6)
                else:
                    logs = (c.abs() + 1e-15).log10() * filters[band]
                    expected = float(logs.sum() / local_bands()[band].sum())
                got = float(found[band, row, column])
                assert got == pytest.approx(expected, abs=1e-3)


def test_lfs_of_a_constant_image_moves_the_first_band_alone():
    lfs = zeroed(LFS())
    dark, bright = (lfs(torch.full((1, 3, 24, 24), v))[0, :, 3:-3, 3:-3] for v in (-0.5, 0.5))
    assert bool((bright[0] - dark[0] > 0.4).all())
    assert float(bright[1:].max()) < -2  # of rounding errors


@pytest.mark.parametrize("make", [lambda: FAD(16), LFS])
def test_transforms_are_computed_in_float32_under_autocast(make):
    torch.manual_seed(0)
    transform, x = make(), torch.rand(1, 3, 16, 16)
    expected = transform(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(transform(x), expected)


def test_channel_scale_is_a_depthwise_convolution():
    torch.manual_seed(0)
    scale, x = ChannelScale(4).double(), torch.randn(2, 4, 3, 5, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, scale.weight, scale.bias, groups=4)
    torch.testing.assert_close(scale(x), expected)


def test_mix_block_starts_as_the_identity():
    torch.manual_seed(0)
    block, maps = MixBlock(4), torch.randn(2, 3, 4, 6, 6)
    for training in (True, False):
        block.train(training)
        for found, given in zip(block(*maps), maps, strict=False):
            torch.testing.assert_close(found, given)


def test_mix_block_is_row_attention_within_each_channel():
    torch.manual_seed(0)
    block = MixBlock(2).eval()
    with torch.no_grad():
        block.gamma.copy_(torch.tensor([0.7, -0.4]))
        for part in block.convolutions:
            part.bias.normal_()
    fad, lfs = torch.randn(2, 1, 2, 5, 5)
    found = block(fad, lfs)
    maps = (fad, lfs)
    q = [layer(x) for layer, x in zip(block.queries, maps, strict=True)]
    k = [layer(x) for layer, x in zip(block.keys, maps, strict=True)]
    for channel in range(2):
        rows = torch.cat([part[0, channel] for part in q], dim=1)
        keys = torch.cat([part[0, channel] for part in k], dim=1)
        attention = torch.stack(
            [torch.softmax(torch.stack([row @ key for key in keys]), 0) for row in rows]
        )
        gates = 2 * torch.sigmoid(block.gamma) - 1
        for number, (own, other, gate) in enumerate(((fad, lfs, gates[1]), (lfs, fad, gates[0]))):
            mixed = other[0, channel] * attention * gate
            conv, norm = block.convolutions[number], block.norms[number]
            mixed = mixed * conv.weight[channel, 0, 0, 0] + conv.bias[channel]
            mixed = mixed / (1 + norm.eps) ** 0.5
            torch.testing.assert_close(found[number][0, channel], own[0, channel] + mixed)


def test_f3net_refuses_images_of_another_side():
    network = F3Net("resnet18_thin", False, size=64)
    network.check_size(64)
    with pytest.raises(TokdError, match=r"tied to 64 px.*--model.detector.size 96"):
        network.check_size(96)


def test_f3net_branches_meet_only_through_the_mix_blocks():
    torch.manual_seed(0)
    network, image = F3Net("resnet18_thin", False, size=64).eval(), torch.randn(1, 3, 64, 64)
    output = network(image)
    assert set(output.maps) == set(output.frequency) == {8, 16, 32}
    alone = dict(network.rgb(network.fad(image)))
    for stride, found in output.maps.items():
        torch.testing.assert_close(found, alone[stride])
    with torch.no_grad():
        for block in network.mixers.values():
            block.gamma.fill_(3.0)
    mixed = network(image)
    assert torch.equal(mixed.maps[8], output.maps[8])
    assert not torch.allclose(mixed.maps[16], output.maps[16])
    weight = network.classifier.weight
    pooled = torch.cat([mixed.maps[32].mean((2, 3)), mixed.frequency[32].mean((2, 3))], dim=1)
    torch.testing.assert_close(mixed.logits, pooled @ weight.T + network.classifier.bias)
    mean = network.heat_map(mixed).mean(dim=(1, 2))
    torch.testing.assert_close(mean, mixed.logits[:, 1] - mixed.logits[:, 0])
