"""What the tests of the LightningModules share: images, small networks, quiet trainers."""

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.distillation import TOKD, RotationOptimizer
from tokd_lightning.modules import DistillModule, TeacherModule

NETWORK = "test_resnet"
SIZE = 64
BATCH = 6
SPLITS = ("train", "val", "test")

halved = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
quartered = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.25)


class Images(pl.LightningDataModule):
    """Noise, with a checkerboard on the fakes; stands in for a FrameDataModule.

    Args:
        batches: Of every split.
        dtype: Of the images.
        mean: As the header of a checkpoint records it.
    """

    name, quality, std, input_size, class_weights = "noise", "c0", 0.5, SIZE, None

    def __init__(self, batches: int = 2, dtype: torch.dtype = torch.float32, mean: float = 0.5):
        super().__init__()
        self.batches, self.dtype, self.mean = batches, dtype, mean

    def table(self, split: str) -> pd.DataFrame:
        rows = range(self.batches * BATCH)
        labels = [row % 2 for row in rows]
        names = [f"{split}{row}" for row in rows]
        return pd.DataFrame({"dataset": "noise", "method": labels, "video": names, "label": labels})

    def samples(self, split: str) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        labels = torch.tensor(self.table(split)["label"].tolist())
        shape = (len(labels), 3, SIZE, SIZE)
        images = torch.randn(shape, generator=generator, dtype=torch.float64)
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        images += labels.view(-1, 1, 1, 1) * ((x // 4 + y // 4) % 2 * 2 - 1)
        return [
            {"image": image, "label": label, "index": torch.tensor(row)}
            for row, (image, label) in enumerate(zip(images.to(self.dtype), labels, strict=True))
        ]

    def loader(self, split: str) -> DataLoader:
        return DataLoader(self.samples(split), batch_size=BATCH)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")

    predict_dataloader = test_dataloader


class DoubleFrames(FFPPDataModule):
    """Frames in float64, so that two processes and one can be compared to the last digits."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {key: v.double() if "image" in key else v for key, v in batch.items()}


class Statistics(Callback):
    """Keeps every BatchNorm in eval mode: its statistics would differ between processes."""

    def on_train_start(self, trainer, pl_module):
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer, pl_module):
        for module in pl_module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Seen(Callback):
    """Notes, at the end of every batch, what ``look`` sees."""

    def __init__(self, look):
        self.look = look
        self.notes = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.notes.append(self.look(module))


def sgd(parameters, lr=0.05):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def adam(parameters, lr=1e-3):
    return torch.optim.Adam(parameters, lr=lr)


def teacher_module(**options) -> TeacherModule:
    defaults = {"backbone": NETWORK, "pretrained": False, "width": 16}
    return TeacherModule(**{"optimizer": adam, "lr_scheduler": halved, **defaults, **options})


def distill_module(teacher: Path | None, distiller=None, **options) -> DistillModule:
    """Make a student of ``test_resnet`` with TOKD; ``distiller`` are options of TOKD or a maker."""
    if not callable(distiller):
        distiller = partial(TOKD, **{"width": 16, "dim": 64, **(distiller or {})})
    defaults = {
        "optimizer": adam,
        "lr_scheduler": halved,
        "rotation_optimizer": partial(RotationOptimizer, lr=2e-3),
        "rotation_scheduler": quartered,
        "student": NETWORK,
        "teacher": None if teacher is None else str(teacher),
    }
    return DistillModule(distiller, **{**defaults, **options})


def quiet(**options) -> pl.Trainer:
    """Make a trainer on the CPU that leaves no trace and says nothing."""
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
        "max_epochs": 1,
    }
    return pl.Trainer(**{**defaults, **options})


def fitted(teacher, distiller=None, batches=2, trainer=None, **options):
    """Fit a student on noise; return the module and its trainer."""
    module = distill_module(teacher, distiller, **options)
    trainer = trainer or quiet()
    trainer.fit(module, datamodule=Images(batches=batches))
    return module, trainer


def snapshot(module: nn.Module, *prefixes: str) -> dict[str, torch.Tensor]:
    """Copy the tensors of a module's state dict whose names begin with one of ``prefixes``."""
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if not prefixes or name.startswith(prefixes)
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the largest relative difference |a - b| / |b| of tensors of equal names."""
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).norm() / b[k].norm().clamp_min(1e-300)) for k in b)


def floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what of a state is measured: counters and what stayed 0 left out."""
    return {k: v for k, v in state.items() if v.is_floating_point() and v.norm() > 0}


def half(scale: float) -> dict[str, MixedPrecision]:
    """Have a trainer on the CPU use float16 with a loss scale; of 16-mixed it makes bfloat16."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return {"plugins": MixedPrecision("16-mixed", "cpu", scaler)}
