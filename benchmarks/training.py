"""Common parts of the training benchmarks: a batch, a teacher, the methods, a quiet trainer."""

import logging
import warnings
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from benchmarks.timing import CPU
from tokd_lightning.distillation import (
    ADD,
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    Branches,
    FitNet,
    Hinton,
    RotationOptimizer,
    SimilarityPreserving,
    TOKDWithADD,
)
from tokd_lightning.distillation.branched import Rotated
from tokd_lightning.distillation.projectors import TeacherProjectors
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.modules import DistillModule
from tokd_lightning.modules.checkpoint import HEADER


class Batches(pl.LightningDataModule):
    """The same normalised batch repeated, since decoding is not part of the step.

    Args:
        count: Batches per epoch.
        batch: Images per batch.
        size: Side of the images in pixels.
        device: Device of the batches.
    """

    mean = std = 0.5
    class_weights = None

    def __init__(self, count: int, batch: int, size: int, device: torch.device = CPU) -> None:
        super().__init__()
        self.count = count
        self.input_size = size
        generator = torch.Generator().manual_seed(0)
        self.batch = {
            "image": torch.randn(batch, 3, size, size, generator=generator).to(device),
            "label": (torch.arange(batch) % 2).to(device),
            "index": torch.arange(batch).to(device),
        }

    def train_dataloader(self) -> DataLoader[Any]:
        """Return ``count`` batches."""
        batches: Any = [self.batch] * self.count
        return DataLoader(batches, batch_size=None)


def quiet() -> None:
    """Suppress the output of Lightning and warnings."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def mixed(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the autocast context of a Lightning precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def save_teacher(
    folder: Path, backbone: str = "xception", **options: Any
) -> tuple[DualBranchTeacher, Path]:
    """Write an untrained teacher as `TeacherModule` would; options are those of the network."""
    teacher = DualBranchTeacher(backbone, pretrained=False, **options)
    projectors = TeacherProjectors(teacher.backbones()[0].channels[-1])
    state = {f"teacher.{key}": value for key, value in teacher.state_dict().items()}
    state |= {f"projectors.{key}": value for key, value in projectors.state_dict().items()}
    header = {"kind": "teacher", "network": teacher.spec, "mean": 0.5, "std": 0.5}
    path = folder / "teacher.ckpt"
    torch.save({"state_dict": state, HEADER: header}, path)
    return teacher, path


def tokd(rotation: Rotated, branches: Branches, dim: int, **options: Any) -> Any:
    """Return a factory of TOKD with these options."""
    return partial(TOKD, rotation=rotation, branches=branches, dim=dim, **options)


def methods(dim: int) -> dict[str, Any]:
    """Return name -> factory of the measured methods."""
    return {
        "TOKD both": tokd("learned", "both", dim),
        "TOKD both, no rotation": tokd("none", "both", dim),
        "TOKD rgb": tokd("none", "rgb", dim),
        "Hinton": Hinton,
        "AT both": AttentionTransfer,
        "PKT both": PKT,
        "SP both": SimilarityPreserving,
        "FitNet both": FitNet,
        "VID both": VID,
    }


def variants(dim: int) -> dict[str, Any]:
    """Return name -> factory of the full matrix's variants, in addition to :func:`methods`."""
    return {
        "TOKD both, layout blocks": tokd("learned", "both", dim, layout="blocks"),
        "TOKD both, layout channels, d 256": tokd(
            "learned", "both", min(dim, 256), layout="channels"
        ),
        "TOKD both, frozen random rotation": tokd("frozen_random", "both", dim),
        "TOKD both, PCGrad": tokd("none", "both", dim, conflict="pcgrad"),
        "FitNet both, rotation": partial(FitNet, rotation="learned", dim=dim),
        "VID both, rotation": partial(VID, rotation="learned", dim=dim),
        "ADD": ADD,
        "TOKD both with ADD": partial(TOKDWithADD, dim=dim),
    }


def distill_module(
    make: Any, student: str, teacher: Path | None, direction: Any = "normalized"
) -> DistillModule:
    """Build a module as in the paper's experiments."""
    return DistillModule(
        make,
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-4),
        lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.1),
        rotation_optimizer=lambda p: RotationOptimizer(p, 5e-5, direction),
        rotation_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 5, 0.05),
        student=student,
        teacher=None if teacher is None else str(teacher),
    )


def quiet_trainer(
    device: torch.device, precision: Any, limit_val_batches: float = 0, **options: Any
) -> pl.Trainer:
    """Build a silent trainer for one epoch that writes no files."""
    return pl.Trainer(
        accelerator=device.type,
        devices=1,
        precision=precision,
        max_epochs=1,
        limit_val_batches=limit_val_batches,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
