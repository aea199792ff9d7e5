"""Checkpoints of tuned networks: what they hold, what readers restore, what is refused."""

import shutil

import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback
from small import Images, distill_module, fitted, quiet, same, snapshot, teacher_module

from tokd_lightning.errors import TokdError
from tokd_lightning.models.weight_file import load_weights
from tokd_lightning.modules.checkpoint import HEADER, load_teacher, read_checkpoint
from tokd_lightning.modules.trained import TrainedModule


def tuned(path, tune="norms", epochs=1, resume=None, **options):
    """Fit a teacher of one branch; return the module, its start and its trainer."""
    options = {"branches": "rgb", "tune": tune, **options}
    module = teacher_module(**options)
    start = snapshot(module)
    trainer = quiet(max_epochs=epochs)
    given = {"ckpt_path": resume, "weights_only": True} if resume else {}
    trainer.fit(module, datamodule=Images(), **given)
    trainer.save_checkpoint(path)
    return module, start, trainer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of timm's weights."""
    path = tmp_path_factory.mktemp("weights") / "genuine.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def norms(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("norms") / "best.ckpt"
    return path, *tuned(path, pretrained=str(weights))


def test_the_frozen_part_keeps_its_weights_statistics_and_no_optimizer_state(norms):
    _, module, start, trainer = norms
    end = snapshot(module)
    frozen = [f"teacher.{name}" for name in module.tuning.frozen_entries()]
    assert all(torch.equal(end[name], start[name]) for name in frozen)
    moved = {name for name in end if not torch.equal(end[name], start[name])}
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert moved >= {name for name in trained if not name.endswith("projectors.rgb.0.bias")}
    assert any(name.endswith("running_mean") for name in moved)
    assert all(p.grad is None for name, p in module.named_parameters() if name not in trained)
    assert len(trainer.optimizers[0].state) == len(trained)


def test_a_checkpoint_holds_what_was_trained_and_names_the_rest(norms, weights):
    path, module, *_ = norms
    saved = torch.load(path, weights_only=True)
    frozen = {f"teacher.{name}" for name in module.tuning.frozen_entries()}
    assert saved["state_dict"].keys() == module.state_dict().keys() - frozen
    header = saved[HEADER]["frozen"]
    assert (header["pretrained"], header["seed"]) == (str(weights), 0)
    assert header["values"] == sum(module.state_dict()[name].numel() for name in frozen)
    convolutions = [v for k, v in saved["state_dict"].items() if v.ndim == 4 and "rgb.stages" in k]
    assert not convolutions


@pytest.mark.parametrize(
    "tune", ["norms", *(pytest.param(t, marks=pytest.mark.slow) for t in ("all", "head"))]
)
def test_all_readers_restore_the_whole(tune, tmp_path):
    path = tmp_path / "best.ckpt"
    module, *_ = tuned(path, tune)
    expected = snapshot(module)
    assert same(read_checkpoint(path, "teacher")["state_dict"], expected)
    x = torch.randn(2, 3, 64, 64)
    logits = module.eval()(x)
    assert torch.equal(TrainedModule(path).eval()(x), logits)
    torch.testing.assert_close(load_teacher(path).network.eval()(x).logits, logits)
    student, _ = fitted(path, {"branches": "rgb", "teacher_projectors": "with_teacher"}, batches=1)
    assert student.teacher_path == str(path)


@pytest.mark.slow
def test_a_tuned_student_is_restored_from_its_seed(teacher, tmp_path):
    module, trainer = fitted(teacher, seed=5, tune="norms", batches=1)
    path = tmp_path / "best.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert not [k for k in saved if k.startswith("student.backbone") and saved[k].ndim == 4]
    assert any(key.startswith("distiller.") for key in saved)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(TrainedModule(path).eval()(x), module.eval()(x))
    again = distill_module(None, seed=5, tune="norms")
    quiet().test(again, datamodule=Images(), ckpt_path=path, weights_only=True, verbose=False)
    assert same(snapshot(again, "student."), snapshot(module, "student."))


