import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAccuracy

from tokd_lightning.errors import TokdError
from tokd_lightning.modules.checkpoint import AtomicCheckpointIO, best_and_last
from tokd_lightning.modules.finite import FiniteLoss


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
