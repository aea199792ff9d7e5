"""Told to end, a run saves the batch at hand; the same command continues bit for bit."""

import os
import signal
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_mid_epoch import assert_equal, outcome
from test_resume import fit, make

from tokd_lightning.errors import Terminated


class Signal(Callback):
    def __init__(self, number, stage, epoch, batch):
        self.number, self.moment = number, (stage, epoch, batch)

    def look(self, stage, trainer, batch):
        if (stage, trainer.current_epoch, batch) == self.moment:
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.look("train", trainer, batch_idx)

    def on_validation_batch_start(self, trainer, module, batch, batch_idx):
        self.look("val", trainer, batch_idx)


MOMENTS = [
    (("train", 0, 0), 1),
    (("train", 1, 1), 5),
    (("train", 1, 2), 3),  # into the validation, which is left at once
    (("val", 1, 0), 3),
    (("train", 2, 2), 6),
]
RUNS = [
    pytest.param(
        kind, *moment, marks=pytest.mark.slow if kind == "teacher" and moment[1] != 5 else ()
    )
    for kind in ("teacher", "student")
    for moment in MOMENTS
]


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("kind", "moment", "saved"), RUNS, ids=str)
def test_a_run_told_to_end_goes_on_bit_for_bit(tiny_ffpp, teacher, tmp_path, kind, moment, saved):
    new = partial(make, kind, teacher, "epoch")
    module = new()
    expected = outcome(tmp_path, module, fit(tiny_ffpp, module, tmp_path))
    folder = tmp_path / "run"
    number = signal.SIGUSR1 if saved == 5 else signal.SIGTERM
    before = signal.getsignal(number)
    with pytest.raises(Terminated, match="the same command resumes"):
        fit(tiny_ffpp, new(), folder, callbacks=[Signal(number, *moment)])
    assert signal.getsignal(number) == before
    module = new()
    trainer = fit(tiny_ffpp, module, folder, resume=True, callbacks=[first := First()])
    assert first.step == saved
    assert_equal(outcome(folder, module, trainer), expected)


@pytest.mark.slow
def test_a_run_whose_loaders_are_made_anew_each_epoch_hears_it_too(tiny_ffpp, tmp_path):
    options = {"reload_dataloaders_every_n_epochs": 1, "log_every_n_steps": 0}
    signals = [Signal(signal.SIGTERM, "train", 1, 0)]
    with pytest.raises(Terminated):
        fit(tiny_ffpp, make("teacher", None, "epoch"), tmp_path, callbacks=signals, **options)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4


class First(Callback):
    """Notes the step that training goes on from."""

    def on_train_start(self, trainer, module):
        self.step = trainer.global_step
