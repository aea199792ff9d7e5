"""A loss that is not finite ends the run with its frames named, and never gets into last.ckpt."""

import csv
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_resume import fit, make

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.errors import AlikeError, TokdError
from tokd_lightning.modules.finite import FiniteLoss
from tokd_lightning.training.callbacks import finite
from tokd_lightning.training.callbacks.finite import finite_weights

KINDS = ["teacher", "student"]


class Broken(Callback):
    """Makes a batch into one whose loss is NaN, and remembers its frames."""

    def __init__(self, epoch, batch):
        self.moment, self.rows = (epoch, batch), []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.moment:
            batch["image"].fill_(float("nan"))
            self.rows = batch["index"].tolist()


class BrokenStep(Callback):
    """Leaves a finite loss, but a gradient that is not."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.current_epoch == 1:
            next(iter(module.network.parameters())).grad.fill_(float("inf"))


def finite_checkpoints(folder):
    """The steps of the run's checkpoints, all of whose weights are finite."""
    steps = {}
    for path in sorted(folder.glob("checkpoints/*.ckpt")):
        checkpoint = torch.load(path, weights_only=True)
        assert all(bool(v.isfinite().all()) for v in checkpoint["state_dict"].values())
        steps[path.stem] = checkpoint["global_step"]
    return steps


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("moment", "every", "log", "last"),
    [
        ((1, 0), 1, 1, 3),  # noticed before the next save
        ((1, 2), 1, 1, 5),  # noticed before the validation
        ((1, 0), 100, 1, 3),  # noticed where a row is logged
        ((1, 1), 100, 50, 3),  # noticed at the end of the epoch
    ],
)
def test_it_ends_the_run_before_anything_is_saved(
    tiny_ffpp, teacher, tmp_path, kind, moment, every, log, last
):
    broken = Broken(*moment)
    with pytest.raises(TokdError, match=r"loss of a batch in epoch 2 is not finite; .*nonfinite"):
        fit(
            tiny_ffpp,
            make(kind, teacher, "epoch"),
            tmp_path,
            callbacks=[broken],
            every=every,
            log_every_n_steps=log,
        )
    assert finite_checkpoints(tmp_path) == {"best": 3, "last": last}
    with (tmp_path / "nonfinite.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 4
    assert {"path", "video", "frame", "label"} <= found[0].keys()
    frames = FFPPDataModule(tiny_ffpp, quality="c23", size=48, frames_per_video=2).table("train")
    assert [row["path"] for row in found] == frames.iloc[broken.rows]["path"].tolist()


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_breaks_the_weights_is_not_saved_either(tiny_ffpp, teacher, tmp_path, kind):
    with pytest.raises(TokdError, match="update of a batch in epoch 2 is not finite"):
        fit(
            tiny_ffpp,
            make(kind, teacher, "epoch"),
            tmp_path,
            callbacks=[BrokenStep()],
            every=1,
        )
    assert finite_checkpoints(tmp_path) == {"best": 3, "last": 3}
    assert (tmp_path / "nonfinite.csv").is_file()


def test_the_first_bad_batch_is_remembered():
    watch, nan = FiniteLoss(), torch.tensor(float("nan"))
    assert not watch.broken
    assert watch.rows == []
    watch.note(torch.tensor(1.0), torch.tensor([1, 2]))
    assert (watch.broken, watch.rows) == (False, [1, 2])
    watch.note(nan, torch.tensor([3, 4]))
    watch.note(torch.tensor(1.0), torch.tensor([5, 6]))
    watch.note(nan, torch.tensor([7, 8]))
    watch.note(nan, torch.tensor([9]))  # a batch of another size
    assert (watch.broken, watch.rows) == (True, [3, 4])
    watch = FiniteLoss()
    for loss, rows in ((1.0, [1, 2]), (float("nan"), [3]), (1.0, [4, 5])):
        watch.note(torch.tensor(loss), torch.tensor(rows))
    assert (watch.broken, watch.rows) == (True, [3])


@pytest.mark.parametrize(
    ("losses", "other", "frames"),
    [
        ([1, 1, float("nan"), 1], (1, [4, 5]), [4, 5]),  # here it broke a batch later
        ([1, 1, float("nan"), 1], (2, [4, 5]), [2, 3, 4, 5]),
        ([1, 1, float("nan"), 1], None, [2, 3]),
        ([1, 1], (1, [4, 5]), [4, 5]),  # here the weights did
    ],
)
def test_of_two_processes_the_first_bad_batch_is_named(
    tmp_path, monkeypatch, losses, other, frames
):
    def gather(parts, mine):
        parts[:] = mine, other

    monkeypatch.setattr(finite.distributed, "all_gather_object", gather)
    module, table = torch.nn.Linear(1, 1), pd.DataFrame({"path": range(6)})
    module.weight.data.fill_(float("nan"))
    module.finite, module.data = FiniteLoss(), SimpleNamespace(table=lambda split: table)
    for loss, rows in zip(losses, ([0, 1], [1, 2], [2, 3], [0, 5]), strict=False):
        module.finite.note(torch.tensor(float(loss)), torch.tensor(rows))
    strategy = SimpleNamespace(reduce_boolean_decision=lambda broken, all: True)
    trainer = SimpleNamespace(world_size=2, strategy=strategy, is_global_zero=True, current_epoch=0)
    with pytest.raises(AlikeError, match="the loss of a batch"):
        finite.stop_if_broken(trainer, module, tmp_path, weights=True)
    assert pd.read_csv(tmp_path / "nonfinite.csv")["path"].tolist() == frames


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_are_finite_or_not(bad):
    layer = torch.nn.Linear(3, 3)
    assert finite_weights(layer)
    layer.weight.data[1, 1] = bad
    assert not finite_weights(layer)
