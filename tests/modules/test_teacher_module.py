from functools import partial

import pytest
import torch
from small import NETWORK, SIZE, Images, quiet, same, sgd, snapshot, teacher_module

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.modules.checkpoint import load_teacher, read_checkpoint


def trained(**options):
    module = teacher_module(optimizer=sgd, **options)
    start = snapshot(module)
    trainer = quiet()
    trainer.fit(module, datamodule=Images(batches=3))
    return module, start, trainer


def test_projectors_learn_and_leave_the_teacher_as_it_is_without_them():
    with_them, start, _ = trained()
    without, _, _ = trained(projectors=False)
    ours, theirs = snapshot(with_them.teacher), snapshot(without.teacher)
    assert same(ours, theirs)
    for part in ("teacher.", "projectors.rgb.", "projectors.frequency.", "auxiliary."):
        end = snapshot(with_them, part)
        weights = [name for name in end if name.endswith("weight")]
        assert weights
        assert not any(torch.equal(end[name], start[name]) for name in weights), part


def test_the_projectors_come_out_of_the_teacher_s_checkpoint(teacher):
    state = read_checkpoint(teacher, "teacher")["state_dict"]
    kept = load_teacher(teacher)
    assert kept.projectors
    assert all(torch.equal(v, state[f"projectors.{k}"]) for k, v in kept.projectors.items())


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = teacher_module(seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert same(snapshot(first), snapshot(teacher_module(seed=3)))
    assert not same(snapshot(first), snapshot(teacher_module(seed=4)))


def test_the_header_rebuilds_the_teacher_and_says_what_it_was_fed(teacher):
    header = torch.load(teacher, weights_only=True)["tokd"]
    assert header == {
        "kind": "teacher",
        "network": {
            "backbone": NETWORK,
            "pretrained": False,
            "cutoff": 0.33,
            "rfam": "spatial",
            "num_classes": 2,
            "branches": "both",
        },
        "mean": 0.5,
        "std": 0.5,
        "fold": None,
        "input_size": SIZE,
        "data": "noise-c0",
        "projectors": {
            "channels": 96,
            "width": 16,
            "kernel": 1,
            "norm": "each",
            "branches": ["rgb", "frequency"],
        },
    }
    module = teacher_module(**{k: header["network"][k] for k in ("backbone", "cutoff", "rfam")})
    module.load_state_dict(torch.load(teacher, weights_only=True)["state_dict"])
    image = torch.randn(2, 3, SIZE, SIZE)
    rebuilt = load_teacher(teacher).network
    assert isinstance(rebuilt, DualBranchTeacher)
    assert same(snapshot(rebuilt), snapshot(module.teacher))
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.eval()(image).logits, module.eval()(image))


def test_a_teacher_without_projectors_says_so(tmp_path):
    _, _, trainer = trained(projectors=False)
    trainer.save_checkpoint(tmp_path / "t.ckpt")
    kept = load_teacher(tmp_path / "t.ckpt")
    assert kept.projectors is None
    assert kept.header["projectors"] is None


def test_the_scheduler_moves_per_epoch_or_per_batch():
    for interval, rate in (("epoch", 0.05 / 2**2), ("step", 0.05 / 2**4)):
        module = teacher_module(optimizer=sgd, projectors=False, interval=interval)
        trainer = quiet(max_epochs=2)
        trainer.fit(module, datamodule=Images(batches=2))
        assert trainer.global_step == 4
        assert trainer.optimizers[0].param_groups[0]["lr"] == rate


def test_a_schedule_shorter_than_the_run_is_refused_before_the_first_step():
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=3)
    trainer = quiet(max_epochs=2)
    with pytest.raises(TokdError, match="lr_scheduler ends after 3 steps but this run has 4"):
        trainer.fit(
            teacher_module(lr_scheduler=cycle, interval="step", projectors=False),
            datamodule=Images(batches=2),
        )
    assert trainer.global_step == 0
