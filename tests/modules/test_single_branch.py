from functools import partial

import pytest
import torch
from small import SIZE, Images, distill_module, quiet, same, sgd, snapshot, teacher_module

from tokd_lightning.distillation import ADD, TOKD, FitNet
from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.modules.checkpoint import load_teacher, read_checkpoint


def trained(branches, path, **options):
    """Train a teacher for two batches and save it; return its module."""
    module = teacher_module(optimizer=sgd, branches=branches, **options)
    trainer = quiet()
    trainer.fit(module, datamodule=Images(batches=2))
    trainer.save_checkpoint(path)
    return module


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return branch -> checkpoint of a teacher of that branch alone."""
    folder = tmp_path_factory.mktemp("alone")
    for branch in ("rgb", "frequency"):
        trained(branch, folder / f"{branch}.ckpt")
    return {branch: folder / f"{branch}.ckpt" for branch in ("rgb", "frequency")}


@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_a_teacher_of_one_branch_trains_with_its_one_projector_and_comes_back(branch, tmp_path):
    module = trained(branch, tmp_path / "t.ckpt")
    start, end = snapshot(teacher_module(optimizer=sgd, branches=branch)), snapshot(module)
    weights = [name for name in end if name.endswith("weight")]
    for part in (
        f"teacher.{branch}.",
        "teacher.classifier.",
        f"projectors.{branch}.",
        "auxiliary.",
    ):
        moved = [not torch.equal(end[k], start[k]) for k in weights if k.startswith(part)]
        assert moved
        assert all(moved), part
    kept = load_teacher(tmp_path / "t.ckpt")
    assert kept.network.branches == (branch,)
    assert kept.header["network"]["branches"] == branch
    assert {k.split(".")[0] for k in kept.projectors} == {branch}
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        logits = kept.network.eval()(image).logits
        torch.testing.assert_close(logits, module.eval()(image))


def test_a_checkpoint_from_before_there_were_branches_is_of_both(teacher, tmp_path):
    checkpoint = torch.load(teacher, weights_only=True)
    del checkpoint["tokd"]["network"]["branches"], checkpoint["tokd"]["projectors"]["branches"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    old, new = load_teacher(tmp_path / "old.ckpt"), load_teacher(teacher)
    assert old.network.spec == new.network.spec
    assert same(snapshot(old.network), snapshot(new.network))
    assert old.projectors.keys() == new.projectors.keys()
    header = read_checkpoint(tmp_path / "old.ckpt", "teacher")["tokd"]
    assert header["network"] == DualBranchTeacher(**header["network"]).spec


@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_tokd_distils_the_branch_there_is_with_the_projector_it_was_trained_with(alone, branch):
    module = distill_module(alone[branch], {"branches": branch})
    quiet().fit(module, datamodule=Images())
    state = snapshot(module.distiller)
    expected = load_teacher(alone[branch]).projectors
    kept = {k.removeprefix("teacher_project."): v for k, v in state.items() if "teacher_pro" in k}
    assert same(kept, expected)


def test_tokd_takes_one_branch_of_a_teacher_of_both(teacher):
    module = distill_module(teacher, {"branches": "frequency"})
    quiet().fit(module, datamodule=Images())
    both = load_teacher(teacher).projectors
    for name, value in snapshot(module.distiller, "teacher_project.").items():
        assert torch.equal(value, both[name.removeprefix("teacher_project.")])


@pytest.mark.parametrize("method", [partial(TOKD, dim=64), FitNet, ADD])
@pytest.mark.parametrize("branches", ["frequency", "both"])
def test_a_method_that_reads_a_missing_branch_is_refused_in_one_line(alone, method, branches):
    module = distill_module(alone["rgb"], partial(method, branches=branches))
    with pytest.raises(TokdError, match="reads the frequency branch, but this teacher has only"):
        quiet().fit(module, datamodule=Images())


def test_a_missing_teacher_of_one_branch_is_answered_with_the_file_that_makes_it(tmp_path):
    for name, file in (("rgb", "ffpp_add_teacher"), ("both", "ffpp_teacher")):
        path = tmp_path / f"ffpp-c23_teacher-{name}_s0/checkpoints/best.ckpt"
        with pytest.raises(TokdError, match=f"experiments/{file}.yaml"):
            load_teacher(path)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("branch", ["rgb", "frequency"])
def test_add_distils_from_a_teacher_of_one_branch_and_resumes(alone, branch, tmp_path):
    add = partial(ADD, branches=branch, frequency_weights=(1, 1, 1, 1))
    make = partial(distill_module, alone[branch], add)
    whole = make()
    quiet(max_epochs=2).fit(whole, datamodule=Images())
    assert whole.distiller.step == 4
    assert 4 in whole.distiller.taps
    half, trainer = make(), quiet(max_epochs=1)
    trainer.fit(half, datamodule=Images())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, last = make(), {"ckpt_path": tmp_path / "half.ckpt", "weights_only": True}
    quiet(max_epochs=2).fit(resumed, datamodule=Images(), **last)
    assert same(snapshot(resumed), snapshot(whole))


def test_networks_keep_early_maps_only_for_methods_that_read_them(alone):
    for weights, strides in (((1, 1, 1, 1), [4, 8, 16, 32]), ((0, 1, 1, 1), [8, 16, 32])):
        module = distill_module(alone["rgb"], partial(ADD, frequency_weights=weights))
        quiet(limit_train_batches=1).fit(module, datamodule=Images())
        image = torch.zeros(1, 3, SIZE, SIZE)
        assert list(module.student(image).maps) == strides
        assert list(module._teacher(image).rgb) == strides


@pytest.mark.thinned(2)
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_one_cycle_without_a_length_lasts_the_run(alone, interval):
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, pct_start=0.5)
    options = {"lr_scheduler": cycle, "interval": interval}
    for make in (
        partial(teacher_module, branches="rgb", projectors=False),
        partial(distill_module, alone["rgb"], ADD),
    ):
        module, trainer = make(**options), quiet(max_epochs=4)
        trainer.fit(module, datamodule=Images(batches=3))
        (scheduler,) = (config.scheduler for config in trainer.lr_scheduler_configs)
        assert scheduler.total_steps == (12 if interval == "step" else 4)


def test_a_scheduler_that_fails_otherwise_still_says_so(alone):
    wrong = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, pct_start=7)
    with pytest.raises(TokdError, match=r"--model\.lr_scheduler: .*pct_start"):
        quiet().fit(
            teacher_module(lr_scheduler=partial(wrong, total_steps=9), projectors=False),
            datamodule=Images(),
        )
