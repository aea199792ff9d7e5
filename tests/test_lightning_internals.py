"""The private names of libraries that the package depends on still exist and do what they did."""

import argparse
import signal
from functools import partial
from importlib import import_module

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from timm.layers import BatchNormAct2d
from torch import nn

from tokd_lightning import lightning_internals as internals
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.modules.detection import DataModule


@pytest.mark.parametrize("owner", internals.OVERRIDDEN)
def test_overridden_names_exist(owner: str):
    module, _, name = owner.rpartition(".")
    made = getattr(import_module(module), name)
    if name == "CSVLogger":
        made = made("folder")  # it is set by the constructor
    for private in internals.OVERRIDDEN[owner]:
        assert hasattr(made, private), private


class Small(pl.LightningModule):
    """Notes, at every batch, whether a row will be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.logged, self.told = nn.Linear(1, 1), [], 0

    def on_train_start(self) -> None:
        internals.on_signal(self.trainer, signal.SIGUSR2, self._note)

    def _note(self, *_) -> None:
        self.told += 1

    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGUSR2)
        self.logged.append(internals.logs_after_this_batch(self.trainer))
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(4, 1))


def test_a_fit_tells_which_batches_are_logged_and_hands_signals_over(tmp_path):
    before = signal.getsignal(signal.SIGUSR2)
    module = Small()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, log_every_n_steps=2, logger=False, barebones=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module)
    assert module.logged == [False, True, False, True]
    assert module.told == 1
    assert signal.getsignal(signal.SIGUSR2) == before
    assert internals.started_processes(trainer) == []


def test_only_fused_optimizers_remove_the_loss_scale():
    weights = [nn.Parameter(torch.zeros(1))]
    assert not internals.removes_loss_scale(torch.optim.Adam(weights))
    assert internals.removes_loss_scale(torch.optim.Adam(weights, fused=True))


def test_a_compiled_module_is_known():
    network = nn.Linear(1, 1)
    assert not internals.is_compiled(network)
    network.compile(backend="eager")
    assert internals.is_compiled(network)


def test_batchnorms_of_torch_and_timm_are_known():
    for norm in (nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2), BatchNormAct2d(2)):
        assert internals.is_batchnorm(norm)
    assert not internals.is_batchnorm(nn.GroupNorm(1, 2))


def test_a_module_takes_the_tensors_of_another():
    one, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    internals.take_state(one, other)
    assert one.weight is other.weight
    assert one.running_mean is other.running_mean


def test_all_options_of_a_parser_and_its_subcommands_are_known():
    parser = ArgumentParser()
    parser.add_argument("--here", action=argparse.BooleanOptionalAction)
    commands, inner = parser.add_subcommands(), ArgumentParser()
    inner.add_argument("--there", type=int)
    commands.add_subcommand("fit", inner)
    assert {"--here", "--no-here", "--there", "there"} <= internals.option_names(parser)


def test_the_data_modules_have_what_the_modules_read(tmp_path):
    wanted = {*DataModule.__annotations__, "input_size", "class_weights", "table"}
    made = partial(FFPPDataModule, tmp_path)
    assert all(hasattr(made(), name) for name in wanted - {"class_weights"})
    assert hasattr(FFPPDataModule, "class_weights")
