"""RFM's attention and erasures, replayed by a loop from the same draws."""

import pytest
import torch
from torch import nn

from tokd_lightning.models.detectors import RFM, RFMLoss
from tokd_lightning.models.detectors.detector import Detector, DetectorOutput
from tokd_lightning.models.detectors.rfm import attention_map, erasures


class Linear(Detector):
    name = title = "linear"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 2)
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, image, **extras):
        return DetectorOutput(self.layer(self.norm(image).flatten(1)), {}, {})


def small(seed=0):
    torch.manual_seed(seed)
    return RFM("resnet18_thin", False)


def batch_of(count=4, side=32, seeds=None):
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(count, 3, side, side, generator=generator),
        "label": torch.arange(count) % 2,
        "seeds": list(range(count)) if seeds is None else seeds,
    }


def test_attention_of_a_linear_network_is_the_difference_of_its_weights():
    network = Linear()
    network.norm.running_mean += 0.1
    before = {k: v.clone() for k, v in network.state_dict().items()}
    image = torch.randn(2, 3, 8, 8)
    found = attention_map(network, image)
    weight = network.layer.weight.detach()
    difference = (weight[1] - weight[0]).reshape(3, 8, 8) / (1 + network.norm.eps) ** 0.5
    expected = difference.abs().amax(dim=0).expand(2, -1, -1)
    torch.testing.assert_close(found / found.amax(), expected / expected.amax())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert network.training
    assert network.norm.training
    assert not network.frozen.training
    assert all(p.grad is None for p in network.parameters())


def test_attention_keeps_its_order_in_float16():
    network, image = Linear(), torch.randn(2, 3, 8, 8)
    network.layer = nn.Sequential(nn.Linear(192, 64), nn.Linear(64, 2))
    with torch.no_grad():  # the product of the weights underflows in float16 without a scale
        for layer in network.layer:
            layer.weight.uniform_(-1e-4, 1e-4)
    whole = attention_map(network, image)
    with torch.autocast("cpu", torch.float16):
        found = attention_map(network, image)
    assert bool((found > 0).float().mean() > 0.9)
    assert torch.corrcoef(torch.stack([whole.flatten(), found.float().flatten()]))[0, 1] > 0.99


def replayed(attention, draws, most):
    """Erase one image with plain loops."""
    side = attention.shape[0]
    erased, used = torch.zeros(side, side, dtype=torch.bool), set()
    order = [divmod(int(p), side) for p in attention.flatten().argsort(descending=True)]
    for h, w, up, left in draws.double().tolist():
        y, x = next(p for p in order if not erased[p] and p not in used)
        used.add((y, x))
        height, width = int(h * most) + 1, int(w * most) + 1
        top, start = y - (int(up * height) + 1), x - (int(left * width) + 1)
        erased[max(0, top) : max(0, top + height), max(0, start) : max(0, start + width)] = True
    return erased


@pytest.mark.parametrize("most", [5, 17])
def test_erasures_replay_a_loop_exactly(most):
    generator = torch.Generator().manual_seed(most)
    attention = torch.rand(16, 32, 32, generator=generator)
    draws = torch.rand(16, 3, 4, generator=generator)
    found = erasures(attention, draws, most)
    for n in range(16):
        assert torch.equal(found[n], replayed(attention[n], draws[n], most))
    assert int(found.sum(dim=(1, 2)).max()) <= 3 * most**2


def test_a_point_left_visible_by_its_offset_is_not_taken_twice():
    attention = torch.zeros(1, 8, 8)
    attention[0, 4, 4], attention[0, 6, 6] = 2, 1
    visible = torch.tensor([[[0.0, 0.0, 0.0, 0.0]] * 2])  # 1 px, offset 1: the pixel above left
    assert erasures(attention, visible, 1)[0].nonzero().tolist() == [[3, 3], [5, 5]]


def test_before_step_erases_by_noise_of_the_seeds_alone():
    network = small()
    loss = RFMLoss(network)
    batch = batch_of()
    whole = loss.before_step(network, batch)
    changed = (whole != batch["image"]).any(dim=1)
    assert bool(changed.any(dim=(1, 2)).all())
    filled = whole.permute(0, 2, 3, 1)[changed]
    assert float(filled.abs().max()) <= 1
    assert float(filled.std()) == pytest.approx(3**-0.5, abs=0.02)  # uniform in [-1, 1]
    torch.testing.assert_close(loss.before_step(network, batch), whole)
    for n in range(4):  # as processes and accumulated parts share a batch
        part = {k: v[n : n + 1] for k, v in batch.items()}
        torch.testing.assert_close(loss.before_step(network, part), whole[n : n + 1])
    other = loss.before_step(network, batch_of(seeds=[9, 8, 7, 6]))
    assert not torch.equal(other, whole)
    torch.testing.assert_close(
        RFMLoss(network, count=0).before_step(network, batch), batch["image"]
    )


def test_flooding_turns_the_gradient_below_the_flood():
    network = small()
    loss = RFMLoss(network, flood=0.5)
    for margin, sign in ((4.0, -1), (0.0, 1)):
        logits = torch.tensor([[margin, -margin]], dtype=torch.float64, requires_grad=True)
        plain = nn.functional.cross_entropy(logits, torch.tensor([0]))
        found = loss(network, DetectorOutput(logits, {}, {}), {"label": torch.tensor([0])})["ce"]
        assert found.item() == pytest.approx(abs(plain.item() - 0.5) + 0.5)
        (ours,) = torch.autograd.grad(found, logits, retain_graph=True)
        (theirs,) = torch.autograd.grad(plain, logits)
        torch.testing.assert_close(ours, sign * theirs)


def test_evaluation_is_the_plain_network():
    network, image = small().eval(), torch.randn(2, 3, 64, 64)
    plain = network.classifier(network.backbone(image)[32].mean(dim=(2, 3)))
    assert torch.equal(network(image).logits, plain)
