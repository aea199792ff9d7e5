import csv
from functools import partial
from itertools import product

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import distill_module, quartered, quiet, same, snapshot, teacher_module

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.loggers.curves import cut
from tokd_lightning.loggers.run import RunLogger
from tokd_lightning.training.callbacks import best_and_last
from tokd_lightning.training.callbacks.resume import rows_of

EPOCHS, BATCHES = 3, 3


class Interrupted(Exception):
    pass


class Interruption(Callback):
    """Ends the run by an exception in the middle of its second epoch, saved there or not."""

    def __init__(self, path=None):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 1:
            if self.path is not None:
                trainer.save_checkpoint(self.path)
            raise Interrupted


def make(kind, teacher, interval, **options):
    options = {"interval": interval, "lr_scheduler": quartered, **options}
    if interval == "step":
        cycle = torch.optim.lr_scheduler.OneCycleLR
        options["lr_scheduler"] = partial(cycle, max_lr=2e-3, total_steps=EPOCHS * BATCHES)
    if kind == "teacher":
        return teacher_module(**options)
    if kind == "warming student":
        options["warm_up_epochs"] = 2  # the run is cut in the second
    return distill_module(teacher, {"teacher_projectors": "frozen"}, **options)


def fit(root, module, folder, epochs=EPOCHS, resume=False, callbacks=(), every=100, **options):
    """Fit as tokd does: real frames with crops and flips, best.ckpt and last.ckpt, a CSV."""
    data = FFPPDataModule(
        root,
        quality="c23",
        size=48,
        crop=40,
        batch_size=4,
        samples_per_epoch=4 * BATCHES,
        frames_per_video=2,
        balance="half_batch",
        num_workers=0,
    )
    last = folder / "checkpoints" / "last.ckpt"
    cut(folder / "metrics.csv", rows_of(last) if resume else 0)
    trainer = quiet(
        max_epochs=epochs,
        enable_checkpointing=True,
        callbacks=[*best_and_last(last.parent, "val/frame/acc", every), *callbacks],
        logger=RunLogger(folder),
        **{"log_every_n_steps": 1, "limit_val_batches": 1.0, **options},
    )
    where = {"ckpt_path": last, "weights_only": True} if resume else {}
    trainer.fit(module, datamodule=data, **where)
    return trainer


def ended(module, trainer):
    """Everything a run ends with: weights, moments, learning rates, position."""
    optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
    tensors = {
        f"{number}.{parameter}.{name}": torch.as_tensor(value)
        for number, state in enumerate(optimizers)
        for parameter, moments in state["state"].items()
        for name, value in moments.items()
    }
    rates = [group["lr"] for state in optimizers for group in state["param_groups"]]
    schedulers = [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs]
    return snapshot(module), tensors, rates, schedulers, trainer.global_step


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


SOON = {("teacher", "step"), ("student", "epoch")}
RUNS = [
    pytest.param(*case, marks=() if case in SOON else pytest.mark.slow)
    for case in product(("teacher", "student", "warming student"), ("epoch", "step"))
]


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("kind", "interval"), RUNS)
def test_a_resumed_run_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_ffpp, teacher, tmp_path, kind, interval
):
    whole = make(kind, teacher, interval)
    expected = ended(whole, fit(tiny_ffpp, whole, tmp_path / "whole"))

    def compare(folder):
        module = make(kind, teacher, interval)
        weights, moments, *rest = ended(module, fit(tiny_ffpp, module, folder, resume=True))
        assert rest == list(expected[2:])
        assert same(weights, expected[0])
        assert same(moments, expected[1])

    fit(tiny_ffpp, make(kind, teacher, interval), tmp_path / "stopped", epochs=1)
    compare(tmp_path / "stopped")
    folder = tmp_path / "killed"
    for path in (None, folder / "checkpoints" / "last.ckpt"):
        with pytest.raises(Interrupted):
            fit(
                tiny_ffpp,
                make(kind, teacher, interval),
                folder,
                callbacks=[Interruption(path)],
            )
        compare(folder)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("interruption", ["stopped", "killed"])
def test_a_resumed_run_appends_to_its_curves(tiny_ffpp, tmp_path, interruption):
    folder = tmp_path / "run"
    if interruption == "stopped":
        fit(tiny_ffpp, make("teacher", None, "epoch"), folder, epochs=1)
    else:
        with pytest.raises(Interrupted):
            fit(tiny_ffpp, make("teacher", None, "epoch"), folder, callbacks=[Interruption()])
        assert [int(row["step"]) for row in rows(folder)][-1] == BATCHES
    before = [row for row in rows(folder) if int(row["step"]) < BATCHES]
    fit(tiny_ffpp, make("teacher", None, "epoch"), folder, resume=True)
    after = rows(folder)
    assert before
    assert after[: len(before)] == before
    # What was logged behind the checkpoint is replaced, not doubled.
    steps = [int(row["step"]) for row in after if row["train/loss"]]
    assert steps == list(range(EPOCHS * BATCHES))
    epochs = [int(row["epoch"]) for row in after if row["val/frame/acc"]]
    assert epochs == list(range(EPOCHS))
