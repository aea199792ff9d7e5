"""Nothing in a training step reads a value back: on a GPU the host would wait for it each time.

What Python reads from a tensor goes through one operator, on any device.
"""

import traceback

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import Images, distill_module, quiet, sgd, teacher_module
from test_every_method import CASES
from torch.utils._python_dispatch import TorchDispatchMode

from tokd_lightning.distillation import ADD

INDEXED = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
}
READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
}
METHODS = {
    "tokd": {},
    "tokd pcgrad": {"conflict": "pcgrad"},
    "tokd channels": {"layout": "channels", "dim": 48},
    "add": ADD,
    "vid rotated": CASES["vid rotated"],
    "sp": CASES["sp"],
}


class Reads(TorchDispatchMode):
    """Notes where values are read from tensors."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        masked = operator in INDEXED and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if operator in READS or masked:
            frames = traceback.extract_stack()[:-1]
            ours = [f for f in frames if "tokd_lightning" in f.filename] or frames
            self.places.append(f"{operator}: {ours[-1].filename}:{ours[-1].lineno}")
        return operator(*args, **(kwargs or {}))


class Watched(Callback):
    """Watches the second step."""

    def __init__(self):
        self.reads = Reads()
        self.steps = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1:
            self.reads.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 1:
            self.reads.__exit__(None, None, None)
            self.steps += 1


def watched(module, **options):
    seen = Watched()
    images = Images(3)
    images.class_weights = options.pop("class_weights", None)
    quiet(callbacks=[seen], log_every_n_steps=1, **options).fit(module, datamodule=images)
    assert seen.steps == 1
    return seen.reads.places


def plain(parameters):
    """An optimizer that reads nothing: Adam's own counters are torch's affair."""
    return sgd(parameters)


SOONER = ("tokd", "add")


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "name", [n if n in SOONER else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
)
def test_a_step_of_a_student_reads_nothing_back(teacher, name):
    module = distill_module(teacher, METHODS[name], optimizer=plain, interval="step", clip=1.0)
    assert watched(module) == []


def test_a_step_of_a_teacher_reads_nothing_back():
    weights = torch.tensor([2.0, 0.5])
    module = teacher_module(optimizer=plain, clip=1.0)
    assert watched(module, class_weights=weights, precision="bf16-mixed") == []


def test_a_fused_adam_reads_nothing_back_either(teacher):
    fused = [torch.optim.Adam([torch.zeros(2)], fused=fused) for fused in (True, False)]
    found = []
    for optimizer in fused:
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        with Reads() as reads:
            optimizer.step()
        found.append(len(reads.places))
    assert found == [0, 1]


def test_a_read_would_be_seen():
    with Reads() as reads:
        float(torch.ones(()))
        bool(torch.ones(()) > 0)
        torch.arange(3)[torch.tensor([True, False, True])]
    assert len(reads.places) == 3
