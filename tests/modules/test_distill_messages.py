import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from small import Images, distill_module, fitted, halved, quiet, same, snapshot, teacher_module

from tokd_lightning.distillation import RotationOptimizer, Vanilla
from tokd_lightning.errors import TokdError


def warned(teacher, distiller=None, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(teacher, distiller, trainer=quiet(max_epochs=options.pop("epochs", 2)), **options)
    ours = {"distill.py", "symptoms.py"}
    return [str(w.message) for w in caught if Path(w.filename).name in ours]


@pytest.mark.slow
def test_a_rotation_that_turns_and_slows_down_faster_warns_of_nothing(teacher):
    assert warned(teacher) == []


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "options",
    [{"rotation_scheduler": halved}, {"rotation_scheduler": None}],
    ids=["equal", "constant"],
)
def test_eta_r_that_does_not_fall_faster_than_eta_s_is_told(teacher, options):
    (warning,) = warned(teacher, **options)
    assert warning.startswith("eta_R / eta_S does not fall over this run")


def one_cycle(final):
    options = {"max_lr": 1e-2, "total_steps": 20, "final_div_factor": final}
    return partial(torch.optim.lr_scheduler.OneCycleLR, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 1},
        {"interval": "step", "lr_scheduler": one_cycle(10), "rotation_scheduler": one_cycle(100)},
    ],
    ids=["steps", "cycle"],
)
def test_a_run_that_ends_before_eta_r_could_fall_warns_of_nothing(teacher, options):
    """As a short trial of a shipped file: StepLR(5) of one epoch, the first rise of a cycle."""
    assert warned(teacher, **options) == []


@pytest.mark.slow
def test_the_ratio_is_that_of_the_first_and_the_last_step_of_the_run(teacher):
    later = partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.1)
    options = {"lr_scheduler": later, "rotation_scheduler": later, "interval": "step"}
    slower = partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.05)
    assert len(warned(teacher, **options)) == 1
    assert warned(teacher, **{**options, "rotation_scheduler": slower}) == []
    never = partial(torch.optim.lr_scheduler.StepLR, step_size=4, gamma=0.05)  # 4 steps in all
    assert len(warned(teacher, **{**options, "rotation_scheduler": never})) == 1


def test_an_idle_rotation_is_told_after_the_first_epoch(teacher):
    idle = partial(RotationOptimizer, lr=1e-2, direction="plain")
    (warning,) = warned(teacher, rotation_optimizer=idle)
    assert "the rotation does nothing" in warning


class Collapsing(Vanilla):
    """Reports the batch variances it was told to."""

    def __init__(self, variances, *shapes):
        super().__init__(*shapes)
        self.variances = iter(variances)

    def forward(self, *outputs):
        self.now = torch.tensor(next(self.variances))
        return super().forward(*outputs)

    def diagnostics(self):
        return {"variance_teacher_rgb": self.now, "distance_rgb": torch.zeros(())}


@pytest.mark.parametrize(
    ("variances", "times"),
    [
        ([0.6, 0.1, 0.5, 0.1], 2),
        ([0.6, 0.13, 0.13, 0.2], 0),
        ([0.1, 0.6, 0.6, 0.1], 0),
        ([0.0, -1.2e-7, 0.0, 0.0], 0),
    ],
    ids=["below a fifth of the start", "a fifth and more", "the start, not the peak", "rounding"],
)
def test_a_collapse_of_the_condensed_maps_is_told(variances, times):
    told = warned(None, partial(Collapsing, variances))
    assert len(told) == times
    assert all("maps/variance_teacher_rgb fell from 0.6 to 0.1" in line for line in told)


def test_a_resumed_run_remembers_where_the_variances_started(tmp_path):
    _, trainer = fitted(None, partial(Collapsing, [0.6, 0.5]))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    module = distill_module(None, partial(Collapsing, [0.1, 0.1]))
    last = {"ckpt_path": tmp_path / "c.ckpt", "weights_only": True}
    with pytest.warns(UserWarning, match=r"fell from 0\.6 to 0\.1"):
        quiet(max_epochs=2).fit(module, datamodule=Images(), **last)


