"""How well a small student that saw self-blended photographs alone tells held-out blends.

    python -m benchmarks.selfblend FACES…

FACES are folders of photographs, one face each, named ``<person>_….jpg``. The first half of the
people is for training, the other half is held out; every photograph is cropped as ``tokd prepare``
does (Haar detector, margin 1.8), its points are found by dlib, and half of the samples of both are
forged by ``--data.forge sbi``. There is no selection: the weights after the last step count.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torchmetrics.functional.classification import binary_auroc

from tokd_lightning.data.image import to_rgb
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.models.student import Student
from tokd_lightning.prepare.finders import make_finder
from tokd_lightning.prepare.frames import cut_out
from tokd_lightning.prepare.landmarks import find_landmarks

MARGIN = 1.8


def write_tree(folders: list[Path], root: Path, size: int) -> dict[str, int]:
    """Write crops and ``manifest.csv``; return the number of people of each split."""
    files = sorted(file for folder in folders for file in folder.glob("*.jpg"))
    people = sorted({file.name.partition("_")[0] for file in files})
    finder, lines = make_finder("haar"), ["path,method,split,video,target,frame"]
    for file in files:
        person = file.name.partition("_")[0]
        with Image.open(file) as image:
            picture = to_rgb(image)
        track = finder.find(file.stem, {0: picture})
        if not track or not track[0].found:
            print(f"no face on {file}")
            continue
        height, width = picture.shape[:2]
        square = track[0].square(0, width, height, finder.margin(MARGIN))
        place = root / f"{file.parent.name}-{file.stem}.png"
        cv2.imwrite(str(place), cut_out(picture, square, size)[..., ::-1])
        split = "train" if people.index(person) < len(people) // 2 else "val"
        lines.append(f"{place.name},real,{split},{place.stem},{person},0")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return {"train": len(people) // 2, "val": len(people) - len(people) // 2}


def batches(data: ManifestDataModule, split: str) -> Any:
    """Yield finished batches of a split, endlessly in training."""
    loader = getattr(data, f"{split}_dataloader")()
    epoch = 0
    while True:
        if split == "train":
            loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            data.trainer.training = split == "train"
            yield data.on_after_batch_transfer(batch, 0)
        epoch += 1
        if split != "train":
            return


def score(network: torch.nn.Module, data: ManifestDataModule) -> float:
    """Return the AUC on the held-out people."""
    network.eval()
    scores, labels = [], []
    with torch.no_grad():
        for batch in batches(data, "val"):
            scores.append(network(batch["image"]).logits.softmax(1)[:, 1])
            labels.append(batch["label"])
    network.train()
    return float(binary_auroc(torch.cat(scores), torch.cat(labels)))


def main(given: argparse.Namespace) -> None:
    """Train, and print the AUC on held-out people as it grows."""
    cv2.setNumThreads(1)
    torch.manual_seed(given.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        people = write_tree(given.faces, root, given.stored)
        find_landmarks(root, margin=MARGIN)
        data = ManifestDataModule(
            root, size=given.stored, crop=given.size, batch_size=given.batch, forge="sbi",
            num_workers=given.workers, seed=given.seed, frames_per_video=1,
        )  # fmt: skip
        data.trainer = SimpleNamespace(
            training=True, global_rank=0, world_size=1, is_global_zero=True
        )
        table = data.table("train"), data.table("val")
        print(f"{people} people, {len(table[0]) // 2} and {len(table[1]) // 2} photographs")
        network = Student(given.student).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, given.steps)
        start, losses = time.monotonic(), []
        for step, batch in enumerate(batches(data, "train"), 1):
            loss = functional.cross_entropy(network(batch["image"]).logits, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if step % given.every == 0 or step == given.steps:
                found = {"step": step, "loss": round(float(np.mean(losses[-given.every :])), 4)}
                found |= {"auc": round(score(network, data), 4)}
                print(json.dumps(found | {"s": round(time.monotonic() - start)}), flush=True)
            if step == given.steps:
                break


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, nargs="+")
    parser.add_argument("--student", default="resnet18_thin")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--stored", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