def test_a_resumed_tuned_run_ends_bit_for_bit_as_an_undisturbed_one(tmp_path, weights):
    options = {"pretrained": str(weights)}
    whole, *_ = tuned(tmp_path / "whole.ckpt", epochs=2, **options)
    tuned(tmp_path / "half.ckpt", **options)
    resumed, *_ = tuned(tmp_path / "end.ckpt", epochs=2, resume=tmp_path / "half.ckpt", **options)
    assert same(snapshot(resumed), snapshot(whole))


def test_other_frozen_weights_are_refused_in_one_line(norms, weights, tmp_path):
    path, *_ = norms
    saved = torch.load(path, weights_only=True)
    moved = tmp_path / "run" / "best.ckpt"
    moved.parent.mkdir()
    gone = tmp_path / "gone" / weights.name
    saved[HEADER]["frozen"]["pretrained"] = str(gone)
    torch.save(saved, moved)
    with pytest.raises(TokdError, match=r"in .*genuine.pth, is missing: put that file back"):
        read_checkpoint(moved)
    shutil.copy(weights, moved.parent)
    assert same(read_checkpoint(moved)["state_dict"], read_checkpoint(path)["state_dict"])
    torch.save(timm.create_model("test_resnet").state_dict(), moved.parent / weights.name)
    said = r"holds only what was trained, and the rest .* is not what it was trained with \(hash"
    with pytest.raises(TokdError, match=said):
        read_checkpoint(moved)
    assert read_checkpoint(moved, whole=False)[HEADER]["frozen"]["values"]
    saved[HEADER]["frozen"] |= {"pretrained": False, "seed": 3}
    torch.save(saved, moved)
    with pytest.raises(TokdError, match="random weights of test_resnet from seed 3, is not what"):
        TrainedModule(moved)
    with pytest.raises(TokdError, match="is not what it was trained with"):
        tuned(tmp_path / "x.ckpt", epochs=2, resume=path, pretrained=False)


def test_pretrained_from_a_checkpoint_without_its_frozen_part_is_refused(norms):
    path, *_ = norms
    with pytest.raises(TokdError, match="holds only what was trained of its network"):
        load_weights(timm.create_model("test_resnet", num_classes=0), str(path))


@pytest.mark.slow
def test_random_frozen_weights_are_announced(tmp_path, recwarn):
    tuned(tmp_path / "a.ckpt", "head")
    assert [w for w in recwarn if "freezes random weights" in str(w.message)]


@pytest.mark.slow
def test_warm_up_leaves_frozen_parts_in_eval_mode(teacher):
    module, _ = fitted(teacher, tune="norms", warm_up_epochs=1, trainer=quiet(max_epochs=2))
    inside = [m for _, m in module.student.backbone.named_modules() if m.training]
    assert inside
    assert all(isinstance(m, torch.nn.BatchNorm2d) for m in inside)


# Adapters


class Saved(Callback):
    """Saves a checkpoint at the end of the epoch, while the adapters are there."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


@pytest.mark.slow
def test_adapters_are_resumed_and_added_to_the_weights_by_readers(tmp_path):
    pytest.importorskip("peft", reason="LoRA needs peft")
    options = {"tune": "lora(2)", "backbone": "test_convnext3"}
    whole, start, _ = tuned(tmp_path / "whole.ckpt", epochs=2, **options)
    half, *_ = tuned(tmp_path / "half.ckpt", **options)
    # The fit has ended, and its adapters are part of the weights.
    assert snapshot(half).keys() == start.keys()
    path = tmp_path / "mid.ckpt"
    module = teacher_module(branches="rgb", **options)
    trainer = quiet(callbacks=[Saved(path)])
    trainer.fit(module, datamodule=Images())
    saved = torch.load(path, weights_only=True)["state_dict"]
    backbone = [key for key in saved if key.startswith("teacher.rgb")]
    assert backbone
    assert all(".lora_" in key for key in backbone)
    assert same(read_checkpoint(path)["state_dict"], snapshot(half))
    resumed, *_ = tuned(tmp_path / "end.ckpt", epochs=2, resume=path, **options)
    assert same(snapshot(resumed), snapshot(whole))
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(TrainedModule(path).eval()(x), half.eval()(x))
