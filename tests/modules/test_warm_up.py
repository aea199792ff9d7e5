import warnings
from functools import partial
from itertools import pairwise

import pytest
import torch
from small import Images, Seen, distill_module, halved, quiet, same, snapshot

from tokd_lightning.distillation import TOKD, RotationOptimizer

EPOCHS, BATCHES = 3, 2
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
PARTS = ("student.backbone", "student.classifier", "distiller")


def weights(module):
    """Everything by part, the statistics of frozen projectors' first batch aside."""
    return {
        part: {k: v for k, v in snapshot(module, part).items() if "extra_state" not in k}
        for part in PARTS
    }


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)


def module_of(teacher, warm_up_epochs=2, **options):
    distiller = partial(TOKD, width=16, dim=64, teacher_projectors="joint")
    return distill_module(
        teacher, distiller, warm_up_epochs=warm_up_epochs, optimizer=adamw, **options
    )


def fit(module, **trainer):
    seen = Seen(weights)
    trainer.setdefault("callbacks", []).insert(0, seen)
    runner = quiet(max_epochs=EPOCHS, **trainer)
    runner.fit(module, datamodule=Images(batches=BATCHES))
    return seen.notes


def learned(notes):
    """Return only what optimizers move: a head's batch norm sees the batches all the same."""
    return {
        part: {
            k: v for k, v in notes[part].items() if "running" not in k and "num_batches" not in k
        }
        for part in notes
    }


@pytest.mark.slow
def test_the_backbone_stands_still_bit_for_bit_and_then_moves(teacher):
    module = module_of(teacher)
    quiet(limit_train_batches=0).fit(module, datamodule=Images())
    start = weights(module)
    steps = fit(module_of(teacher))
    warm, after = steps[: 2 * BATCHES], steps[2 * BATCHES :]
    for step in warm:
        assert same(step["student.backbone"], start["student.backbone"])  # statistics included
        assert same(learned(step)["distiller"], learned(start)["distiller"])
    for before, now in pairwise([start, *warm]):
        assert not same(before["student.classifier"], now["student.classifier"])
    for before, now in pairwise([warm[-1], *after]):
        for part in PARTS:
            assert not same(learned(before)[part], learned(now)[part])
    means = [k for k in start["student.backbone"] if k.endswith("running_mean")]
    assert means
    for name in means:  # the statistics are those of batches again
        assert not torch.equal(
            warm[-1]["student.backbone"][name], after[0]["student.backbone"][name]
        )
    rotations = [k for k in start["distiller"] if "rotation" in k]
    assert len(rotations) == 2
    assert not any(
        torch.equal(warm[-1]["distiller"][k], after[-1]["distiller"][k]) for k in rotations
    )


def test_the_classifier_learns_the_cross_entropy_of_fixed_features(teacher):
    start = module_of(teacher)
    images = Images(batches=BATCHES)
    batches = list(images.train_dataloader())
    student = start.student.eval()
    optimizer = adamw(student.classifier.parameters())
    for batch in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(student(batch["image"]).logits, batch["label"])
        loss.backward()
        optimizer.step()
    found = fit(module_of(teacher))[BATCHES - 1]["student.classifier"]
    expected = snapshot(student, "classifier")
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name.removeprefix("student.")])


@pytest.mark.slow
def test_without_warm_up_everything_moves_at_once(teacher):
    plain, none = (fit(module_of(teacher, **o)) for o in ({"warm_up_epochs": 0}, {}))
    assert not same(plain[0]["student.backbone"], none[0]["student.backbone"])
    module = module_of(teacher, warm_up_epochs=0)
    assert not same(plain[0]["student.backbone"], weights(module)["student.backbone"])


@pytest.mark.thinned(3)
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_resumed_during_or_after_warm_up_ends_bit_for_bit_the_same(teacher, tmp_path, epochs):
    # In the middle of an epoch: test_resume.py.
    whole, stopped, resumed = (module_of(teacher, lr_scheduler=halved) for _ in range(3))
    fit(whole)
    runner = quiet(max_epochs=epochs)
    runner.fit(stopped, datamodule=Images(batches=BATCHES))
    runner.save_checkpoint(tmp_path / "last.ckpt")
    last = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    quiet(max_epochs=EPOCHS).fit(resumed, datamodule=Images(batches=BATCHES), **last)
    assert same(snapshot(resumed), snapshot(whole))


@pytest.mark.parametrize(("direction", "told"), [("plain", 1), ("normalized", 0)])
def test_an_idle_rotation_is_told_after_its_own_first_epoch(teacher, direction, told):
    rotation = partial(RotationOptimizer, lr=1e-2, direction=direction)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(module_of(teacher, rotation_optimizer=rotation, rotation_scheduler=None))
    assert sum("the rotation does nothing" in str(w.message) for w in caught) == told
