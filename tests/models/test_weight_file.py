"""Files of weights as other programs write them: prefixes, wrappers, releases, checkpoints."""

import logging
import sys
import types

import pytest
import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from timm.layers import resample_abs_pos_embed
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import weight_file
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher


@pytest.fixture(scope="module")
def released():
    """The state dict of timm's own network, with classifier."""
    return timm.create_model("test_resnet").state_dict()


@pytest.fixture(autouse=True)
def _said_again():
    weight_file._log.cache_clear()


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == weight_file.__name__]


def assert_timm(backbone, state, name="test_resnet"):
    """Compare a map with that of timm's own network, loaded by timm."""
    model = timm.create_model(name).eval()
    model.load_state_dict(state)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images)[32], model.forward_features(images))


def saved(path, document):
    torch.save(document, path)
    return str(path)


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "backbone.", "module.backbone.", "model.", "net.", "encoder.model."),
        *("_orig_mod.", "model._orig_mod.", "module._orig_mod.backbone.", "student.net.0."),
    ],
)
def test_a_prefix_is_stripped_and_announced(released, tmp_path, caplog, prefix):
    caplog.set_level(logging.INFO)
    state = {prefix + key: value for key, value in released.items()}
    backbone = build_backbone("test_resnet", saved(tmp_path / "w.pth", state))
    assert_timm(backbone, released)
    stripped = prefix.replace("_orig_mod.", "")
    assert [f"below '{stripped}'" in line for line in said(caplog)] == ([True] if stripped else [])


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net", "weights"])
def test_the_state_dict_in_a_training_checkpoint_is_found(released, tmp_path, wrapper):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    document = {"epoch": 3, "optimizer": optimizer, wrapper: released}
    assert_timm(build_backbone("test_resnet", saved(tmp_path / "w.pth", document)), released)


def test_a_checkpoint_of_lightning_is_loaded(released, tmp_path, caplog):
    """Written by Lightning itself, with a loss that has weights of its own."""
    caplog.set_level(logging.INFO)

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.ModuleDict({"body": timm.create_model("test_resnet")})
            self.net["body"].load_state_dict(released)
            self.loss = nn.Linear(2, 2)

    trainer = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(Module())
    trainer.save_checkpoint(tmp_path / "w.ckpt")
    assert_timm(build_backbone("test_resnet", str(tmp_path / "w.ckpt")), released)
    assert "from below 'net.body.', 2 other entries left out" in said(caplog)[0]


def test_a_student_is_loaded_into_a_student_and_a_teacher_into_both_branches(tmp_path):
    student, teacher = Student("test_resnet"), DualBranchTeacher("test_resnet", False)
    for kind, network in (("student", student), ("teacher", teacher)):
        state = {f"{kind}.{key}": value for key, value in network.state_dict().items()}
        header = {"kind": kind, "mean": 0.4, "std": [0.1, 0.2, 0.3]}
        torch.save({"state_dict": state, "tokd": header}, tmp_path / f"{kind}.ckpt")
    again = Student("test_resnet", str(tmp_path / "student.ckpt")).backbone
    for key, value in student.backbone.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert again.trained_on[:2] == ((0.4,), (0.1, 0.2, 0.3))
    both = DualBranchTeacher("test_resnet", str(tmp_path / "teacher.ckpt"))
    for branch in ("rgb", "frequency"):
        theirs = getattr(teacher, branch).state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in getattr(both, branch).state_dict().items())
    with pytest.raises(TokdError, match=r"several networks .*'teacher\.rgb\.', 'teacher\.freq"):
        Student("test_resnet", str(tmp_path / "teacher.ckpt"))


def test_a_prefix_above_another_network_is_refused_by_the_names_below_it(tmp_path):
    other = timm.create_model("test_efficientnet").state_dict()
    state = {f"module.net.{key}": value for key, value in other.items()}
    with pytest.raises(TokdError, match=r"another network.*it lacks conv1"):
        build_backbone("test_resnet", saved(tmp_path / "w.pth", state))


def test_a_larger_network_is_refused(tmp_path):
    """All weights of the smaller one are there, and more of the same parts."""
    larger = {f"net.{k}": v for k, v in timm.create_model("resnet34").state_dict().items()}
    with pytest.raises(TokdError, match=r"below 'net\.': it has layer1\.2\.conv1"):
        build_backbone("resnet18", saved(tmp_path / "w.pth", larger))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", ["swiftformer_xs", "inception_resnet_v2", "repvgg_a0"])
def test_releases_of_timm_are_loaded_by_path(name, tmp_path, caplog):
    """Their classifiers have other names: head_dist, classif, head.fc."""
    caplog.set_level(logging.INFO)
    model = timm.create_model(name)
    backbone = build_backbone(name, saved(tmp_path / "w.pth", model.state_dict()))
    theirs = [value for key, value in model.state_dict().items()]
    for key, value in backbone.state_dict().items():
        assert any(v.shape == value.shape and torch.equal(v, value) for v in theirs), key
    assert said(caplog) == []


def test_auxiliary_heads_are_left_out_and_counted(released, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = {**released, "AuxLogits.fc.weight": torch.zeros(3, 3)}
    assert_timm(build_backbone("test_resnet", saved(tmp_path / "w.pth", state)), released)
    assert said(caplog)[0].endswith("weights loaded, 1 other entries left out")


class Positions(nn.Module):
    """A convolution, then learned position embeddings for images of one size."""

    def __init__(self, img_size):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 32, 32)
        self.pos_embed = nn.Parameter(torch.rand(1, (img_size // 32) ** 2, 8))


def test_position_embeddings_of_another_size_are_resampled(tmp_path, monkeypatch):
    """By the network's own checkpoint_filter_fn, as timm does it when it downloads."""

    def checkpoint_filter_fn(state, model):
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"], [3, 3], [7, 7], num_prefix_tokens=0
        )
        return state

    module = types.ModuleType("positions")
    module.checkpoint_filter_fn = checkpoint_filter_fn
    monkeypatch.setitem(sys.modules, "positions", module)
    monkeypatch.setattr(Positions, "__module__", "positions")
    larger = Positions(224)
    path = saved(tmp_path / "w.pth", {f"m.{k}": v for k, v in larger.state_dict().items()})
    smaller = Positions(96)
    weight_file.load_weights(smaller, path)
    expected = checkpoint_filter_fn(dict(larger.state_dict()), smaller)["pos_embed"]
    assert torch.equal(smaller.pos_embed, expected)
    assert torch.equal(smaller.conv.weight, larger.conv.weight)


def test_weights_that_are_not_finite_are_refused(released, tmp_path):
    state = {**released, "layer1.0.conv1.weight": released["layer1.0.conv1.weight"] / 0}
    with pytest.raises(TokdError, match=r"layer1\.0\.conv1\.weight holds numbers that are not"):
        build_backbone("test_resnet", saved(tmp_path / "w.pth", state))


def test_a_pickled_network_is_refused_with_what_to_save(tmp_path):
    path = saved(tmp_path / "w.pth", timm.create_model("test_resnet"))
    with pytest.raises(TokdError, match=r"holds Python objects .*save only its state dict"):
        build_backbone("test_resnet", path)
