from types import SimpleNamespace

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAccuracy

from tokd_lightning.errors import TokdError
from tokd_lightning.loggers.run import RunLogger
from tokd_lightning.modules.finite import FiniteLoss
from tokd_lightning.runs.folder import Run
from tokd_lightning.training.callbacks import best_and_last
from tokd_lightning.training.callbacks.resume import (
    AtomicCheckpointIO,
    LastCheckpoint,
    checkpoint_to_resume,
)
from tokd_lightning.training.results import selected, write_scores


class WorseAndWorse(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.train_accuracy, self.finite, self.accumulate = BinaryAccuracy(), FiniteLoss(), 1
        self.data = None

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log("quality", -float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_last_epoch_is_kept_though_an_earlier_one_was_better(tmp_path):
    data = DataLoader(torch.ones(1, 1))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        callbacks=best_and_last(tmp_path, "quality"),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(WorseAndWorse(), data, data)
    epochs = {p.name: torch.load(p, weights_only=True)["epoch"] for p in tmp_path.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 2}


class Scored(WorseAndWorse):
    """Logs what it is given, epoch by epoch."""

    def __init__(self, **curves):
        super().__init__()
        self.curves = curves

    def validation_step(self, batch, batch_idx):
        for name, values in self.curves.items():
            self.log(f"val/frame/{name}", values[self.current_epoch])


def trained(folder, module, epochs, monitor, resume=None):
    data = DataLoader(torch.ones(1, 1))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=best_and_last(folder, monitor),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, data, ckpt_path=resume)
    return torch.load(folder / "best.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("acc", "auc", "best"),
    [
        ([0.8, 0.8, 0.8], [0.5, 0.9, 0.7], 1),
        ([0.8, 0.8, 0.8], [0.5, 0.5, 0.5], 0),
        ([0.5, 0.8, 0.7], [0.9, 0.6, 0.99], 1),
        ([0.8, 0.8, 0.8], [float("nan"), 0.9, 0.7], 0),
    ],
)
def test_of_equal_accuracies_the_higher_auc_is_kept_and_else_accuracy_decides(
    tmp_path, acc, auc, best
):
    kept = trained(tmp_path, Scored(acc=acc, auc=auc), 3, "val/frame/acc")
    assert kept["epoch"] == best


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_whose_folder_was_moved_keeps_its_best(tmp_path, epochs):
    curves = {"acc": [0.9, 0.9, 0.7, 0.8], "auc": [0.5, 0.6, 0.9, 0.99]}
    whole = trained(tmp_path / "whole", Scored(**curves), 4, "val/frame/acc")
    trained(tmp_path / "a", Scored(**curves), epochs, "val/frame/acc")
    moved = (tmp_path / "a").rename(tmp_path / "b")
    found = trained(moved, Scored(**curves), 4, "val/frame/acc", moved / "last.ckpt")
    assert found["epoch"] == whole["epoch"] == 1
    last = torch.load(moved / "last.ckpt", weights_only=True)
    state, theirs = (
        next(s for k, s in checkpoint["callbacks"].items() if k.startswith("ModelCheckpoint"))
        for checkpoint in (last, whole)
    )
    assert state["best_model_score"] == theirs["best_model_score"]
    assert state["best_model_path"] == str(moved / "best.ckpt")
    assert state["validation"] == theirs["validation"]


def test_of_several_validations_an_epoch_the_numbers_are_those_of_the_best(tmp_path):
    class Twice(Scored):
        seen = -1

        def validation_step(self, batch, batch_idx):
            self.seen += 1
            self.log("val/frame/acc", self.curves["acc"][self.seen])
            self.log("val/loss", float(self.seen))

    data = DataLoader(torch.ones(2, 1))
    for name, acc, best in (("first", [0.9, 0.5], 0), ("last", [0.5, 0.9], 1)):
        folder = tmp_path / name
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            val_check_interval=0.5,
            limit_val_batches=1,
            num_sanity_val_steps=0,
            logger=RunLogger(folder),
            callbacks=best_and_last(folder / "checkpoints", "val/frame/acc"),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Twice(acc=acc), data, data)
        chosen, metrics = selected(Run(folder), "val/frame/acc")
        assert metrics == {"val/frame/acc": 0.9, "val/loss": best}
        assert (chosen.epoch, chosen.step) == (0, best + 1)
        path = folder / "checkpoints/best.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        for state in checkpoint["callbacks"].values():
            state.pop("validation", None)  # as an earlier version has left it
        torch.save(checkpoint, path)
        assert selected(Run(folder), "val/frame/acc") == (chosen, metrics)


def test_the_checkpoint_before_the_last_stays_while_training_lasts(tmp_path):
    last = LastCheckpoint(tmp_path / "last.ckpt")
    for epoch in range(3):
        AtomicCheckpointIO().save_checkpoint({"epoch": epoch}, last.path)
    kept = {p.name: torch.load(p, weights_only=True)["epoch"] for p in tmp_path.iterdir()}
    assert kept == {"last.ckpt": 2, "previous.ckpt": 1}
    assert checkpoint_to_resume(last.path) == (last.path, "")
    data = bytearray(last.path.read_bytes())
    data[-200:] = bytes(200)
    last.path.write_bytes(data)
    assert checkpoint_to_resume(last.path) == (
        tmp_path / "previous.ckpt",
        "cut short, or no checkpoint",
    )
    last.path.unlink()
    assert checkpoint_to_resume(last.path) == (tmp_path / "previous.ckpt", "")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("short")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch, error):
    writer, path = AtomicCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    writer.save_checkpoint({"epoch": 1}, path)

    def half(checkpoint, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(TokdError, match=r"last\.ckpt cannot be written: (No space left|short)"):
        writer.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_tables_of_scores_are_counted_in_words(tmp_path, capsys):
    rows = [(m, f, m != "real", p) for m, p in (("real", 0.1), ("FaceSwap", 0.9)) for f in range(2)]
    scores = pd.DataFrame(rows, columns=["method", "frame", "label", "p_fake"])
    scores["label"] = scores["label"].astype(int)
    for name in ("path", "dataset", "video", "quality", "target", "source", "split"):
        scores[name] = "one"
    scores["path"] = [f"{n}.png" for n in range(len(scores))]
    write_scores(SimpleNamespace(scores=scores.assign(loss=0.0)), tmp_path, "test")
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["4 frames", "2 videos", "1 method"]
