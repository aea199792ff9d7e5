"""Fused Adam makes the steps of Adam, clipped, in parts, and under a loss scale."""

from functools import partial

import pytest
import torch
from small import Images, Statistics, distill_module, half, quiet, same, teacher_module
from test_cli import ROOT, SMALL, TINY_STUDENT
from test_resume import Interrupted, Interruption, ended, fit, make

from tokd_lightning.cli import main
from tokd_lightning.distillation import RotationOptimizer

FUSED, PLAIN = (partial(torch.optim.Adam, lr=1e-3, fused=fused) for fused in (True, False))


def trained(kind, teacher, optimizer, precision, batches=1, **options):
    if kind == "teacher":
        module = teacher_module(optimizer=optimizer, **options)
    else:
        mover = partial(RotationOptimizer, lr=1e-3)
        module = distill_module(teacher, optimizer=optimizer, rotation_optimizer=mover, **options)
    precision = half(precision) if isinstance(precision, float) else {"precision": precision}
    trainer = quiet(callbacks=[Statistics()], **precision)
    trainer.fit(module, datamodule=Images(batches))
    return module, trainer


def parameters(module):
    return {name: p.detach() for name, p in module.named_parameters()}


CLIPPED = {"clip": 0.05, "accumulate": 2, "batches": 2}


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("kind", "precision", "options"),
    [
        ("teacher", "32-true", CLIPPED),
        ("teacher", "bf16-mixed", CLIPPED),
        ("teacher", 2.0**8, CLIPPED),
        ("student", "32-true", {}),
        ("student", "bf16-mixed", CLIPPED),
        ("student", 2.0**8, CLIPPED),
    ],
    ids=str,
)
def test_a_fused_step_is_the_step_of_adam(teacher, kind, precision, options):
    expected, trainer = trained(kind, teacher, PLAIN, precision, **options)
    found, fused = trained(kind, teacher, FUSED, precision, **options)
    assert fused.optimizers[0].defaults["fused"]
    assert fused.global_step == trainer.global_step == 1
    # Adam's step knows no scale of the gradient, its first moment does.
    moments = [t.optimizers[0].state for t in (trainer, fused)]
    means = [torch.cat([m["exp_avg"].flatten() for m in each.values()]) for each in moments]
    torch.testing.assert_close(means[1], means[0], rtol=1e-4, atol=1e-9)
    if "clip" in options:
        assert float(means[1].norm()) == pytest.approx(0.1 * 0.05, rel=1e-3)
    for name, value in parameters(expected).items():
        torch.testing.assert_close(parameters(found)[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [pytest.param(None, marks=pytest.mark.slow), 0.05])
def test_an_overflow_skips_a_fused_step_and_the_rotations(teacher, clip):
    start, _ = trained("student", teacher, FUSED, "32-true", batches=0)
    module, trainer = trained("student", teacher, FUSED, 2.0**40, batches=1, clip=clip)
    assert same(parameters(module), parameters(start))
    assert not trainer.optimizers[1].state
    assert trainer.precision_plugin.scaler.get_scale() == 2.0**39


@pytest.mark.slow
def test_a_resumed_fused_run_ends_bit_for_bit_as_an_undisturbed_one(tiny_ffpp, teacher, tmp_path):
    whole = make("student", teacher, "epoch", optimizer=FUSED)
    expected = ended(whole, fit(tiny_ffpp, whole, tmp_path / "whole"))
    stop = Interruption(tmp_path / "killed" / "checkpoints" / "last.ckpt")
    module = make("student", teacher, "epoch", optimizer=FUSED)
    with pytest.raises(Interrupted):
        fit(tiny_ffpp, module, tmp_path / "killed", callbacks=[stop])
    module = make("student", teacher, "epoch", optimizer=FUSED)
    found = ended(module, fit(tiny_ffpp, module, tmp_path / "killed", resume=True))
    assert found[2:] == expected[2:]
    assert same(found[0], expected[0])
    assert same(found[1], expected[1])


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--model.optimizer.foreach=true", "`fused` and `foreach` cannot be `True` together"),
        ("--model.optimizer.lr=-1", "Invalid learning rate: -1"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_one_line(tiny_ffpp, tmp_path, capsys, option, said):
    given = [f"--config={ROOT}/experiments/demo_vanilla.yaml", f"--data.root={tiny_ffpp}"]
    given += [f"--runs={tmp_path}", *SMALL, *TINY_STUDENT, "--model.optimizer.fused=true"]
    assert main(["fit", *given, option]) == 2
    error = capsys.readouterr().err
    assert f"tokd: --model.optimizer: {said}" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
