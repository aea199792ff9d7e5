"""Face X-ray, Multi-task, MultiAtt and Two-branch against their definitions by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tokd_lightning.models.detectors import (
    FaceXray,
    FaceXrayLoss,
    MultiAtt,
    MultiAttLoss,
    MultiTask,
    MultiTaskLoss,
    RadiusLoss,
    TwoBranch,
)
from tokd_lightning.models.detectors.attention_losses import (
    attention_drop,
    independence,
    move_centres,
)
from tokd_lightning.models.detectors.detector import DetectorOutput
from tokd_lightning.models.detectors.facexray import face_xray
from tokd_lightning.models.detectors.multiatt import (
    AttentionMaps,
    TextureBlock,
    attention_pool,
    pooled_average,
)
from tokd_lightning.models.detectors.twobranch import LaplacianOfGaussian, laplacian_kernel

DOUBLE = torch.float64


def out(logits, **auxiliary):
    return DetectorOutput(torch.as_tensor(logits, dtype=DOUBLE), {}, auxiliary)


# Face X-ray


def test_face_xray_is_one_at_half_and_zero_at_the_ends():
    soft = torch.linspace(0, 1, 64, dtype=DOUBLE).reshape(1, 1, 8, 8)
    torch.testing.assert_close(face_xray(soft), 4 * soft * (1 - soft))
    assert float(face_xray(torch.full((1, 1, 4, 4), 0.5))[0, 0, 0, 0]) == 1
    for flat in (torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)):
        assert float(face_xray(flat).abs().max()) < 1e-6


def test_face_xray_blurs_hard_masks_alone():
    cv2 = pytest.importorskip("cv2")
    hard = torch.zeros(1, 1, 48, 48)
    hard[..., 12:36, 12:36] = 1
    blurred = cv2.GaussianBlur(hard[0, 0].numpy(), (9, 9), 5, borderType=cv2.BORDER_REPLICATE)
    expected = torch.from_numpy(4 * blurred * (1 - blurred))
    torch.testing.assert_close(face_xray(hard)[0, 0], expected, atol=1e-6, rtol=0)
    both = torch.cat([hard, hard * 0.25])
    assert float(face_xray(both)[1].max()) == pytest.approx(0.75)


def test_face_xray_loss_is_ce_and_bce_of_known_masks():
    network = FaceXray("resnet18_thin", False)
    loss = FaceXrayLoss(network, weight=10)
    logit, mask = torch.randn(2, 1, 8, 8, dtype=DOUBLE), torch.rand(2, 1, 8, 8, dtype=DOUBLE)
    mask[1] = math.nan
    batch = {"label": torch.tensor([1, 0]), "mask": mask}
    found = loss(network, out([[0.0, 0.0]] * 2, xray_logit=logit), batch)
    target, p = 4 * mask[0] * (1 - mask[0]), logit[0].sigmoid()
    bce = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(found["xray"], 10 * bce)
    assert float(found["ce"]) == pytest.approx(math.log(2))
    off = FaceXrayLoss(network, weight=0)
    assert (off.supervision, "off" in off.note) == ((), True)
    assert set(off(network, out([[0.0, 0.0]] * 2), {"label": batch["label"]})) == {"ce"}


def test_face_xray_is_classified_by_the_mean_of_its_map():
    network = FaceXray("resnet18_thin", False).eval()
    network.keeps_auxiliary = True
    output = network(torch.randn(2, 3, 64, 64))
    mean = output.auxiliary["xray"].mean(dim=(1, 2, 3))
    torch.testing.assert_close(output.logits, network.classifier(mean[:, None]))
    logit = output.auxiliary["xray_logit"]  # of which the loss takes the sigmoid
    torch.testing.assert_close(output.auxiliary["xray"], 1 / (1 + (-logit).exp()))


@pytest.mark.parametrize("seed", range(3))
def test_face_xray_starts_by_calling_the_larger_mean_fake(seed):
    torch.manual_seed(seed)
    logits = FaceXray("resnet18_thin", False).classifier(torch.tensor([[0.0], [0.1]]))
    less, more = (logits[:, 1] - logits[:, 0]).tolist()
    assert more - less == pytest.approx(2)


# Multi-task


def test_multitask_logits_are_the_activations_of_both_halves():
    network = MultiTask().eval()
    image = torch.randn(2, 3, 32, 32)
    code = network.encoder(image)
    expected = torch.stack(
        [code[:, :64].abs().mean((1, 2, 3)), code[:, 64:].abs().mean((1, 2, 3))], 1
    )
    torch.testing.assert_close(network(image).logits, expected)


@pytest.mark.parametrize("label", [0, 1])
def test_multitask_decodes_the_half_of_the_label_alone(label):
    network = MultiTask()
    code: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda m, a, o: code.append(o) or o.retain_grad())
    output = network(torch.randn(2, 3, 32, 32), label=torch.full((2,), label))
    output.auxiliary["reconstruction"].sum().backward()
    gradient = code[0].grad.unflatten(1, (2, 64)).abs().sum(dim=(0, 2, 3, 4))
    assert float(gradient[1 - label]) == 0
    assert float(gradient[label]) > 0


def test_multitask_decodes_the_larger_activation_without_a_label():
    network = MultiTask().eval()
    network.keeps_auxiliary = True
    image = torch.randn(4, 3, 32, 32)
    output = network(image)
    chosen = network(image, label=output.logits.argmax(1)).auxiliary["reconstruction"]
    assert torch.equal(output.auxiliary["reconstruction"], chosen)


def test_multitask_losses_have_their_closed_forms():
    network = MultiTask()
    a = torch.tensor([[0.9, 0.2], [0.4, 0.7]], dtype=DOUBLE)
    scores = torch.randn(2, 2, 8, 8, dtype=DOUBLE)
    mask = (torch.rand(2, 1, 8, 8) > 0.5).to(DOUBLE)
    image, made = torch.rand(2, 2, 3, 8, 8, dtype=DOUBLE)
    batch = {"label": torch.tensor([0, 1]), "mask": mask, "image": image}
    output = out(a, mask_logits=scores, reconstruction=made)
    found = MultiTaskLoss(network, 1, 2, 3)(network, output, batch)
    expected = (abs(0.2 - 0) + abs(0.9 - 1) + abs(0.7 - 1) + abs(0.4 - 0)) / 2
    assert float(found["activation"]) == pytest.approx(expected)
    p = scores.softmax(1).gather(1, mask.long())
    torch.testing.assert_close(found["segmentation"], -2 * p.log().mean())
    torch.testing.assert_close(found["reconstruction"], 3 * (image - made).square().mean())
    sure = 60 * (functional.one_hot(mask[:, 0].long(), 2).permute(0, 3, 1, 2).to(DOUBLE) - 0.5)
    output = out(a, mask_logits=sure, reconstruction=made)
    twice = MultiTaskLoss(network, double_softmax=True)(network, output, batch)
    assert float(twice["segmentation"]) == pytest.approx(math.log(1 + math.exp(-1)))
    off = MultiTaskLoss(network, segmentation=0)
    assert off.supervision == ()
    del batch["mask"]
    assert float(off(network, output, batch)["segmentation"]) == 0


# MultiAtt


def test_uniform_attention_is_average_pooling():
    features = torch.randn(2, 5, 6, 6, dtype=DOUBLE)
    pooled = attention_pool(features, torch.ones(2, 3, 3, 3, dtype=DOUBLE))
    expected = functional.normalize(features.mean(dim=(2, 3)), dim=-1)
    torch.testing.assert_close(pooled, expected[:, None].expand(-1, 3, -1))


def test_permuted_maps_permute_the_rows():
    features, attention = torch.randn(2, 5, 6, 6), torch.rand(2, 4, 6, 6)
    order = torch.tensor([2, 0, 3, 1])
    pooled = attention_pool(features, attention)
    torch.testing.assert_close(attention_pool(features, attention[:, order]), pooled[:, order])
    per_map = features[:, None].expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(attention_pool(per_map, attention), pooled)


def test_attention_maps_are_zero_at_the_border():
    maps = AttentionMaps(4, 3)(torch.randn(2, 4, 24, 24))
    assert bool((maps[..., 2:-2, 2:-2] > 0).all())
    for edge in (maps[..., :2, :], maps[..., -2:, :], maps[..., :2], maps[..., -2:]):
        assert float(edge.detach().abs().max()) == 0


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_texture_ignores_what_is_constant_within_the_pooled_cells(kind):
    torch.manual_seed(0)
    block = TextureBlock(4, 2, kind).eval()
    x, attention = torch.randn(1, 4, 12, 12), torch.rand(1, 2, 3, 3)
    if kind == "v1":
        constant = functional.interpolate(torch.randn(1, 4, 3, 3), (12, 12), mode="nearest")
        torch.testing.assert_close(block(x + constant, attention)[0], block(x, attention)[0])
        assert block(x, attention)[0].shape == (1, 16, 12, 12)
        torch.testing.assert_close(block(x, attention)[1], functional.avg_pool2d(x, 4))
    else:
        texture, average = block(x, attention.requires_grad_())
        assert (texture.shape, average.shape) == ((1, 2, 4, 12, 12), (1, 4, 3, 3))
        assert torch.autograd.grad(texture.sum(), attention, allow_unused=True) == (None,)


def test_pooled_average_standardises_over_space():
    average, attention = torch.randn(2, 5, 6, 6), torch.rand(2, 3, 6, 6)
    moved = average * torch.rand(1, 5, 1, 1).add(0.5) + torch.randn(1, 5, 1, 1)
    found = pooled_average(moved, attention)
    torch.testing.assert_close(found, pooled_average(average, attention), atol=1e-5, rtol=1e-4)


def test_equal_centres_have_the_whole_margin():
    for count in (2, 4):
        centres = torch.ones(count, 3, dtype=DOUBLE)
        rows = centres.expand(2, -1, -1)
        found = independence(rows, centres, torch.tensor([0, 1]), alpha=0.05)
        assert float(found) == pytest.approx((count - 1) * 0.2 / (2 * 0.05))


def test_independence_is_written_out():
    torch.manual_seed(0)
    rows, centres = 0.2 * torch.randn(3, 4, 5, dtype=DOUBLE), 0.1 * torch.randn(4, 5, dtype=DOUBLE)
    label, alpha = torch.tensor([0, 1, 0]), 0.05
    within = (
        sum(
            max(0.0, float((rows[i, j] - centres[j]).norm()) - (0.05, 0.1)[label[i]])
            for i in range(3)
            for j in range(4)
        )
        / 12
    )
    across = sum(
        max(0.0, 0.2 - float((centres[j] - centres[k]).norm())) for j in range(4) for k in range(j)
    )
    found = independence(rows, centres, label, alpha)
    assert float(found) == pytest.approx(within + across / (4 * alpha))
    apart = [(rows[i] - centres).norm() for i in range(3)]
    v2 = (
        sum(
            max(0.0, float(d) - 0.2) if y == 0 else max(0.0, 0.8 - float(d))
            for d, y in zip(apart, label, strict=True)
        )
        / 3
    )
    across = sum(
        max(0.0, 0.8 - float((centres[j] - centres[k]).norm())) for j in range(4) for k in range(j)
    )
    found = independence(rows, centres, label, alpha, "v2")
    assert float(found) == pytest.approx(v2 + across / (4 * alpha))


def test_independence_has_the_gradient_of_its_moving_centres():
    torch.manual_seed(0)
    rows, centres = 0.3 * torch.randn(2, 3, 4, dtype=DOUBLE), 0.05 * torch.randn(3, 4, dtype=DOUBLE)
    label = torch.tensor([0, 1])

    def total(v):
        return independence(v, move_centres(centres, v, 0.05), label, 0.05)

    assert torch.autograd.gradcheck(total, (rows.requires_grad_(),))
    still = independence(rows, move_centres(centres, rows, 0.05).detach(), label, 0.05)
    (with_centres,) = torch.autograd.grad(total(rows), rows)
    (without,) = torch.autograd.grad(still, rows)
    assert not torch.allclose(with_centres, without)
    (finite,) = torch.autograd.grad(
        total(torch.zeros_like(rows).requires_grad_()), rows, allow_unused=True
    )
    assert finite is None or bool(finite.isfinite().all())


def test_attention_drop_leaves_images_alone_where_the_map_is_zero():
    image, noise = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 8, 8)
    draws = torch.tensor([[0.3, 0.7]])
    assert torch.equal(attention_drop(image, torch.zeros(1, 1, 4, 4), draws, noise), image)
    half = torch.zeros(1, 1, 16, 16)
    half[..., :8] = 3
    found = attention_drop(image, half, draws, noise)
    assert torch.equal(found[..., 8:], image[..., 8:])
    threshold, slope = 0.4 + 0.2 * 0.3, 3 + 2 * 0.7
    low = 1 / (1 + math.exp(threshold * slope))
    weight = (1 / (1 + math.exp(-(1 - threshold) * slope)) - low) / (1 - low)
    rough = attention_drop(torch.zeros(1, 3, 16, 16), half, draws, noise)
    assert float((found - rough)[0, 0, 0, 0]) != pytest.approx(
        float(image[0, 0, 0, 0]) * (1 - weight), abs=1e-9
    )
    none = attention_drop(image * 0, half, draws, noise * 0)
    assert float(none.abs().max()) == 0


def multiatt(count=3):
    torch.manual_seed(0)
    return MultiAtt("resnet18_thin", False, attentions=count, dropout=0.0, dropout_final=0.0)


def batch_of(count=4):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 3, 64, 64, generator=generator)
    return {"image": image, "label": torch.arange(count) % 2, "seeds": list(range(count))}


def test_multiatt_moves_its_centres_and_keeps_batch_norm_in_the_second_pass():
    network, batch = multiatt(), batch_of()
    loss = MultiAttLoss(network, alpha=0.1)
    output = network(batch["image"])
    before = {k: v.clone() for k, v in network.state_dict().items()}
    losses = loss(network, output, batch)
    assert set(losses) == {"ce", "independence", "agda", "match"}
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert network.attention.layers[1].momentum == 0.1
    expected = 0.1 * output.auxiliary["pooled"].mean(dim=0)
    torch.testing.assert_close(loss.centres, expected.detach())
    loss.epoch = 2
    loss(network, network(batch["image"]), batch)
    moved = loss.centres - expected.detach()
    torch.testing.assert_close(
        moved,
        0.1 * 0.81 * (output.auxiliary["pooled"].mean(0).detach() - expected.detach()),
        atol=1e-3,
        rtol=0.1,
    )
    assert set(loss.state_dict()) == {"centres"}
    assert not any("centres" in key for key in network.state_dict())
    assert set(MultiAttLoss(network, agda=0)(network, output, batch)) == {"ce", "independence"}


def test_the_loss_of_multiatt_keeps_the_gradient_of_its_moved_centres():
    """Rows within their margins: the centres' term alone has a gradient."""
    network, batch = multiatt(), batch_of()
    loss = MultiAttLoss(network, agda=0)
    rows = (1e-3 * torch.randn(4, 3, network.texture.channels)).requires_grad_()
    output = out(torch.zeros(4, 2), pooled=rows)
    (gradient,) = torch.autograd.grad(loss(network, output, batch)["independence"], rows)
    assert float(gradient.norm()) > 0


