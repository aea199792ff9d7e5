"""A folder in which the shipped experiments find all that they name: data, weights, teachers."""

import re
from pathlib import Path

import genuine
import numpy as np
from PIL import Image

from tokd_lightning.cli import main
from tokd_lightning.demo.cast import ProceduralCast

ROOT = Path(__file__).parents[2]
NAMES = {
    "celebdf_teacher": "celebdf-original_teacher-both_s0",
    "demo_teacher": "synthetic-c23_teacher-both_s0",
    "ffpp_add_teacher": "ffpp-c23_teacher-rgb_s0",
    "ffpp_teacher": "ffpp-c40_teacher-both_s0",
    "modern_teacher_convnext_dinov3": "ffpp-c23_teacher-both_s0-86c117",
    "own_teacher": "own-unknown_teacher-both_s0",
}
ON = ("ffpp-c40:data/ffpp", "celebdf:data/celebdf", "own:data/own")
# Image size and length: all that is changed of an experiment, but for a network of 300 M weights.
SHORT = ["--data.size=64", "--trainer.max_epochs=1"]
ITS_OWN = {
    "demo": ["--data.crop=48"],
    "modern_teacher_clip": ["--model.backbone=test_vit", "--model.pretrained=false"],
}


class Place:
    """A working folder with ``experiments``, ``configs`` and data where the experiments look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("experiments", "configs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "pictures").mkdir()
        face = np.asarray(ProceduralCast(0, 256).portrait(0).image)
        Image.fromarray(face).save(folder / "pictures" / "face.png")

    def need(self, *names: str) -> None:
        """Make the data sets, as far as they are not there yet."""
        for name in names:
            if not (place := self.folder / "data" / name).is_dir():
                getattr(genuine, name)(place)

    def fit(self, experiment: str, *options: str, name: str = "") -> Path:
        """Fit an experiment, its teacher first where its header says so; returns the run."""
        run = Path("runs") / (name or NAMES.get(experiment, experiment))
        kind = experiment.partition("_")[0]
        self.need("ffpp" if kind == "modern" else kind)
        if not (run / "metrics.json").is_file():
            file = f"experiments/{experiment}.yaml"
            header = (ROOT / file).read_text()
            first = re.search(r"^# First: +tokd fit --config experiments/(\w+)\.yaml", header, re.M)
            if first and not name:
                self.fit(first[1])
            cut = [*SHORT, *ITS_OWN.get(kind, ITS_OWN.get(experiment, []))]
            tokd("fit", "--config", file, "--name", run.name, *cut, *options)
        return run


def tokd(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0, arguments
