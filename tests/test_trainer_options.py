"""Options of Lightning's trainer that would spoil a run: one line each, before anything is made."""

import json
from functools import partial

import pandas as pd
import pytest
import torch
from lightning.pytorch import callbacks
from test_cli import SMALL
from test_fit_mistakes import fit, line

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import Backbone, build_backbone
from tokd_lightning.models.weight_file import Normalisation
from tokd_lightning.modules import rotation_step, symptoms
from tokd_lightning.modules.rotation_step import optimizer_of
from tokd_lightning.training.trainer_options import (
    check_callbacks,
    check_classes,
    check_trainer_options,
)


class OwnFinetuning(callbacks.BaseFinetuning):
    def freeze_before_training(self, pl_module):
        """Freeze nothing."""

    def finetune_function(self, pl_module, epoch, optimizer):
        """Thaw nothing."""


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (callbacks.StochasticWeightAveraging(1e-3), "not of their average"),
        (callbacks.EMAWeightAveraging(), "not of their average"),
        (callbacks.LearningRateFinder(), r"set --model\.optimizer\.lr"),
        (callbacks.BatchSizeFinder(), r"set --data\.batch_size, and --model\.accumulate"),
        (callbacks.GradientAccumulationScheduler({0: 2}), r"use --model\.accumulate"),
        (callbacks.BackboneFinetuning(), r"use --model\.warm_up_epochs"),
        (OwnFinetuning(), r"OwnFinetuning is not supported.*use --model\.warm_up_epochs"),
        (callbacks.ModelPruning("l1_unstructured"), "its masks are no part"),
        (callbacks.SpikeDetection(), "needs a loss from every training step"),
        (callbacks.EarlyStopping("val_loss"), "monitors val_loss, which is not logged"),
        (callbacks.EarlyStopping("val/frame/acc"), "mode min stops while val/frame/acc improves"),
        (callbacks.EarlyStopping("val/loss", mode="max"), "set its mode to min"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_callback_that_cannot_be_obeyed_is_refused(callback, said):
    with pytest.raises(TokdError, match=said) as refused:
        check_callbacks([callbacks.LearningRateMonitor(), callback])
    assert str(refused.value).startswith("--trainer.callbacks: ")
    assert "\n" not in str(refused.value)


def test_callbacks_that_watch_and_stop_are_accepted():
    check_callbacks(
        [
            callbacks.EarlyStopping("val/loss"),
            callbacks.EarlyStopping("val/video/auc", mode="max"),
            callbacks.EarlyStopping("val/frame/eer"),
            callbacks.Timer("00:01:00:00"),
            callbacks.LambdaCallback(),
            callbacks.DeviceStatsMonitor(),
        ]
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"gradient_clip_algorithm": "value"}, r"use --model\.clip"),
        ({"overfit_batches": 2}, r"use --data\.samples_per_epoch"),
        ({"overfit_batches": 0.1}, r"use --data\.samples_per_epoch"),
        ({"use_distributed_sampler": True}, "divide the frames among processes themselves"),
        ({"enable_checkpointing": False}, r"leaves no best\.ckpt"),
        ({"check_val_every_n_epoch": 0}, "must be above 0, not 0"),
        ({"val_check_interval": 0.0}, r"must be above 0, not 0\.0"),
        ({"devices": "x"}, "devices .x.: give a number"),
    ],
    ids=str,
)
def test_a_trainer_option_that_cannot_be_obeyed_is_refused(option, said):
    check_trainer_options({"use_distributed_sampler": False, "overfit_batches": 0.0})
    with pytest.raises(TokdError, match=said):
        check_trainer_options(option)


