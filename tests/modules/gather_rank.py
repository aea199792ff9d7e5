"""One process of a data-parallel run: ``python gather_rank.py ROOT TEACHER OUT PROCESSES``.

Fits one student per method and writes what each ended with to ``OUT/<rank>.pt``.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from rank import frames, trainer_of
from small import Statistics, distill_module, sgd, snapshot

from tokd_lightning.distillation import (
    ADD,
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    FitNet,
    Hinton,
    SimilarityPreserving,
)

RATES = {
    "add without contrast": 1e-5,
    "pkt": 1e-4,
    "pkt apart": 1e-4,
    "tokd": 1e-4,
    "tokd pcgrad": 1e-4,
}
METHODS = {
    "pkt": partial(PKT, gather=True),
    "sp": partial(SimilarityPreserving, gather=True, taps=(16, 32)),
    "pkt apart": PKT,
    "sp apart": partial(SimilarityPreserving, taps=(16, 32)),
    "hinton": Hinton,
    "at": AttentionTransfer,
    "add without contrast": partial(ADD, contrastive_weight=0.0),
    "vid": VID,
    "fitnet": partial(FitNet, rotation="learned", dim=64),
    "fitnet pcgrad": partial(FitNet, conflict="pcgrad"),
    "tokd": partial(TOKD, width=16, dim=64),
    "tokd pcgrad": partial(TOKD, width=16, dim=64, conflict="pcgrad"),
}


def rehearse(root: Path, teacher: Path, processes: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the state that a student and its heads end with, by method."""
    torch.set_num_threads(1)
    found = {}
    for name, method in METHODS.items():
        rate = RATES.get(name, 1e-3)
        module = distill_module(teacher, method, optimizer=partial(sgd, lr=rate))
        trainer = trainer_of(processes, limit_train_batches=2, callbacks=[Statistics()])
        trainer.limit_val_batches = 0
        trainer.fit(module, datamodule=frames(root))
        found[name] = snapshot(module)
    return found


if __name__ == "__main__":
    root, teacher, out = (Path(argument) for argument in sys.argv[1:4])
    result = rehearse(root, teacher, int(sys.argv[4]))
    part = out / f"{torch.distributed.get_rank()}.part"
    torch.save(result, part)
    part.rename(part.with_suffix(".pt"))
