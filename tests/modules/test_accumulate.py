"""A batch in parts makes the step of the whole; a clipped gradient is no longer than asked."""

from functools import partial

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import (
    DoubleFrames,
    Images,
    Statistics,
    distill_module,
    furthest,
    half,
    quiet,
    same,
    sgd,
    snapshot,
    teacher_module,
)
from test_every_method import CASES

from tokd_lightning.distillation import RotationOptimizer
from tokd_lightning.loggers.run import RunLogger

LEARNERS = {
    "teacher": None,
    "tokd": {"alpha_frequency": 3.0},
    "tokd pcgrad": {"conflict": "pcgrad"},
    **{name: CASES[name] for name in ("hinton", "fitnet rotated")},
}


def learner(name, teacher, **options):
    options = {"optimizer": partial(sgd, lr=0.01), **options}
    if name == "teacher":
        return teacher_module(**options)
    return distill_module(teacher, LEARNERS[name], **options)


def frames(root, **options):
    """Three batches' worth and a bit: the bit is left out however batches are cut."""
    defaults = {"quality": "c23", "size": 48, "crop": 40, "batch_size": 4, "num_workers": 0}
    defaults |= {"samples_per_epoch": 15, "augmentation": [], "frames_per_video": 2}
    return DoubleFrames(root, **{**defaults, **options})


def fitted(root, module, callbacks=()):
    trainer = quiet(precision="64-true", callbacks=[Statistics(), *callbacks])
    trainer.fit(module.double(), datamodule=frames(root))
    return module, trainer


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in LEARNERS),
        *((name, {"clip": 0.05, "interval": "step"}) for name in ("teacher", "tokd")),
    ],
    ids=str,
)
def test_parts_of_a_batch_make_the_step_of_the_whole(tiny_ffpp, teacher, name, options):
    whole, trainer = fitted(tiny_ffpp, learner(name, teacher, **options))
    assert trainer.global_step == 3
    for parts in (2, 4):
        module, cut = fitted(tiny_ffpp, learner(name, teacher, accumulate=parts, **options))
        assert cut.global_step == 3
        assert furthest(floats(module), floats(whole)) < 1e-9
        assert [c.scheduler.last_epoch for c in cut.lr_scheduler_configs] == [
            c.scheduler.last_epoch for c in trainer.lr_scheduler_configs
        ]


def floats(module):
    return {k: v for k, v in snapshot(module).items() if v.is_floating_point()}


def test_parts_that_the_end_of_an_epoch_cuts_off_leave_nothing_behind(tiny_ffpp, teacher):
    ended = []
    for batches in (2, 3):
        module = learner("tokd", teacher, accumulate=2)
        options = {"limit_train_batches": batches, "max_epochs": 2, "precision": "64-true"}
        trainer = quiet(callbacks=[Statistics()], **options)
        trainer.fit(module.double(), datamodule=frames(tiny_ffpp))
        assert trainer.global_step == 2
        ended.append(floats(module))
    assert same(*ended)


def test_every_row_of_a_run_in_parts_is_of_whole_batches(tiny_ffpp, teacher, tmp_path):
    logger = RunLogger(tmp_path / "run")
    trainer = quiet(precision="64-true", max_epochs=2, log_every_n_steps=2, logger=logger)
    trainer.fit(learner("tokd", teacher, accumulate=2).double(), datamodule=frames(tiny_ffpp))
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert len(rows) == trainer.global_step / 2 == 3
    shown = rows[["train/loss", "gradient/norm_ratio", "rotation/distance_rgb"]]
    assert not shown.isna().any(axis=None)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("steps", "batches"), [(3, 4), (-1, 5)])
def test_a_cycle_lasts_the_steps_of_a_run_in_parts(tiny_ffpp, teacher, steps, batches):
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3)
    options = {"lr_scheduler": cycle, "interval": "step", "accumulate": 2}
    how = {"max_steps": steps, "limit_train_batches": batches, "max_epochs": 2}
    trainer = quiet(precision="64-true", **how)
    trainer.fit(distill_module(teacher, **options).double(), datamodule=frames(tiny_ffpp))
    (scheduler, *_) = (config.scheduler for config in trainer.lr_scheduler_configs)
    assert scheduler.total_steps == trainer.global_step == (3 if steps > 0 else 4)


class Norms(Callback):
    """Notes by how much a step of rate 1 moves the parameters."""

    def __init__(self):
        self.norms = []

    def at(self, module):
        moved = [p.detach().clone() for k, p in module.named_parameters() if "rotation" not in k]
        return torch.cat([p.flatten() for p in moved])

    def on_train_start(self, trainer, module):
        self.before = self.at(module)

    def on_train_end(self, trainer, module):
        self.norms.append(float((self.at(module) - self.before).norm()))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["teacher", "tokd"])
def test_a_gradient_is_no_longer_than_asked(tiny_ffpp, teacher, name):
    plain = partial(torch.optim.SGD, lr=1.0)
    for clip in (None, 0.02):
        module = learner(name, teacher, optimizer=plain, clip=clip, accumulate=2)
        seen = Norms()
        alone = [Statistics(), seen]
        trainer = quiet(limit_train_batches=2, precision="64-true", callbacks=alone)
        trainer.fit(module.double(), datamodule=frames(tiny_ffpp))
        assert len(seen.norms) == 1
        if clip is None:
            assert seen.norms[0] > 0.1
        else:
            assert seen.norms == pytest.approx([clip], rel=1e-4)


def stepped(teacher, precision, **options):
    module = distill_module(
        teacher,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        rotation_optimizer=partial(RotationOptimizer, lr=1e-3),
        **options,
    )
    trainer = quiet(callbacks=[Statistics()], **precision)
    trainer.fit(module, datamodule=Images(2))
    return module, trainer


@pytest.mark.slow
def test_a_loss_scale_is_taken_out_before_clipping(teacher):
    start, _ = stepped(teacher, {"limit_train_batches": 0})
    options = {"clip": 0.5, "accumulate": 2}
    expected = moved(stepped(teacher, {}, **options)[0], start)
    assert float(expected.norm()) == pytest.approx(0.05, rel=1e-3)
    for scale in (2.0**6, 2.0**12):
        found = moved(stepped(teacher, half(scale), **options)[0], start)
        assert float((found - expected).norm() / expected.norm()) < 0.02


def moved(module, start):
    old = dict(start.named_parameters())
    steps = [p - old[k] for k, p in module.named_parameters() if "rotation" not in k]
    return torch.cat([step.detach().flatten() for step in steps])


@pytest.mark.slow
def test_an_overflow_in_one_part_skips_the_step_of_all(teacher):
    start, _ = stepped(teacher, {"limit_train_batches": 0})
    module, trainer = stepped(teacher, half(2.0**40), clip=0.5, accumulate=2)
    assert same(dict(module.named_parameters()), dict(start.named_parameters()))
    assert not trainer.optimizers[1].state
    assert trainer.precision_plugin.scaler.get_scale() == 2.0**39
    assert module.distiller.take_gradients() is None