@pytest.mark.slow
def test_fit_refuses_a_callback_before_it_makes_a_folder(tiny_ffpp, tmp_path, capsys):
    averaging = {"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1}}
    given = f"--trainer.callbacks={json.dumps([averaging])}"
    assert fit(tiny_ffpp, tmp_path, *SMALL, given) == 2
    assert "StochasticWeightAveraging is not supported: best.ckpt is selected" in line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.thinned(3)
def test_fit_refuses_augmentations_before_it_makes_a_folder(tiny_ffpp, tmp_path, capsys):
    mixup = json.dumps([{"class_path": "kornia.augmentation.RandomMixUpV2"}])
    for given, said in (
        (mixup, "RandomMixUpV2 mixes the samples of a batch"),
        ("kornia.augmentation.RandomCutMixV2", "RandomCutMixV2 mixes the samples of a batch"),
    ):
        assert fit(tiny_ffpp, tmp_path, *SMALL, f"--data.augmentation={given}") == 2
        assert said in line(capsys)
    assert not list(tmp_path.iterdir())


def test_an_augmentation_given_as_a_class_is_one_of_a_list(tiny_ffpp, tmp_path):
    asked = "--data.augmentation=kornia.augmentation.RandomJPEG"
    assert fit(tiny_ffpp, tmp_path, *SMALL, asked, "--trainer.fast_dev_run=true") == 0


class Data:
    root, batch_size = "data", 4

    def __init__(self, train, val):
        self.labels = {"train": train, "val": val}

    def table(self, split):
        return pd.DataFrame({"label": self.labels[split]}, dtype="int64")


@pytest.mark.parametrize(
    ("train", "val", "limit", "said"),
    [
        ([0, 1], [0] * 9, None, "all 9 frames of the split val are real"),
        ([0, 1], [1] * 9, None, "all 9 frames of the split val are fake"),
        ([1] * 5, [0, 1], None, "all 5 frames of the split train are fake"),
        ([0, 1], [], None, "no frames in the split val"),
        ([0, 1], [0] * 8 + [1] * 8, 2, "leaves 8 of 16 validation frames, all real"),
        ([0, 1], [0] * 8 + [1] * 8, 2.0, "leaves 8 of 16 validation frames, all real"),
        ([0, 1], [0] * 8 + [1] * 8, 0.5, "leaves 8 of 16 validation frames, all real"),
    ],
)
def test_one_class_alone_is_refused(train, val, limit, said):
    with pytest.raises(TokdError, match=said):
        check_classes(Data(train, val), limit, 1)


def test_a_part_of_the_validation_is_announced(recwarn):
    check_classes(Data([0, 1], [0] * 8 + [1] * 8), None, 1)
    check_classes(Data([0, 1], [0] * 8 + [1] * 8), 1.0, 1)
    assert not recwarn
    with pytest.warns(UserWarning, match="validation sees 12 of 16 frames"):
        check_classes(Data([0, 1], [0] * 8 + [1] * 8), 3, 2)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (torch.optim.LBFGS, "LBFGS computes the loss several times"),
        (torch.optim.SparseAdam, "SparseAdam wants sparse gradients"),
    ],
)
def test_an_optimizer_of_another_kind_of_step_is_refused(kind, why):
    with pytest.raises(TokdError, match=rf"--model\.optimizer {why}.*use Adam"):
        optimizer_of(kind, [torch.nn.Parameter(torch.zeros(2))])


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0.5, 0.5, True),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
        ([0.485, 0.456, 0.406], 0.225, True),
    ],
)
def test_weights_of_another_normalisation_are_announced(monkeypatch, mean, std, said):
    """ImageNet's mean and std are those that timm publishes with efficientnet_b0's weights."""
    heard = []
    monkeypatch.setattr(symptoms, "rank_zero_info", heard.append)
    network = Backbone([torch.nn.Sequential()], [8], [1], [True])
    network.trained_on = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "timm's x")
    symptoms.announce_normalisation(torch.nn.ModuleList([network, network]), mean, std)
    assert len(heard) == said
    if said:
        assert "--data.mean '[0.485, 0.456, 0.406]' --data.std '[0.229, 0.224, 0.225]'" in heard[0]
        assert "here these are 0.5 and 0.5" in heard[0] or mean != 0.5


def test_weights_from_a_file_have_the_normalisation_of_their_network(tmp_path):
    torch.save(build_backbone("xception").state_dict(), tmp_path / "ours.pth")
    backbone = build_backbone("xception", str(tmp_path / "ours.pth"))
    assert backbone.trained_on[:2] == ((0.5,) * 3, (0.5,) * 3)
    assert build_backbone("test_resnet").trained_on is None


def adam(parameters, **options):
    return torch.optim.Adam(parameters, lr=0.1, **options)


@pytest.mark.parametrize(
    ("make", "on_gpu", "resumed", "fused"),
    [
        (adam, True, None, True),
        (adam, False, None, None),
        (partial(adam, fused=False), True, None, False),
        (partial(adam, foreach=True), True, None, None),
        (partial(torch.optim.SGD, lr=0.1), True, None, None),
        (adam, True, False, None),  # a run goes on in the form it began with
        (adam, False, True, True),
    ],
)
def test_adam_is_fused_on_a_gpu_unless_its_options_say_otherwise(
    monkeypatch, make, on_gpu, resumed, fused
):
    monkeypatch.setattr(rotation_step, "all_on_gpu", lambda optimizer: on_gpu)
    weight = torch.nn.Parameter(torch.ones(3))
    made = optimizer_of(make, iter([weight]), resumed=resumed)
    assert made.defaults["fused"] is fused
    weight.grad = torch.tensor([1.0, -2.0, 0.5])
    made.step()
    if fused:
        other = torch.nn.Parameter(torch.ones(3))
        other.grad = weight.grad.clone()
        adam([other]).step()
        torch.testing.assert_close(weight, other)
