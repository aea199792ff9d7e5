"""Compiled networks: the same steps, names and checkpoints, and few compilations."""

import copy
from functools import partial

import pytest
import torch
from small import Images, Statistics, distill_module, quiet, same, sgd, snapshot, teacher_module
from test_resume import Interrupted, Interruption, ended, fit, make
from torch.utils.data import DataLoader

from tokd_lightning.distillation import RotationOptimizer, Vanilla
from tokd_lightning.errors import TokdError
from tokd_lightning.modules import compile as compile_module
from tokd_lightning.runs.identity import differences
from tokd_lightning.training.console import mistakes_in_one_line

pytestmark = pytest.mark.usefixtures("forgotten")
steady = partial(sgd, lr=0.01)


def stepped(module, batches=1, **trainer):
    trainer = quiet(callbacks=[Statistics()], **trainer)
    trainer.fit(module, datamodule=Images(batches))
    return module, trainer


def student(teacher, distiller=None, **options):
    return distill_module(
        teacher,
        distiller,
        optimizer=steady,
        rotation_optimizer=partial(RotationOptimizer, lr=1e-3),
        **options,
    )


@pytest.mark.slow
def test_student_and_frozen_teacher_are_compiled_and_make_the_same_step(
    teacher, compiled, tmp_path
):
    expected, _ = stepped(student(teacher))
    assert not compiled
    module, trainer = stepped(student(teacher, compile=True))
    assert len(compiled) == 2  # the student, the frozen teacher; each in one piece
    assert same(snapshot(module), snapshot(expected))
    assert float(module.distiller.rotation.drift()["distance_rgb"]) > 0
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    state = torch.load(tmp_path / "c.ckpt", weights_only=True)["state_dict"]
    assert same({k: v for k, v in state.items() if isinstance(v, torch.Tensor)}, {
        k: v for k, v in snapshot(expected).items() if isinstance(v, torch.Tensor)
    })  # fmt: skip
    assert copy.deepcopy(module.student)._compiled_call_impl is None


@pytest.mark.slow
def test_what_is_to_be_compiled_already_is_left():
    layer = torch.nn.Linear(2, 2)
    compile_module.compile_in_place(layer)
    first = layer._compiled_call_impl
    compile_module.compile_in_place(layer, torch.nn.Linear(2, 2))
    assert layer._compiled_call_impl is first


def test_a_test_compiles_nothing(compiled):
    module = student(None, Vanilla, compile=True)
    quiet().test(module, datamodule=Images(1), verbose=False)
    assert not compiled


def test_a_compiler_that_fails_is_one_line_that_says_what_to_do(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nin a long text")

    monkeypatch.setattr(compile_module, "BACKEND", backend)
    cause = r"failed \(No working C\+\+ compiler found\): leave --model.compile at false"
    with pytest.raises(TokdError, match=cause) as said, mistakes_in_one_line():
        stepped(student(None, Vanilla, compile=True))
    assert "\n" not in str(said.value)


def test_other_errors_of_a_step_stay_what_they_are():
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="size of tensor"), mistakes_in_one_line():
        torch.zeros(2) + torch.zeros(3)


@pytest.mark.parametrize("kind", ["DistillModule", "TeacherModule"])
def test_a_compiled_run_is_another_run_and_an_older_one_was_not_compiled(kind):
    def config(**options):
        block = {"class_path": f"tokd_lightning.modules.{kind}", "init_args": options}
        return {"model": block}

    assert differences(config(), config(compile=False)) == []
    assert differences(config(), config(compile=True)) == ["model.init_args.compile"]


class Uneven(Images):
    """Batches of another size per split, the last one smaller."""

    def loader(self, split):
        size = {"train": 6, "val": 4, "test": 5}[split]
        return DataLoader(self.samples(split)[:-1], batch_size=size)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_epochs_of_uneven_batches_compile_a_handful_of_times(teacher, compiled, kind):
    make = {"student": partial(student, teacher), "teacher": teacher_module}[kind]
    module, counts = make(compile=True), []
    for _ in range(2):
        trainer = quiet(max_epochs=2, limit_val_batches=1.0)
        trainer.fit(module, datamodule=Uneven(4))
        counts.append(len(compiled))
    assert counts[0] <= (5 if kind == "student" else 4)  # of two sizes, to train and to validate
    assert counts[1] == counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_inductor_makes_the_step_of_eager_torch(teacher, kind):
    make = {"student": partial(student, teacher), "teacher": partial(teacher_module, optimizer=sgd)}

    def parts(**options):
        trainer = quiet(callbacks=[Statistics()], precision="64-true")
        module = make[kind](**options).double()
        before = dict(copy.deepcopy(module).named_parameters())
        trainer.fit(module, datamodule=Images(1, torch.float64))
        moved = {name: p - before.get(name, 0) for name, p in module.named_parameters()}
        parts = ("teacher.", "projectors.", "student.", "distiller.project", "distiller.rotation")
        return {
            part: torch.cat([m.detach().flatten() for n, m in moved.items() if n.startswith(part)])
            for part in parts
            if any(name.startswith(part) for name in moved)
        }

    expected, found = parts(), parts(compile=True)
    for part, step in expected.items():
        assert float(step.norm()) > 0
        assert float((found[part] - step).norm() / step.norm()) < 1e-8, part


@pytest.mark.slow
def test_a_resumed_compiled_run_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_ffpp, teacher, tmp_path
):
    whole = make("student", teacher, "epoch", compile=True)
    expected = ended(whole, fit(tiny_ffpp, whole, tmp_path / "whole"))
    stop = Interruption(tmp_path / "killed" / "checkpoints" / "last.ckpt")
    torch._dynamo.reset()
    module = make("student", teacher, "epoch", compile=True)
    with pytest.raises(Interrupted):
        fit(tiny_ffpp, module, tmp_path / "killed", callbacks=[stop])
    torch._dynamo.reset()
    module = make("student", teacher, "epoch", compile=True)
    weights, moments, *rest = ended(
        module, fit(tiny_ffpp, module, tmp_path / "killed", resume=True)
    )
    assert rest == list(expected[2:])
    assert same(weights, expected[0])
    assert same(moments, expected[1])
