"""Training curves in float16 and bfloat16 are those of float32, on a small mini-FF++."""

from functools import partial

import pandas as pd
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from small import distill_module, quiet, teacher_module

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.demo import make_demo
from tokd_lightning.distillation import RotationOptimizer
from tokd_lightning.loggers.run import RunLogger

pytestmark = pytest.mark.slow
EPOCHS, STEPS, BATCH, WINDOW = 3, 20, 12, 10
CYCLE = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=EPOCHS * STEPS)
FALLING = partial(CYCLE, max_lr=5e-4, final_div_factor=1e5)
COMMON = {"optimizer": partial(torch.optim.AdamW, lr=1e-3), "lr_scheduler": CYCLE}


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini") / "demo"
    make_demo(root, identities=20, frames=4, size=64, quality=["c23"], workers=1)
    return root


def module_of(kind, teacher):
    if kind == "teacher":
        return teacher_module(interval="step", **COMMON)
    return distill_module(
        teacher,
        interval="step",
        rotation_optimizer=partial(RotationOptimizer, lr=5e-4),
        rotation_scheduler=FALLING,
        **COMMON,
    )


def precision_of(name):
    """Lightning turns 16-mixed on a CPU into bfloat16; this is what it does on a GPU."""
    if name == "16-mixed":
        return {"plugins": MixedPrecision(name, "cpu", torch.amp.GradScaler("cpu"))}
    return {"precision": name}


def curves(root, folder, kind, teacher, precision, seed=0):
    """Train; return the curves of ``metrics.csv`` and the path of the checkpoint."""
    data = FFPPDataModule(
        root,
        quality="c23",
        size=64,
        crop=48,
        batch_size=BATCH,
        samples_per_epoch=BATCH * STEPS,
        frames_per_video=4,
        balance="half_batch",
        num_workers=0,
        seed=seed,
    )
    trainer = quiet(
        max_epochs=EPOCHS,
        limit_val_batches=1.0,
        logger=RunLogger(folder),
        log_every_n_steps=1,
        **precision_of(precision),
    )
    trainer.fit(module_of(kind, teacher), datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return pd.read_csv(folder / "metrics.csv"), folder / "last.ckpt"


@pytest.fixture(scope="module")
def exact(mini, tmp_path_factory):
    """The curves of teacher and student in float32, and the teacher that all students have."""
    out = tmp_path_factory.mktemp("float32")
    torch.set_num_threads(1)
    teacher, path = curves(mini, out / "teacher", "teacher", None, "32-true")
    student, _ = curves(mini, out / "tokd", "tokd", path, "32-true")
    return {"teacher": teacher, "tokd": student, "path": path}


def smooth(table, name):
    """Return means over windows of ten steps."""
    values = table[name].dropna().reset_index(drop=True)
    return values.groupby(values.index // WINDOW).mean()


# Largest difference of ten-step means: cross-entropy; distillation losses and turn of R, as shares.
TOLERANCES = {"bf16-mixed": (0.03, 0.02, 0.1), "16-mixed": (0.03, 0.01, 0.05)}


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("kind", ["teacher", "tokd"])
def test_a_training_curve_is_that_of_float32(mini, exact, tmp_path, kind, precision):
    found, _ = curves(mini, tmp_path, kind, exact["path"], precision)
    wanted = exact[kind]
    entropy, loss, turn = TOLERANCES[precision]
    absolute = {"train/loss" if kind == "teacher" else "train/ce": entropy}
    relative = {}
    if kind == "tokd":
        relative |= {"train/rgb": loss, "train/frequency": loss}
        relative |= {"rotation/distance_rgb": turn, "rotation/distance_frequency": turn}
        assert (found["rotation/orthogonality_rgb"].dropna() < 1e-4).all()
    for name, tolerance in (absolute | relative).items():
        ours, theirs = smooth(found, name), smooth(wanted, name)
        assert len(ours) == EPOCHS * STEPS // WINDOW
        apart = (ours - theirs).abs() / (theirs.max() if name in relative else 1)
        print(f"{kind} {precision} {name}: {apart.max():.4f}")
        assert (apart < tolerance).all(), name
    last = [table["val/loss"].dropna().iloc[-1] for table in (found, wanted)]
    print(f"{kind} {precision} val/loss: {abs(last[0] - last[1]):.4f}")
    assert abs(last[0] - last[1]) < 0.1


def test_there_is_something_to_learn_and_another_draw_gives_another_curve(mini, exact, tmp_path):
    first = smooth(exact["teacher"], "train/loss")
    assert first.iloc[-1] < first.iloc[0] - 0.1
    other, _ = curves(mini, tmp_path, "teacher", None, "32-true", seed=1)
    assert (smooth(other, "train/loss") - first).abs().max() > 0.03
