"""Every detector in parts of a batch, in bfloat16, compiled, and killed within an epoch."""

from functools import partial

import pytest
import torch
from small import BATCH, SIZE, Statistics, halved, quiet, same, sgd, snapshot
from test_detector_module import Annotated, module_of
from test_mid_epoch import assert_equal as assert_same_outcome
from test_mid_epoch import killed_again_and_again, outcome
from test_resume import fit
from torch.utils.data import DataLoader

from tokd_lightning.models.detectors import DETECTORS, RFM, F3Net, MultiAtt
from tokd_lightning.modules import DetectorModule

NAMES = list(DETECTORS)
SOON = ("spsl",)
ALL = [pytest.param(n, marks=() if n in SOON else pytest.mark.slow) for n in NAMES]
steady = partial(sgd, lr=0.01)


class Parts(Annotated):
    """Batches cut into parts, as a FrameDataModule does."""

    accumulate = 1

    def loader(self, split):
        return DataLoader(self.samples(split), batch_size=BATCH // self.accumulate)


def stepped(name, double=False, batches=1, **options):
    """Return the module after steps in which BatchNorm's statistics stay, and what moved."""
    precision = options.pop("precision", "64-true" if double else "32-true")
    if name == "multiatt":
        kind, no = DETECTORS[name], {"dropout": 0.0, "dropout_final": 0.0}
        make = partial(kind, "resnet18_thin", False, attentions=2, **no)
        module = DetectorModule(make, steady, halved, **options)
    elif name == "f3net":
        make = partial(F3Net, "resnet18_thin", False, size=SIZE, dropout=0.0)
        module = DetectorModule(make, steady, halved, **options)
    else:
        module = module_of(name, optimizer=steady, **options)
    module = module.double() if double else module
    before = {k: p.detach().clone() for k, p in module.detector.named_parameters()}
    trainer = quiet(callbacks=[Statistics()], precision=precision)
    data = Parts(batches, torch.float64 if double else torch.float32)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == batches
    found = {k: p.detach() - before[k] for k, p in module.detector.named_parameters()}
    return module, torch.cat([v.flatten() for v in found.values()])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n != "multiatt"])
def test_parts_of_a_batch_make_the_step_of_the_whole(name):
    """MultiAtt's centres move with every part: its RIL compares the samples of a batch."""
    whole, moved = stepped(name, double=True)
    assert float(moved.norm()) > 0
    parts, _ = stepped(name, double=True, accumulate=3)
    state = {k: v for k, v in snapshot(whole).items() if v.is_floating_point()}
    for key, value in state.items():
        torch.testing.assert_close(snapshot(parts)[key], value, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_takes_the_steps_of_float32(name):
    _, exact = stepped(name)
    module, mixed = stepped(name, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert bool(mixed.isfinite().all())
    # RFM erases where a gradient is largest, and rounding moves the place.
    least = 0.2 if name == "rfm" else 0.9
    assert float(torch.nn.functional.cosine_similarity(mixed, exact, dim=0)) > least


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_detector_makes_the_same_steps(name, compiled):
    expected, moved = stepped(name, batches=2)
    assert float(moved.norm()) > 0
    assert not compiled
    module, _ = stepped(name, batches=2, compile=True)
    assert compiled
    assert same(snapshot(module), snapshot(expected))


MAKERS = {
    "rfm": partial(RFM, "resnet18_thin", False),
    "multiatt": partial(MultiAtt, "resnet18_thin", False, attentions=2),
    "f3net": partial(F3Net, "resnet18_thin", False, size=40),
}


@pytest.mark.slow
@pytest.mark.usefixtures("a_kill_leaves_no_time")
@pytest.mark.parametrize("name", MAKERS)
def test_a_detector_killed_at_every_batch_ends_as_an_undisturbed_one(tiny_ffpp, tmp_path, name):
    new = partial(DetectorModule, MAKERS[name], steady, halved)
    module = new()
    expected = outcome(tmp_path, module, fit(tiny_ffpp, module, tmp_path))
    moments = [("train", 0, 1), ("train", 1, 0), ("train", 1, 2), ("val", 1, 1)]
    found = killed_again_and_again(tiny_ffpp, new, tmp_path / "run", moments, every=1)
    assert_same_outcome(found, expected)
