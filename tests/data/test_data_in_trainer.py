from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from trees import make_ffpp

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.errors import TokdError


def data(root: Path, **options) -> FFPPDataModule:
    defaults = {"quality": "c23", "size": 48, "batch_size": 8, "num_workers": 0}
    return FFPPDataModule(root, **(defaults | options))


class Recorder(LightningModule):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = []
        self.evaluated = []

    def training_step(self, batch, batch_idx):
        self.seen.append((batch["step"], batch["index"].tolist(), batch["image"].sum().item()))
        return self.layer(batch["image"].mean().view(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.evaluated.append((batch["index"].tolist(), batch["image"].sum().item()))

    def test_step(self, batch, batch_idx):
        self.evaluated.append((batch["index"].tolist(), batch["image"].sum().item()))

    def predict_step(self, batch, batch_idx):
        return batch["index"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "max_epochs": 2, "use_distributed_sampler": False}
    return Trainer(default_root_dir=folder, **(quiet | defaults | options))


def test_the_trainer_sees_every_epoch_in_a_new_order_and_augments_training_alone(
    tiny_ffpp, tmp_path
):
    model = Recorder()
    module = data(tiny_ffpp, batch_size=24, crop=40, num_workers=1)
    trainer(tmp_path, enable_checkpointing=False).fit(model, module)
    assert [step for step, _, _ in model.seen] == list(range(10))
    first, second = model.seen[:5], model.seen[5:]
    assert [rows for _, rows, _ in first] != [rows for _, rows, _ in second]
    assert sorted(row for _, rows, _ in first for row in rows) == list(range(120))
    sanity, one, two = model.evaluated[:2], model.evaluated[2:4], model.evaluated[4:]
    assert sanity == one == two


@pytest.mark.thinned(2)
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_exactly_what_an_unbroken_one_does(tiny_ffpp, tmp_path, workers):
    def module():
        return data(tiny_ffpp, batch_size=24, crop=40, num_workers=workers, balance="half_batch")

    every = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = Recorder()
    trainer(tmp_path, callbacks=[every], limit_val_batches=0).fit(whole, module())
    for step in (2, 5, 7):  # in the first epoch, between the epochs, in the second
        torch.manual_seed(step)
        resumed = Recorder()
        checkpoint = tmp_path / f"step={step}.ckpt"
        trainer(tmp_path, enable_checkpointing=False, limit_val_batches=0).fit(
            resumed, module(), ckpt_path=checkpoint, weights_only=True
        )
        assert resumed.seen == whole.seen[step:]


def test_test_and_predict_see_every_frame_of_the_test_split_once(tiny_ffpp, tmp_path):
    model = Recorder()
    module = data(tiny_ffpp, batch_size=16)
    trainer(tmp_path).test(model, module, verbose=False)
    assert [row for rows, _ in model.evaluated for row in rows] == list(range(40))
    predicted = trainer(tmp_path).predict(model, module)
    assert torch.cat(predicted).tolist() == list(range(40))


def test_the_trainer_ends_with_the_plain_line_for_an_unreadable_frame(tmp_path):
    make_ffpp(tmp_path, ids=6, frames=1, size=8)
    bad = tmp_path / "manipulated_sequences/FaceSwap/c23/faces/004_005/0000.png"
    bad.write_text("x")
    module = data(tmp_path, size=8, num_workers=1)
    with pytest.raises(TokdError) as caught:
        trainer(tmp_path).test(Recorder(), module, verbose=False)
    assert str(caught.value).startswith(f"cannot read {bad}: not an image")
    assert "\n" not in str(caught.value)
