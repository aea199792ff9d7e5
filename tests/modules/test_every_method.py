"""Each method from the first step to the test of the student alone."""

from functools import partial

import pytest
import torch
from small import Images, distill_module, fitted, half, quiet, same, snapshot

from tokd_lightning.distillation import (
    PKT,
    TOKD,
    VID,
    AttentionTransfer,
    FitNet,
    Hinton,
    SimilarityPreserving,
)

ROTATED = {"dim": 64, "rotation": "learned"}
CASES = {
    "hinton": Hinton,
    "at": AttentionTransfer,
    "at rgb": partial(AttentionTransfer, branches="rgb"),
    "pkt": PKT,
    "pkt gather": partial(PKT, gather=True),
    "vid": VID,
    "vid frequency": partial(VID, branches="frequency"),
    "vid rotated": partial(VID, **ROTATED),
    "sp": SimilarityPreserving,
    "fitnet": FitNet,
    "fitnet mean": partial(FitNet, branch_reduce="mean"),
    "fitnet rotated": partial(FitNet, **ROTATED),
    "fitnet frozen": partial(FitNet, dim=64, rotation="frozen_random"),
    "fitnet pcgrad": partial(FitNet, conflict="pcgrad"),
}
SOONER = ("hinton", "at", "pkt", "vid rotated", "sp", "fitnet")
PROJECTED = {
    "fitnet pcgrad": partial(FitNet, conflict="pcgrad"),
    "tokd pcgrad": partial(TOKD, width=16, dim=64, conflict="pcgrad"),
}
HEADLESS = {"hinton", "at", "at rgb", "pkt", "pkt gather", "sp"}


def start(teacher, method):
    module = distill_module(teacher, method)
    quiet(limit_train_batches=0).fit(module, datamodule=Images())
    return module


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", CASES)
def test_one_step_moves_student_and_heads(teacher, name):
    before = snapshot(start(teacher, CASES[name]))
    module, trainer = fitted(teacher, CASES[name], batches=1)
    after = snapshot(module)
    assert all(bool(value.isfinite().all()) for value in after.values())
    parameters = {n for n, p in module.named_parameters() if p.requires_grad}
    heads = {n for n in parameters if n.startswith("distiller.heads.")}
    assert bool(heads) == (name not in HEADLESS)
    assert parameters - heads == {n for n in parameters if n.startswith("student.")}
    moved = {n for n in parameters if not torch.equal(before[n], after[n])}
    assert {n for n in parameters if n.startswith("student.backbone")} & moved
    assert heads <= moved
    turned = [n for n in after if "rotation" in n and not torch.equal(before[n], after[n])]
    assert len(turned) == (2 if "rotated" in name else 0)
    assert len(trainer.optimizers) == (2 if "rotated" in name else 1)
    logged = trainer.callback_metrics
    branches = [k for k in ("train/rgb", "train/frequency", "train/kd") if k in logged]
    torch.testing.assert_close(
        logged["train/loss"], logged["train/ce"] + sum(logged[k] for k in branches)
    )
    assert len([k for k in logged if k.startswith("maps/distance_")]) == len(branches)


@pytest.mark.thinned(6)
@pytest.mark.parametrize(
    "name", [n if n in SOONER else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_a_resumed_run_ends_as_an_undisturbed_one_and_a_test_needs_the_student_alone(
    teacher, tmp_path, name
):
    whole, trainer = fitted(teacher, CASES[name], trainer=quiet(max_epochs=2))
    expected = trainer.test(whole, datamodule=Images(), verbose=False)
    _, trainer = fitted(teacher, CASES[name], trainer=quiet(max_epochs=1))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    resumed = distill_module(teacher, CASES[name])
    last = {"ckpt_path": tmp_path / "c.ckpt", "weights_only": True}
    trainer = quiet(max_epochs=2)
    trainer.fit(resumed, datamodule=Images(), **last)
    assert same(snapshot(resumed), snapshot(whole))
    trainer.save_checkpoint(tmp_path / "d.ckpt")

    alone = distill_module(tmp_path / "missing.ckpt", CASES[name], seed=1)
    last["ckpt_path"] = tmp_path / "d.ckpt"
    found = quiet().test(alone, datamodule=Images(), verbose=False, **last)
    assert found == expected
    assert alone.distiller is None
    assert all(key.startswith("student.") for key in alone.state_dict())


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", [*SOONER, *PROJECTED])
def test_a_method_learns_in_float16(teacher, name):
    method = PROJECTED.get(name) or CASES[name]
    trainer = quiet(**half(2.0**8))
    before = snapshot(start(teacher, method), "student.")
    module, _ = fitted(teacher, method, batches=1, trainer=trainer)
    after = snapshot(module, "student.")
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert not torch.equal(before["student.classifier.weight"], after["student.classifier.weight"])
    assert all(p.dtype == torch.float32 for p in module.parameters())
