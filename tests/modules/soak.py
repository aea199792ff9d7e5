"""A fit of many short epochs: ``python soak.py ROOT TEACHER OUT EPOCHS`` writes OUT/memory.json."""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from test_resume import fit, make

PAGE = 4096


class Resident(Callback):
    """Notes the memory in use, in bytes, at the end of every epoch."""

    def __init__(self):
        self.bytes = []

    def on_train_epoch_end(self, trainer, module):
        self.bytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)


if __name__ == "__main__":
    root, teacher, out = (Path(argument) for argument in sys.argv[1:4])
    torch.set_num_threads(1)
    resident, epochs = Resident(), int(sys.argv[4])
    fit(root, make("student", teacher, "epoch"), out, epochs, callbacks=[resident], every=2)
    (out / "memory.json").write_text(json.dumps(resident.bytes))
