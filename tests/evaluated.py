"""Tiny data sets whose fakes are brighter, and runs that have learned so, for `tokd evaluate`."""

import numpy as np
from PIL import Image
from test_cli import ROOT, folder
from trees import make_celebdf, make_ffpp

from tokd_lightning.cli import main

# Neither the normalisation nor the size of any other data set.
OPTIONS = [
    "--data.mean=0.3",
    "--data.std=[0.4,0.5,0.6]",
    "--data.size=64",
    "--data.crop=48",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--trainer.max_epochs=1",
    "--log=none",
]
LONG = ["--data.samples_per_epoch=160", "--model.lr_scheduler.total_steps=20"]
SHORT = ["--data.samples_per_epoch=16", "--model.lr_scheduler.total_steps=2"]


def brighten(root, *parts):
    for part in parts:
        for file in (root / part).rglob("*.png"):
            image = np.asarray(Image.open(file)).astype(int) + 60
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file)
    return root


def bright_ffpp(root):
    return brighten(make_ffpp(root), "manipulated_sequences")


def bright_celebdf(root):
    return brighten(make_celebdf(root, frames=2, size=48), "Celeb-synthesis")


def fit_and_test(experiment, data, runs, *options, pictures=False):
    """Train and test as an experiment of the demo says; return the run's folder."""
    config = ROOT / f"experiments/{experiment}.yaml"
    for command in ("fit", "test"):
        given = [f"--config={config}", f"--data.root={data}", f"--runs={runs}", *OPTIONS, *options]
        given += ["--pictures=0"] if command == "test" and not pictures else []
        assert main([command, *given]) == 0
    return folder(runs, experiment.removeprefix("demo_"))
