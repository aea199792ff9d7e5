from functools import partial

import pytest
import torch
from small import (
    Images,
    Statistics,
    distill_module,
    half,
    quiet,
    same,
    sgd,
    snapshot,
    teacher_module,
)

from tokd_lightning.distillation import RotationOptimizer
from tokd_lightning.errors import TokdError

RATE = 1e-3
PARTS = ("student", "distiller.project", "distiller.rotation")


def fitted(teacher, batches, **precision):
    module = distill_module(
        teacher,
        optimizer=partial(sgd, lr=0.01),
        rotation_optimizer=partial(RotationOptimizer, lr=RATE),
    )
    trainer = quiet(**precision)
    trainer.fit(module, datamodule=Images(batches))
    return module, trainer


def start(teacher):
    module = distill_module(teacher)
    quiet(limit_train_batches=0).fit(module, datamodule=Images())
    return module


def parameters(module, part):
    return {k: p.detach() for k, p in module.named_parameters() if k.startswith(part)}


def moved(module, before, part):
    """Return by how much the parameters of a part have moved since ``before``, as one vector."""
    old = parameters(before, part)
    return torch.cat([(p - old[k]).flatten() for k, p in parameters(module, part).items()])


def apart(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("precision", "tolerances"),
    [(half(2.0**10), (0.02, 0.005, 0.01)), ({"precision": "bf16-mixed"}, (0.1, 0.05, 0.2))],
    ids=["float16", "bfloat16"],
)
def test_mixed_precision_takes_the_steps_of_float32(teacher, precision, tolerances):
    # With BatchNorm's statistics of six small maps, rounding alone would lead elsewhere.
    before, still = start(teacher), {"batches": 1, "callbacks": [Statistics()]}
    exact, _ = fitted(teacher, **still)
    mixed, _ = fitted(teacher, **still, **precision)
    for part, tolerance in zip(PARTS, tolerances, strict=True):
        expected = moved(exact, before, part)
        assert expected.norm() > 0
        assert apart(moved(mixed, before, part), expected) < tolerance, part
    assert all(p.dtype == torch.float32 for p in mixed.parameters())


@pytest.mark.slow
def test_the_rotation_step_does_not_know_the_loss_scale(teacher):
    before = start(teacher)
    steps = [
        moved(fitted(teacher, batches=1, **half(scale))[0], before, "distiller.rotation")
        for scale in (2.0**6, 2.0**12)
    ]
    assert apart(*steps) < 1e-2
    # Each R turns by lr * d in Frobenius norm, whatever the scale.
    for step in steps:
        assert float(step.norm()) == pytest.approx(2**0.5 * RATE * 64, rel=1e-3)


@pytest.mark.slow
def test_an_overflow_skips_student_projectors_and_rotations_and_lowers_the_scale(teacher):
    before = start(teacher)
    module, trainer = fitted(teacher, batches=1, **half(2.0**40))
    assert same(parameters(module, ""), parameters(before, ""))
    assert not trainer.optimizers[1].state
    assert trainer.precision_plugin.scaler.get_scale() == 2.0**39
    assert trainer.global_step == 1


@pytest.mark.slow
def test_training_goes_on_after_an_overflow(teacher):
    before = start(teacher)
    module, trainer = fitted(teacher, batches=12, **half(2.0**22))
    lowered = 22 - int(torch.tensor(trainer.precision_plugin.scaler.get_scale()).log2())
    assert 0 < lowered < 12
    taken = [int(state["steps"]) for state in trainer.optimizers[1].state.values()]
    assert taken == [12 - lowered] * 2
    for part in PARTS:
        assert moved(module, before, part).norm() > 0
    assert all(bool(value.isfinite().all()) for value in parameters(module, "").values())


@pytest.mark.slow
def test_after_an_overflow_no_gradient_of_the_skipped_batch_is_left(teacher):
    module, _ = fitted(teacher, batches=1, **half(2.0**40))
    assert module.distiller.take_gradients() is None


@pytest.mark.slow
def test_the_loss_scale_is_in_the_checkpoint(teacher, tmp_path):
    _, trainer = fitted(teacher, batches=1, **half(2.0**40))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    assert checkpoint["MixedPrecision"]["scale"] == 2.0**39


def test_the_teacher_learns_in_mixed_precision(teacher):
    module = teacher_module(optimizer=sgd)
    begin = snapshot(module)
    trainer = quiet(precision="bf16-mixed", limit_val_batches=1.0)
    trainer.fit(module, datamodule=Images())
    assert all(bool(p.isfinite().all()) for p in module.parameters())
    for name, p in module.named_parameters():
        if p.dim() == 4 and "frequency.stages" in name:
            assert p.dtype == torch.float32
    assert not same(snapshot(module), begin)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_precisions_that_round_the_weights_are_refused(teacher, kind, precision):
    module = distill_module(teacher) if kind == "student" else teacher_module()
    with pytest.raises(TokdError, match=f"{precision} rounds the weights"):
        quiet(precision=precision).fit(module, datamodule=Images())
