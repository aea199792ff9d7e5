import pytest
import torch
from torch import nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models import Backbone, DualBranchTeacher, Student
from tokd_lightning.models.detectors import build_detector
from tokd_lightning.models.tuning import Tune, Tuning, merged

LINEAR = "test_convnext3"  # its blocks have linear layers


def trains(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


def modes(network):
    return {name for name, module in network.named_modules() if module.training}


@pytest.mark.parametrize("text", ["all", "norms", "head", "lora(8)"])
def test_tune_is_written_as_it_is_read(text):
    assert str(Tune.parse(text)) == text


@pytest.mark.parametrize("text", ["", "lora", "lora(0)", "lora(-1)", "lora(8.5)", "LORA(8)"])
def test_parse_raises_for_other_words(text):
    with pytest.raises(TokdError, match=r"choose all, norms, head or lora\(RANK\)"):
        Tune.parse(text)


def test_all_leaves_the_network_as_it_is():
    network = Student("test_resnet")
    before = trains(network), modes(network)
    assert not Tuning(network, Tune("all")).frozen_entries()
    assert (trains(network), modes(network)) == before


@pytest.mark.parametrize("name", ["test_resnet", LINEAR])
def test_norms_trains_the_norms_and_the_rest_of_the_network_alone(name):
    network = DualBranchTeacher(name, pretrained=False)
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    expected = {
        f"{prefix}.{key}"
        for prefix, module in network.named_modules()
        for key, _ in module.named_parameters(recurse=False)
        if isinstance(module, norms) or not prefix.startswith(("rgb", "frequency"))
    }
    tuning = Tuning(network, Tune("norms"))
    assert trains(network) == expected
    assert any(key.startswith("rgb.") for key in expected)
    kept = network.state_dict().keys() - set(tuning.frozen_entries())
    assert kept >= expected
    statistics = {key for key in kept - expected if "running_" in key or "num_batches" in key}
    assert kept == expected | statistics
    inside = {name for name in modes(network) if name.startswith(("rgb", "frequency"))}
    assert all(isinstance(network.get_submodule(name), norms) for name in inside)
    assert "rfams.0" in modes(network)
    network.eval()
    tuning.set_modes()
    assert not modes(network)


def test_head_trains_nothing_of_the_backbone():
    network = Student("test_resnet")
    tuning = Tuning(network, Tune("head"))
    assert trains(network) == {"classifier.weight", "classifier.bias"}
    assert modes(network) == {"", "classifier"}
    frozen = {key for key in network.state_dict() if key.startswith("backbone.")}
    assert set(tuning.frozen_entries()) == frozen


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ["spsl", "f3net", "multiatt"])
def test_a_detector_s_own_layers_train(name):
    backbone = "test_resnet" if name != "multiatt" else "resnet18_thin"
    detector = build_detector({"detector": name, "backbone": backbone, "pretrained": False})
    Tuning(detector, Tune("head"))
    trained = trains(detector)
    assert any(key.startswith("classifier.") for key in trained)
    assert not any(key.startswith(("backbone.", "rgb.", "frequency.")) for key in trained)


@pytest.mark.parametrize(
    ("network", "tune", "said"),
    [
        (
            lambda: Student("test_resnet"),
            "lora(4)",
            "no linear layers to adapt; --model.tune n",
        ),
        (
            lambda: build_detector({"detector": "multitask"}),
            "norms",
            "MultiTask has no backbone apart from the rest",
        ),
    ],
)
def test_tuning_raises_where_there_is_nothing_to_tune(network, tune, said):
    with pytest.raises(TokdError, match=f"--model.tune .*{said}"):
        Tuning(network(), Tune.parse(tune))


# Adapters


class PastTheLayer(nn.Module):
    """Attention that reads the weight of its layer without calling it, as some of timm's do."""

    def __init__(self, called):
        super().__init__()
        self.called = called
        self.qkv = nn.Linear(8, 8)
        self.fc1 = nn.Linear(8, 8)

    def forward(self, x):
        y = x.movedim(1, -1)
        y = self.qkv(y) if self.called else functional.linear(y, self.qkv.weight, self.qkv.bias)
        return self.fc1(y).movedim(-1, 1)


class Adapted(nn.Module):
    def __init__(self, called=True):
        super().__init__()
        stages = [nn.Sequential(nn.Conv2d(3, 8, 8, 8), PastTheLayer(called))]
        stages += [nn.Sequential(nn.MaxPool2d(2)), nn.Sequential(nn.MaxPool2d(2))]
        self.backbone = Backbone(stages, (8, 16, 32), (8, 8, 8), (True, True, True))
        self.classifier = nn.Linear(8, 2)

    def forward(self, x):
        from tokd_lightning.models import StudentOutput

        maps = self.backbone(x)
        return StudentOutput(self.classifier(maps[32].mean(dim=(2, 3))), maps)


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="LoRA needs peft")


def test_adapters_without_gradient_are_refused(peft):
    Tuning(Adapted(), Tune("lora", 2)).adapt(32)
    with pytest.raises(TokdError, match=r"1 of 1 adapters get no gradient \(first backbone.stages"):
        Tuning(Adapted(called=False), Tune("lora", 2)).adapt(32)


def test_adapters_are_attention_s_and_start_without_effect(peft):
    network, x = Adapted(), torch.randn(2, 3, 32, 32)
    before = network(x).logits
    tuning = Tuning(network, Tune("lora", 2))
    tuning.adapt(32)
    torch.testing.assert_close(network(x).logits, before, rtol=1e-5, atol=1e-6)
    adapted = {name for name in trains(network) if "backbone" in name}
    layer = "backbone.stages.0.1.qkv"
    assert adapted == {f"{layer}.lora_{part}.default.weight" for part in "AB"}
    tuning.adapt(32)  # once is enough
    assert adapted == {name for name in trains(network) if "backbone" in name}


@pytest.mark.slow
def test_merged_adapters_equal_those_that_peft_runs_and_merges(peft):
    network, x = Student(LINEAR).eval(), torch.randn(2, 3, 64, 64)
    names = network.state_dict().keys()
    tuning = Tuning(network, Tune("lora", 3))
    tuning.adapt(64)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    expected = network(x).logits
    state = merged(network.state_dict())
    assert state.keys() == names
    plain = Student(LINEAR).eval()
    untouched = plain(x).logits
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(x).logits, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(untouched, expected, atol=1e-3)
    layer = next(m for m in network.modules() if hasattr(m, "lora_A"))
    delta = layer.get_delta_weight("default")
    tuning.fold()
    assert network.state_dict().keys() == names
    torch.testing.assert_close(network(x).logits, plain(x).logits, rtol=0, atol=0)
    torch.testing.assert_close(
        delta, layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )
