from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image, ImageOps
from small import SIZE, distill_module, quiet
from trees import make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.ffpp import FFPPDataModule

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NETWORK = "test_resnet"


@pytest.fixture(scope="module")
def negatives(tmp_path_factory) -> Path:
    """A tree whose c23 is the negative of its c40."""
    root = make_ffpp(tmp_path_factory.mktemp("pairs"), size=SIZE, qualities=("c23", "c40"))
    for file in root.rglob("c40/**/*.png"):
        twin = Path(str(file).replace("/c40/", "/c23/"))
        ImageOps.invert(Image.open(file)).save(twin)
    return root


class Inputs(Callback):
    """Keeps what the networks were shown, and the rows it came from."""

    def __init__(self):
        self.shown = {"student": [], "teacher": []}
        self.rows = []

    def on_train_start(self, trainer, module):
        for name, network in (("student", module.student), ("teacher", module._teacher.teacher)):
            network.register_forward_pre_hook(
                lambda _, given, name=name: self.shown[name].append(given[0].clone())
            )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.rows.append(batch["index"])


@pytest.mark.thinned(2)
@pytest.mark.parametrize("quality", ["c23", None])
def test_the_teacher_sees_its_own_quality_and_the_student_another(negatives, teacher, quality):
    data = FFPPDataModule(
        negatives,
        quality="c40",
        teacher_quality=quality,
        size=SIZE,
        batch_size=8,
        num_workers=0,
        samples_per_epoch=24,
        augmentation=[],
    )
    inputs = Inputs()
    quiet(callbacks=[inputs]).fit(distill_module(teacher), datamodule=data)
    rows = torch.cat(inputs.rows).tolist()
    assert len(rows) == 24
    table = data.table("train").loc[rows]
    for name, where in (("student", "c40"), ("teacher", quality or "c40")):
        paths = table["path"].str.replace("/c40/", f"/{where}/")
        pixels = torch.stack([read_frame(negatives / path, SIZE) for path in paths])
        torch.testing.assert_close(torch.cat(inputs.shown[name]), (pixels / 255 - 0.5) / 0.5)


@pytest.mark.slow
def test_a_student_is_distilled_across_qualities_from_the_command_line(
    negatives, tmp_path, capsys, monkeypatch
):
    def tokd(command, experiment, *options):
        small = ["--data.size=64", "--data.crop=48", "--data.batch_size=8", "--data.num_workers=0"]
        small += ["--data.samples_per_epoch=16", "--data.augmentation=[]", "--log=none"]
        small += ["--trainer.max_epochs=1", "--model.lr_scheduler.total_steps=2"]
        places = [f"--data.root={negatives}", f"--runs={tmp_path}"]
        config = f"--config={EXPERIMENTS / experiment}.yaml"
        return main([command, config, *places, *small, *options])

    tiny = [f"--model.backbone={NETWORK}", "--model.width=16", "--data.quality=c23"]
    assert tokd("fit", "demo_teacher", *tiny) == 0
    [checkpoint] = tmp_path.glob("*teacher*/checkpoints/best.ckpt")
    student = [f"--model.student={NETWORK}", f"--model.teacher={checkpoint}", "--data.quality=c40"]
    student += ["--model.distiller.width=16", "--model.distiller.dim=64"]
    student += ["--model.rotation_scheduler.total_steps=2", "--data.teacher_quality=c23"]

    shown = []
    finish = FFPPDataModule.on_after_batch_transfer

    def noted(self, batch, dataloader_idx):
        shown.append(finish(self, batch, dataloader_idx))
        return shown[-1]

    monkeypatch.setattr(FFPPDataModule, "on_after_batch_transfer", noted)
    capsys.readouterr()
    assert tokd("fit", "demo_tokd", *student) == 0
    assert "training frames at c40 are paired with c23, none is left out" in capsys.readouterr().out
    trained, evaluated = shown[:2], shown[2:]
    for batch in trained:
        torch.testing.assert_close(batch["teacher_image"], -batch["image"])
    assert evaluated
    assert not any("teacher_image" in batch for batch in evaluated)

    assert tokd("test", "demo_tokd", *student) == 0
    [run] = tmp_path.glob("*_tokd-*")
    assert (run / "test_frames.csv").is_file()
    [video] = negatives.glob("original_sequences/youtube/c23/faces/000")
    frame, *_ = sorted(video.iterdir())
    frame.write_bytes((video / "0003.png").read_bytes())
    assert tokd("fit", "demo_tokd", *student, "--reuse") == 2
    assert "was trained on different data" in capsys.readouterr().err
