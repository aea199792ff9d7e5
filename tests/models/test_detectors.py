"""What all detectors have in common: sizes, specs, outputs, refusals, gradients of the losses."""

import pytest
import timm
import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import rebuild
from tokd_lightning.models.complexity import complexity
from tokd_lightning.models.detectors import (
    DETECTORS,
    SEEDS,
    DetectorTeacher,
    FaceXray,
    MultiAtt,
    MultiTask,
    TwoBranch,
    build_detector,
    extras_of,
)
from tokd_lightning.models.detectors.catalogue import print_detectors
from tokd_lightning.models.detectors.detector import Detector, DetectorOutput
from tokd_lightning.models.probe import activation_bytes

SMALL = {
    "multitask": {},
    "twobranch": {"backbone": "resnet18_thin"},
    "spsl": {"backbone": "resnet18_thin"},
    "rfm": {"backbone": "resnet18_thin"},
    "addnet": {"backbone": "resnet18_thin"},
    "facexray": {"backbone": "resnet18_thin"},
    "f3net": {"backbone": "resnet18_thin", "size": 64},
    "multiatt": {"backbone": "resnet18_thin"},
}
# Parameters (M) and GMACs at the published side, counted elsewhere with these definitions.
SIZES = {
    "spsl": (7.90, 3.77),
    "rfm": (20.81, 4.60),
    "addnet": (20.81, 8.44),
    "f3net": (48.32, 18.13),
    "facexray": (65.33, None),
    "multitask": (0.305, None),
    "twobranch": (9.03, None),
}


def small(name, **options):
    torch.manual_seed(0)
    return build_detector({"detector": name, "pretrained": False, **SMALL[name], **options})


def batch_of(detector, count=4, side=64, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.rand(count, 3, side, side, generator=generator, dtype=dtype) * 2 - 1,
        "label": torch.arange(count) % 2,
        "mask": torch.rand(count, 1, side, side, generator=generator, dtype=dtype),
        SEEDS: list(range(count)),
    }
    for name in detector.reads:
        batch[name] = torch.rand(count, 68, 2, generator=generator) * side
    return batch


def losses_of(detector, batch):
    loss = detector.make_loss()
    output = detector(batch["image"], **extras_of(detector, batch))
    return loss(detector, output, batch), output


SOONER = ("spsl", "rfm", "multitask")
SIZED = [pytest.param(n, marks=() if n in SOONER else pytest.mark.slow) for n in SIZES]


@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_those_counted_before(name):
    with torch.device("meta"):
        detector = build_detector({"detector": name, "pretrained": False})
    millions, macs = SIZES[name]
    found = complexity(detector, detector.size)
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.005)
    assert macs is None or found.macs / 1e9 == pytest.approx(macs, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("texture", "millions"), [("v1", 18.64), ("v2", 18.83)])
def test_multiatt_has_the_size_of_its_texture(texture, millions):
    with torch.device("meta"):
        detector = MultiAtt(pretrained=False, texture=texture)
    count = sum(p.numel() for p in detector.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "millions"), [("hrnet_w32", 29.31), ("hrnet_w18", 9.56)])
def test_face_xray_has_the_size_of_its_hrnet(backbone, millions):
    with torch.device("meta"):
        detector = FaceXray(backbone, pretrained=False)
    count = sum(p.numel() for p in detector.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.slow
def test_ptflops_counts_biases_that_table_1_leaves_out():
    """ptflops' own backend counts biases, and not the BatchNorm that timm joins with its ReLU."""
    ptflops = pytest.importorskip("ptflops")
    decoded = MultiTask()
    decoded.keeps_auxiliary = True
    networks = [
        (MultiTask(), 0.134),
        (decoded, 0.339),
        (build_detector({"detector": "twobranch", "pretrained": False}), 4.33),
        (MultiAtt(pretrained=False, texture="v2"), 7.71),
    ]
    for network, counted in networks:
        found, _ = ptflops.get_model_complexity_info(
            Logits(network.eval()), (3, network.size, network.size), as_strings=False,
            print_per_layer_stat=False, backend="pytorch",
        )  # fmt: skip
        assert found / 1e9 == pytest.approx(counted, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("hrnet_w18", 4.32), ("hrnet_w48", 17.34)])
def test_face_xray_costs_what_timm_says_of_its_hrnet(name, published):
    """timm publishes the GMACs of the whole network at 224 px: less its head for classification."""
    with torch.device("meta"):
        whole, ours = timm.create_model(name), FaceXray(name, pretrained=False)
    full = complexity(whole, 224).macs / 1e9
    assert full == pytest.approx(published, rel=0.007)  # timm counts no BatchNorm
    head = {id(m): m for part in ("incre_modules", "downsamp_modules", "final_layer")
            for m in whole.get_submodule(part).modules() if isinstance(m, nn.Conv2d)}  # fmt: skip
    spent = []
    for module in head.values():
        module.register_forward_hook(
            lambda m, a, o: spent.append(m.weight.numel() * o.shape[2] * o.shape[3])
        )
    whole(torch.empty(1, 3, 224, 224, device="meta"))
    assert complexity(ours, 224).macs / 1e9 == pytest.approx(full - sum(spent) / 1e9, rel=0.005)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_is_rebuilt_from_its_spec_and_trains_all_its_parameters(name):
    detector = small(name)
    batch = batch_of(detector)
    losses, output = losses_of(detector, batch)
    assert output.logits.shape == (4, 2)
    for value in losses.values():
        assert value.shape == ()
        assert bool(value.isfinite())
    sum(losses.values()).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None] == []
    again = rebuild.rebuild(detector.spec, "detector")
    again.load_state_dict(detector.state_dict())
    assert again.spec == detector.spec
    detector.eval(), again.eval()
    extras = extras_of(detector, batch)
    found = detector(batch["image"], **extras)
    assert found.auxiliary == {}
    assert torch.equal(found.logits, again(batch["image"], **extras).logits)
    if found.maps and not detector.refusal:
        shapes = {stride: tuple(m.shape[1:]) for stride, m in found.maps.items()}
        assert detector.shapes(64) == shapes


