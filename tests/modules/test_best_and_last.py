import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from tokd_lightning.modules.checkpoint import best_and_last


class WorseAndWorse(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

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