def test_agda_draws_by_mass_and_matches_the_other_maps():
    network, batch = multiatt(), batch_of(400)
    loss = MultiAttLoss(network)
    attention = torch.ones(400, 3, 4, 4) * torch.tensor([0.0, 3.0, 15.0])[:, None, None] / 16
    _, drawn = loss.degrade(torch.zeros(400, 3, 8, 8), attention, batch)
    shares = torch.bincount(drawn, minlength=3) / 400  # sqrt(1), sqrt(4), sqrt(16) of 7
    torch.testing.assert_close(shares, torch.tensor([1, 2, 4]) / 7, atol=0.07, rtol=0)


def test_textures_of_the_degraded_map_are_not_matched(monkeypatch):
    network, batch = multiatt(), batch_of(2)
    rows = torch.zeros(2, 3, network.texture.channels)
    again = rows.clone()
    again[0, 1, 0], again[1, 0, 0], again[1, 2, 0] = 2.0, 4.0, 6.0
    loss = MultiAttLoss(network, match=0.5)
    monkeypatch.setattr(loss, "degrade", lambda image, *_: (image, torch.tensor([1, 0])))
    second = out(torch.zeros(2, 2), pooled=again)
    monkeypatch.setattr(network, "forward", lambda *_, **__: second)
    attention = torch.zeros(2, 3, 2, 2)
    found = loss(network, out(torch.zeros(2, 2), pooled=rows, attention=attention), batch)
    assert float(found["match"]) == pytest.approx(0.5 * 6 / 6)  # 6 is left, of 6 maps


