"""One process of detectors trained by two: ``python detector_rank.py ROOT OUT PROCESSES``."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rank import frames, trainer_of
from small import Statistics, halved, sgd, snapshot

from tokd_lightning.models.detectors import RFM, MultiAtt
from tokd_lightning.modules import DetectorModule

NETWORK = "resnet18_thin"
MAKERS = {
    "rfm": partial(RFM, NETWORK, False),
    "multiatt": partial(MultiAtt, NETWORK, False, attentions=2, dropout=0.0, dropout_final=0.0),
}


def learned(root: Path, processes: int) -> dict[str, Any]:
    """Return the state of each detector after an epoch, whole and, for RFM, in parts."""
    torch.set_num_threads(1)
    found = {}
    for name, parts in (("rfm", 1), ("multiatt", 1), ("rfm", 3)):
        optimizer = partial(sgd, lr=0.01)
        module = DetectorModule(MAKERS[name], optimizer, halved, accumulate=parts)
        trainer = trainer_of(processes, callbacks=[Statistics()])
        trainer.fit(module, datamodule=frames(root))
        found[f"{name} {parts}"] = snapshot(module)
    return found


if __name__ == "__main__":
    torch.save(
        learned(Path(sys.argv[1]), int(sys.argv[3])),
        Path(sys.argv[2]) / f"{os.environ['LOCAL_RANK']}.pt",
    )
