"""Runs killed at every batch and in every validation end as if nothing had happened."""

from functools import partial
from itertools import product

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import distill_module, same
from test_every_method import CASES
from test_resume import BATCHES, EPOCHS, ended, fit, make

from tokd_lightning.data.frames import FrameDataset
from tokd_lightning.distillation import ADD, TOKD

pytestmark = pytest.mark.usefixtures("a_kill_leaves_no_time")
METHODS = {
    **CASES,
    "add": ADD,
    "tokd pcgrad": partial(TOKD, width=16, dim=64, conflict="pcgrad"),
    "tokd adam": partial(TOKD, width=16, dim=64, layout="blocks"),
}
SOONER = ("add",)
ALWAYS = [pytest.param(n, marks=() if n in SOONER else pytest.mark.slow) for n in METHODS]


class Killed(BaseException):
    pass


class Kill(Callback):
    """Ends the run at a moment: at the end of a batch, in the middle of a validation."""

    def __init__(self, stage, epoch, batch):
        self.moment = stage, epoch, batch

    def look(self, stage, trainer, batch):
        if (stage, trainer.current_epoch, batch) == self.moment:
            raise Killed

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.look("train", trainer, batch_idx)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.look("val", trainer, batch_idx)


MOMENTS = [
    (stage, epoch, batch)
    for epoch in range(EPOCHS)
    for stage, batch in [*(("train", batch) for batch in range(BATCHES)), ("val", 1)]
]


def outcome(folder, module, trainer):
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    return ended(module, trainer), best, (folder / "metrics.csv").read_text()


def assert_equal(found, expected):
    (weights, moments, *rest), best, curves = found
    assert rest == list(expected[0][2:])
    assert same(weights, expected[0][0])
    assert same(moments, expected[0][1])
    assert same(best["state_dict"], expected[1]["state_dict"])
    assert best["tokd"] == expected[1]["tokd"]
    assert (best["epoch"], best["global_step"]) == (
        expected[1]["epoch"],
        expected[1]["global_step"],
    )
    assert curves == expected[2]


def killed_again_and_again(root, new, folder, moments, **options):
    """Kill a run at each moment in turn, resume it every time, and let it end."""
    for moment in moments:
        resume = (folder / "checkpoints" / "last.ckpt").is_file()
        with pytest.raises(Killed):
            fit(root, new(), folder, resume=resume, callbacks=[Kill(*moment)], **options)
    module = new()
    return outcome(folder, module, fit(root, module, folder, resume=True, **options))


SOON = {("epoch", "teacher", 2), ("step", "student", 1)}
RUNS = [
    pytest.param(*case, marks=() if case in SOON else pytest.mark.slow)
    for case in product(("epoch", "step"), ("teacher", "student", "warming student"), (1, 2))
]


@pytest.mark.thinned(6)
@pytest.mark.parametrize(("interval", "kind", "every"), RUNS)
def test_a_run_killed_at_every_batch_ends_as_an_undisturbed_one(
    tiny_ffpp, teacher, tmp_path, kind, every, interval
):
    new = partial(make, kind, teacher, interval)
    module = new()
    expected = outcome(tmp_path, module, fit(tiny_ffpp, module, tmp_path))
    found = killed_again_and_again(tiny_ffpp, new, tmp_path / "run", MOMENTS, every=every)
    assert_equal(found, expected)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", ALWAYS)
def test_every_method_does(tiny_ffpp, teacher, tmp_path, name):
    new = partial(distill_module, teacher, METHODS[name])
    module = new()
    expected = outcome(tmp_path, module, fit(tiny_ffpp, module, tmp_path))
    moments = [m for m in MOMENTS if m[1] == 1]
    assert_equal(
        killed_again_and_again(tiny_ffpp, new, tmp_path / "run", moments, every=1), expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_run_killed_between_the_parts_of_a_batch_does(tiny_ffpp, teacher, tmp_path, kind):
    options = {"accumulate": 2, "clip": 0.1}
    new = partial(make, kind, teacher, "step", **options)
    module = new()
    expected = outcome(tmp_path, module, fit(tiny_ffpp, module, tmp_path, log_every_n_steps=2))
    assert expected[0][-1] == EPOCHS * BATCHES
    moments = [("train", epoch, batch) for epoch in range(EPOCHS) for batch in range(2 * BATCHES)]
    found = killed_again_and_again(
        tiny_ffpp, new, tmp_path / "run", moments, every=1, log_every_n_steps=2
    )
    assert_equal(found, expected)


@pytest.mark.slow
def test_frames_of_batches_that_are_done_are_not_read_again(tiny_ffpp, tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit(
            tiny_ffpp,
            make("teacher", None, "epoch"),
            tmp_path,
            callbacks=[Kill("train", 1, 1)],
            every=1,
        )
    read, seen = FrameDataset._read, []
    monkeypatch.setattr(FrameDataset, "_read", lambda self, f: seen.append(f) or read(self, f))
    fit(tiny_ffpp, make("teacher", None, "epoch"), tmp_path, resume=True, limit_val_batches=1)
    validated = 2 * 4
    assert len(seen) - validated == 4 * (2 * BATCHES - 1)