def test_agda_has_the_gradient_of_finite_differences(monkeypatch):
    """Of the network's parameters, through both passes; the degraded images stay as they are."""
    network, batch = multiatt().double(), batch_of()
    batch["image"] = batch["image"].double()
    loss = MultiAttLoss(network).eval()  # centres stay
    fixed = loss.degrade(batch["image"], network(batch["image"]).auxiliary["attention"], batch)
    monkeypatch.setattr(loss, "degrade", lambda *_: fixed)
    parameters = list(network.parameters())
    directions = [torch.randn_like(p) * p.detach().std().nan_to_num(1.0) for p in parameters]

    def total():
        found = loss(network, network(batch["image"]), batch)
        return found["agda"] + found["match"]

    gradients = torch.autograd.grad(total(), parameters, allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, values = 1e-6, []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
            values.append(float(total()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope), rel=1e-3)


def test_the_second_version_of_ril_has_the_gradient_of_finite_differences():
    torch.manual_seed(0)
    rows, centres = 0.3 * torch.randn(2, 3, 4, dtype=DOUBLE), 0.1 * torch.randn(3, 4, dtype=DOUBLE)

    def total(v, c):
        return independence(v, move_centres(c, v, 0.05), torch.tensor([0, 1]), 0.05, "v2")

    assert torch.autograd.gradcheck(total, (rows.requires_grad_(), centres.requires_grad_()))


# Two-branch


def test_laplacian_of_gaussian_of_a_plane_is_zero():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    found = LaplacianOfGaussian()((0.3 * x - 0.2 * y + 1)[None, None])
    assert float(found[..., 8:-8, 8:-8].abs().max()) < 1e-4
    assert float(laplacian_kernel().sum()) == pytest.approx(0, abs=1e-12)


def test_laplacian_of_gaussian_of_a_step_is_a_symmetric_pair():
    step = torch.zeros(1, 2, 32, 32)
    step[..., 16:] = 1
    found = LaplacianOfGaussian()(step)
    torch.testing.assert_close(found[..., 8:24], -found[..., 8:24].flip(-1), atol=1e-5, rtol=0)
    assert float(found.max()) > 0.01
    torch.testing.assert_close(found[:, 0], found[:, 1])


def test_radius_loss_by_hand_and_without_a_class():
    loss = RadiusLoss(TwoBranch("resnet18_thin", False, recurrent=False))
    d = torch.tensor([0.0, 0.5, 2.0, 1.0], dtype=DOUBLE)
    label = torch.tensor([0, 0, 1, 1])
    found = loss(None, out(torch.zeros(4, 2), distance=d), {"label": label})
    assert float(found["real"]) == pytest.approx((0 + 0.5 - 0.042) / 2)
    assert float(found["fake"]) == pytest.approx((0 + 0.638) / 2)
    alone = loss(None, out(torch.zeros(4, 2), distance=d), {"label": label * 0})
    assert float(alone["fake"]) == 0


def test_two_branch_logits_are_even_between_the_radii():
    network = TwoBranch("resnet18_thin", False, recurrent=False).eval()
    nn.init.zeros_(network.embed.weight)
    with torch.no_grad():
        network.embed.bias.zero_()[0] = (0.042 + 1.638) / 2
    logits = network(torch.randn(1, 3, 64, 64)).logits
    torch.testing.assert_close(logits.softmax(1), torch.full((1, 2), 0.5))
    with torch.no_grad():
        network.embed.bias.zero_()
    network.train()
    network(torch.randn(2, 3, 64, 64)).auxiliary["distance"].sum().backward()
    assert bool(network.embed.bias.grad.isfinite().all())