@pytest.mark.parametrize("name", DETECTORS)
def test_heat_map_has_the_mean_of_the_logits_difference(name):
    detector = small(name).eval()
    batch = batch_of(detector)
    detector.keeps_auxiliary = True
    output = detector(batch["image"], **extras_of(detector, batch))
    mean = detector.heat_map(output).mean(dim=(1, 2))
    torch.testing.assert_close(
        mean, output.logits[:, 1] - output.logits[:, 0], atol=1e-5, rtol=1e-4
    )
    assert (detector.heat_map(output).shape[1:] != (1, 1)) == detector.has_heat_map
    for panel in detector.panels(output).values():
        assert panel.ndim == 3
        assert 0 <= float(panel.detach().min()) <= float(panel.detach().max()) <= 1


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_teaches_unless_it_says_why_not(name):
    detector = small(name).eval()
    if detector.refusal:
        with pytest.raises(TokdError, match="cannot be a teacher"):
            DetectorTeacher(detector)
        with pytest.raises(TokdError, match="cannot be a student"):
            rebuild.build_student(f"detectors.{name}", False, SMALL[name])
        return
    teacher = DetectorTeacher(detector)
    batch = batch_of(detector)
    output = teacher(batch["image"], **extras_of(teacher, batch))
    assert {8, 16, 32} <= set(output.rgb)
    assert bool(output.frequency) == (teacher.branches == ("rgb", "frequency"))


def test_unknown_detectors_options_and_sides_are_one_line():
    with pytest.raises(TokdError, match="no detector is named spls: choose from multitask"):
        build_detector({"detector": "spls"})
    with pytest.raises(TokdError, match=r"SPSL: .*no_such"):
        build_detector({"detector": "spsl", "no_such": 1})
    with pytest.raises(TokdError, match=r"multiple of 32, not 299 px: .* to 288"):
        FaceXray("resnet18_thin", False).check_size(299)
    with pytest.raises(TokdError, match="multiple of 16"):
        MultiTask().check_size(250)
    with pytest.raises(TokdError, match="student_options"):
        rebuild.build_student("resnet18_thin", options={"a": 1})


def test_a_detector_of_one_s_own_is_named_by_its_class(monkeypatch):
    assert Own().spec["detector"] == f"{__name__}.Own"
    assert isinstance(build_detector(Own().spec), Own)
    with pytest.raises(TokdError, match="not a subclass"):
        build_detector({"detector": "torch.nn.Linear"})


class Logits(nn.Module):
    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, image):
        return self.detector(image).logits


class Own(Detector):
    name = title = "own"

    def __init__(self, pretrained=False):
        super().__init__(pretrained)
        self.layer = nn.Linear(3, 2)

    def forward(self, image, **extras):
        return DetectorOutput(self.layer(image.mean(dim=(2, 3))), {}, {})


def test_the_table_of_detectors_breaks_no_word_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(
        "tokd_lightning.models.detectors.catalogue.DETECTORS", {"multitask": MultiTask}
    )
    print_detectors()
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    words = ["multitask", "Nguyen", "et", "al.,", "BTAS", "2019", "0.30", "mask", "cross-entropy"]
    assert set(words) <= set(said.split())


def test_activation_bytes_are_those_of_saved_tensors():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    # per image: the input (3 x 8 x 8), the ReLU's output, which the linear layer shares
    assert activation_bytes(network, 8) == 4 * (3 * 64 + 4 * 64)


@pytest.mark.parametrize("name", ["facexray", "multitask", "twobranch", "multiatt", "rfm", "spsl"])
def test_losses_have_the_gradient_of_finite_differences(name):
    detector = small(name).double()
    loss = detector.make_loss()
    batch = batch_of(detector, dtype=torch.float64)
    if name == "multiatt":
        loss = type(loss)(detector, agda=0.0)
    with torch.no_grad():
        output = detector(batch["image"], **extras_of(detector, batch))
    parts = [output.logits, *output.auxiliary.values()]
    parts = [p.detach().double().clone().requires_grad_() for p in parts]
    names = list(output.auxiliary)
    loss.eval()  # centres stay

    def total(*values):
        made = output._replace(
            logits=values[0], auxiliary=dict(zip(names, values[1:], strict=True))
        )
        terms = loss(detector, made, batch)
        return sum(v for k, v in terms.items() if name != "multitask" or k != "ce")

    directions = [torch.randn_like(p) for p in parts]
    gradients = torch.autograd.grad(total(*parts), parts, allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step = 1e-6
    ahead, back = (
        total(*(p.detach() + sign * step * d for p, d in zip(parts, directions, strict=True)))
        for sign in (1, -1)
    )
    assert float((ahead - back) / (2 * step)) == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize("recurrent", [False, True])
def test_two_branch_starts_between_its_radii(recurrent):
    detector = small("twobranch", recurrent=recurrent)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    distance = detector(images).auxiliary["distance"]
    assert bool(((distance > 0.1) & (distance < 1.5)).all())


def test_two_branch_takes_clips():
    detector = small("twobranch").eval()
    clips = torch.rand(2, 3, 3, 64, 64)
    assert detector(clips).logits.shape == (2, 2)
    frames = TwoBranch("resnet18_thin", False, recurrent=False).eval()
    assert frames(clips[:, 0]).maps.keys() == {32}
    assert frames.unexported == ""
    assert "clips" in detector.unexported
