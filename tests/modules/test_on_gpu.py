"""Students on a CUDA device: their steps are the CPU's, and nothing in them waits."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from small import (
    Images,
    Statistics,
    adam,
    distill_module,
    quiet,
    same,
    sgd,
    snapshot,
    teacher_module,
)
from test_every_method import CASES, SOONER
from test_resume import Interrupted, Interruption, ended, fit, make

from tokd_lightning.distillation import ADD, RotationOptimizer

pytestmark = pytest.mark.gpu

GPU = {"accelerator": "gpu"}
slow = partial(sgd, lr=0.01)
LEARNERS = {
    "tokd": {},
    "tokd channels": {"layout": "channels", "dim": 48},
    "tokd pcgrad": {"conflict": "pcgrad"},
    "add": ADD,
    **{name: CASES[name] for name in (*SOONER, "vid")},
}


@pytest.fixture(autouse=True)
def _as_on_the_cpu():
    """No TF32 in convolutions; whatever a test sets is put back."""
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    yield
    conv.fp32_precision = before
    torch.use_deterministic_algorithms(False)
    torch.cuda.set_sync_debug_mode("default")


def stepped(teacher, distiller, batches=1, optimizer=slow, compile=False, clip=None, **trainer):
    """Train on noise with BatchNorm's statistics at rest; return the module on the CPU."""
    module = distill_module(
        teacher,
        distiller,
        optimizer=optimizer,
        rotation_optimizer=partial(RotationOptimizer, lr=1e-3),
        compile=compile,
        clip=clip,
    )
    double = trainer.get("precision") == "64-true"
    images = Images(batches, torch.float64 if double else torch.float32)
    trainer = quiet(callbacks=[Statistics(), *trainer.pop("callbacks", ())], **trainer)
    trainer.fit(module, datamodule=images)
    return module.cpu(), trainer


def moved(module, start):
    """By how much student, rotations and what else is trained have moved, a vector each."""
    steps = {"student": [], "rotation": [], "method": []}
    old = dict(start.named_parameters())
    for name, parameter in module.named_parameters():
        part = "student" if name.startswith("student.") else "method"
        part = "rotation" if name.startswith("distiller.rotation.") else part
        steps[part].append((parameter - old[name]).detach().flatten())
    return {part: torch.cat(each) for part, each in steps.items() if each}


@pytest.mark.parametrize(
    ("precision", "tolerances"),
    [
        ("64-true", {"student": 1e-7, "rotation": 1e-7, "method": 1e-7}),
        # VID's variances move by little more than their rounding.
        ("32-true", {"student": 5e-3, "rotation": 5e-3, "method": 5e-2}),
    ],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_on_a_gpu_is_the_step_on_the_cpu(teacher, name, precision, tolerances):
    method = LEARNERS[name]
    start, _ = stepped(teacher, method, limit_train_batches=0, precision=precision)
    expected = moved(stepped(teacher, method, precision=precision)[0], start)
    found = moved(stepped(teacher, method, precision=precision, **GPU)[0], start)
    assert float(expected["student"].norm()) > 0
    for part, step in expected.items():
        apart = float((found[part] - step).norm() / step.norm().clamp_min(1e-30))
        assert apart < tolerances[part], f"{part}: {apart}"


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_method_learns_in_mixed_precision(teacher, name, precision):
    start, _ = stepped(teacher, LEARNERS[name], limit_train_batches=0)
    module, trainer = stepped(teacher, LEARNERS[name], 12, adam, precision=precision, **GPU)
    scaler = trainer.precision_plugin.scaler
    assert (scaler is not None and scaler.is_enabled()) == (precision == "16-mixed")
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert all(bool(value.isfinite().all()) for value in snapshot(module).values())
    assert float(moved(module, start)["student"].norm()) > 0
    if module.distiller.rotation is not None and module.distiller.rotation.learned:
        taken = [int(state["steps"]) for state in trainer.optimizers[1].state.values()]
        lowered = 0 if scaler is None else 16 - int(torch.tensor(scaler.get_scale()).log2())
        assert taken == [12 - lowered] * 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_takes_the_steps_of_float32(teacher, precision):
    start, _ = stepped(teacher, {}, limit_train_batches=0)
    expected = moved(stepped(teacher, {}, **GPU)[0], start)
    # The usual first loss scale is so high that it would leave the only step out.
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**8)
    how = {"precision": precision}
    if precision == "16-mixed":
        how = {"plugins": MixedPrecision("16-mixed", "cuda", scaler)}
    mixed = moved(stepped(teacher, {}, **how, **GPU)[0], start)
    for part, tolerance in (("student", 0.1), ("method", 0.05), ("rotation", 0.2)):
        apart = (mixed[part] - expected[part]).norm() / expected[part].norm()
        assert float(apart) < tolerance, part


class NothingWaits(Callback):
    """Lets everything raise that makes the host wait, from the second batch to the last."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("name", LEARNERS)
def test_the_host_never_waits_for_the_device(teacher, name, precision):
    watch = {"callbacks": [NothingWaits()], "precision": precision, "log_every_n_steps": 1}
    stepped(teacher, LEARNERS[name], batches=4, **watch, **GPU)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_a_fused_adam_steps_as_adam_without_waiting(teacher, precision):
    start, _ = stepped(teacher, {}, limit_train_batches=0)
    moments = []
    for fused in (False, True):
        optimizer = partial(torch.optim.Adam, lr=1e-3, fused=fused)
        watch = {"callbacks": [NothingWaits()] if fused else [], "precision": precision}
        module, trainer = stepped(teacher, {}, 4, optimizer, clip=0.05, **watch, **GPU)
        assert float(moved(module, start)["student"].norm()) > 0
        state = trainer.optimizers[0].state.values()
        moments.append(torch.cat([s["exp_avg"].flatten().cpu() for s in state]))
    assert float((moments[1] - moments[0]).norm() / moments[0].norm()) < 0.1


def test_compiled_networks_make_the_step_of_eager_ones(teacher):
    start, _ = stepped(teacher, {}, limit_train_batches=0, precision="64-true")
    expected = moved(stepped(teacher, {}, precision="64-true", **GPU)[0], start)
    found = moved(stepped(teacher, {}, precision="64-true", compile=True, **GPU)[0], start)
    for part, step in expected.items():
        assert float((found[part] - step).norm() / step.norm()) < 1e-7, part


def test_a_teacher_learns_without_waiting():
    images = Images(4)
    images.class_weights = torch.tensor([2.0, 0.5])
    trainer = quiet(callbacks=[NothingWaits()], precision="bf16-mixed", **GPU)
    trainer.fit(teacher_module(), datamodule=images)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_resumed_deterministic_run_ends_bit_for_bit_as_an_undisturbed_one(
    tiny_ffpp, teacher, tmp_path, kind
):
    options = {"deterministic": True, **GPU}
    whole = make(kind, teacher, "epoch")
    expected = ended(whole, fit(tiny_ffpp, whole, tmp_path / "whole", **options))
    again = make(kind, teacher, "epoch")
    assert same(ended(again, fit(tiny_ffpp, again, tmp_path / "again", **options))[0], expected[0])

    folder = tmp_path / "killed"
    stop = Interruption(folder / "checkpoints" / "last.ckpt")
    with pytest.raises(Interrupted):
        fit(tiny_ffpp, make(kind, teacher, "epoch"), folder, callbacks=[stop], **options)
    module = make(kind, teacher, "epoch")
    weights, moments, *rest = ended(module, fit(tiny_ffpp, module, folder, resume=True, **options))
    assert rest == list(expected[2:])
    assert same(weights, expected[0])
    assert same(moments, expected[1])