def cycle(steps):
    return partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=steps)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["lr_scheduler", "rotation_scheduler"])
def test_a_schedule_shorter_than_the_run_is_refused_before_the_first_step(teacher, name):
    options = {"lr_scheduler": cycle(4), "rotation_scheduler": cycle(4), "interval": "step"}
    _, trainer = fitted(teacher, trainer=quiet(max_epochs=2), **options)
    assert trainer.global_step == 4
    trainer = quiet(max_epochs=2)
    with pytest.raises(TokdError, match=f"^{name} ends after 3 steps but this run has 4: set its"):
        fitted(teacher, trainer=trainer, **{**options, name: cycle(3)})
    assert trainer.global_step == 0


def test_a_run_cut_short_by_max_steps_needs_no_longer_schedule(teacher):
    options = {"lr_scheduler": cycle(3), "rotation_scheduler": cycle(3), "interval": "step"}
    _, trainer = fitted(teacher, trainer=quiet(max_epochs=2, max_steps=3), **options)
    assert trainer.global_step == 3


def test_a_teacher_fed_otherwise_is_refused(teacher):
    with pytest.raises(TokdError, match=r"with mean 0\.5, the data module gives mean 0\.4"):
        quiet().fit(distill_module(teacher), datamodule=Images(mean=0.4))


def test_without_a_teacher_the_way_to_one_is_told(teacher, tmp_path):
    with pytest.raises(TokdError, match=r"name its checkpoint with --model\.teacher"):
        fitted(None)
    missing = tmp_path / "ffpp-c40_teacher-both_s0" / "checkpoints" / "best.ckpt"
    with pytest.raises(TokdError, match=r"tokd fit --config experiments/ffpp_teacher\.yaml"):
        fitted(missing)


def test_a_method_without_a_teacher_does_not_look_at_the_one_it_is_given(teacher, tmp_path):
    states = [
        snapshot(fitted(given, Vanilla)[0]) for given in (None, teacher, tmp_path / "missing.ckpt")
    ]
    assert same(states[0], states[1])
    assert same(states[0], states[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": 2}, "kernel"), ({"norm": "none"}, "norm 'none' is not one of")],
)
def test_options_that_a_method_refuses_are_one_line(teacher, options, message):
    with pytest.raises(TokdError, match=message):
        fitted(teacher, options)


class Careless(Vanilla):
    """Looks its maps up without asking, and needs a teacher for no more than that."""

    needs_teacher = True

    def __init__(self, student_shapes, teacher_shapes):
        super().__init__(student_shapes, teacher_shapes)
        self.channels = teacher_shapes[32][0]


def test_a_method_that_looks_up_maps_which_are_not_there_gets_its_teacher(teacher):
    module, _ = fitted(teacher, Careless)
    assert module.distiller.channels > 0


plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=1)


@pytest.mark.parametrize("name", ["lr_scheduler", "rotation_scheduler"])
def test_a_schedule_that_waits_for_a_metric_is_refused(teacher, name):
    with pytest.raises(TokdError, match=f"^{name} needs a metric at every step"):
        fitted(teacher, **{name: plateau})


def test_a_teachers_schedule_that_waits_for_a_metric_is_refused():
    with pytest.raises(TokdError, match=r"^lr_scheduler needs a metric at every step"):
        quiet().fit(teacher_module(lr_scheduler=plateau), datamodule=Images())


@pytest.mark.slow
def test_a_checkpoint_of_another_kind_is_no_teacher(teacher, tmp_path):
    _, trainer = fitted(teacher)
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    with pytest.raises(TokdError, match=r"student\.ckpt holds a student .*a teacher is needed"):
        fitted(tmp_path / "student.ckpt")
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.ckpt")
    with pytest.raises(TokdError, match="is not a checkpoint of tokd_lightning"):
        fitted(tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(TokdError, match="cannot be read as a checkpoint"):
        fitted(tmp_path / "text.ckpt")


def test_projectors_of_another_width_are_refused(teacher):
    with pytest.raises(TokdError, match="trained without projectors of width 8"):
        fitted(teacher, {"width": 8})
