"""One of two processes on one device: ``NODE_RANK=0 python synced_rank.py ROOT TEACHER OUT gpu``.

Fits a student and a teacher whose BatchNorms share their statistics, over gloo, as NCCL refuses two
processes on one device. With ``cpu`` a few lines stand in for torch's kernels.
"""

import os
import sys
from pathlib import Path

import torch
from rank import on_the_cpu, synced
from torch import distributed

if __name__ == "__main__":
    root, teacher, out = (Path(argument) for argument in sys.argv[1:4])
    rank, accelerator = int(os.environ["NODE_RANK"]), sys.argv[4]
    distributed.init_process_group("gloo", rank=rank, world_size=2)  # else Lightning takes NCCL
    if accelerator == "cpu":
        on_the_cpu()
    place = {"devices": 1, "num_nodes": 2, "strategy": "ddp", "accelerator": accelerator}
    torch.save(synced(root, teacher, 1, **place), out / f"{rank}.part")
    (out / f"{rank}.part").rename(out / f"{rank}.pt")
