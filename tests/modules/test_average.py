"""Moving averages, learning rates by layer, recomputation and objectives in training."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small import Images, Seen, distill_module, quiet, same, sgd, snapshot, teacher_module

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import SPSL, MultiTask
from tokd_lightning.modules import DetectorModule
from tokd_lightning.modules.checkpoint import read_checkpoint
from tokd_lightning.modules.trained import TrainedModule

DECAY = 0.6  # reached at the tenth step: the warm-up of the decay shows before


def averaged(weights):
    """Average snapshots by the equation, the first being the start."""
    mean = {name: value.double() for name, value in weights[0].items()}
    for t, now in enumerate(weights[1:], start=1):
        b = min(DECAY, (1 + t) / (10 + t))
        for name, value in now.items():
            counts = not value.is_floating_point()
            mean[name] = value.double() if counts else b * mean[name] + (1 - b) * value.double()
    return mean


class Validated(Callback):
    """Keeps what is validated."""

    def on_validation_batch_start(self, trainer, module, *_):
        self.state = snapshot(module, "teacher.", "student.")


def train(module, *callbacks, batches=3, epochs=1, resume=None, **options):
    trainer = quiet(
        max_epochs=epochs, callbacks=[*callbacks], **{"limit_val_batches": 1.0, **options}
    )
    given = {"ckpt_path": resume, "weights_only": True} if resume else {}
    trainer.fit(module, datamodule=Images(batches=batches), **given)
    return trainer


class Saved(Callback):
    """Saves as best.ckpt is saved, at the end of the epoch."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


class SavedInside(Saved):
    """Saves as best.ckpt is saved after a validation within an epoch."""

    def on_train_epoch_end(self, trainer, module):
        pass

    def on_validation_end(self, trainer, module):
        assert module.average.inside
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("kind", ["teacher", pytest.param("student", marks=pytest.mark.slow)])
def test_the_average_follows_its_equation_and_is_what_is_validated_and_saved(
    kind, teacher, tmp_path
):
    def make(**options):
        if kind == "teacher":
            return teacher_module(optimizer=sgd, **options)
        return distill_module(teacher, optimizer=sgd, **options)

    plain, seen = make(), Seen(lambda module: snapshot(module, f"{kind}."))
    start = snapshot(plain, f"{kind}.")
    train(plain, seen)
    path, validated = tmp_path / "best.ckpt", Validated()
    module = make(ema=DECAY)
    again = Seen(lambda module: snapshot(module, f"{kind}."))
    inside = tmp_path / "inside.ckpt"
    train(module, again, validated, Saved(path), SavedInside(inside))
    one, other = (torch.load(file, weights_only=True) for file in (path, inside))
    assert same(one["state_dict"], other["state_dict"])
    assert same(*(saved["weights_in_training"]["state_dict"] for saved in (one, other)))
    assert all(same(a, b) for a, b in zip(seen.notes, again.notes, strict=True))
    expected = averaged([start, *seen.notes])
    for found in (
        validated.state,
        snapshot(module, f"{kind}."),
        read_checkpoint(path)["state_dict"],
    ):
        assert expected.keys() <= found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(TrainedModule(path).eval()(x), module.eval()(x))
    moved = [
        name for name in expected if not torch.equal(snapshot(plain)[name].double(), expected[name])
    ]
    assert len(moved) > len(expected) // 2


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="all", marks=pytest.mark.slow),
        pytest.param({"tune": "norms"}, id="norms"),
    ],
)
def test_a_resumed_average_ends_bit_for_bit_as_an_undisturbed_one(options, tmp_path):
    options = {"ema": DECAY, "branches": "rgb", **options}
    whole = teacher_module(**options)
    train(whole, Saved(tmp_path / "whole.ckpt"), epochs=2)
    half = tmp_path / "half.ckpt"
    train(teacher_module(**options), Saved(half))
    resumed = teacher_module(**options)
    train(resumed, Saved(tmp_path / "end.ckpt"), epochs=2, resume=half)
    assert same(snapshot(resumed), snapshot(whole))
    ends = [torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("whole", "end")]
    assert same(*(end["state_dict"] for end in ends))
    assert same(*(end["weights_in_training"]["state_dict"] for end in ends))
    assert ends[0]["weights_in_training"]["steps"] == 6


def test_batches_in_parts_are_averaged_once_a_step():
    module = teacher_module(ema=DECAY, accumulate=2)
    steps = Seen(lambda module: module.average.steps)
    train(module, steps, batches=4)
    assert steps.notes == [0, 0, 1, 1]  # noted before the step of the batch is taken in


@pytest.mark.parametrize("ema", [0.0, 1.0, -1, 2])
def test_a_decay_out_of_range_is_refused(ema):
    with pytest.raises(TokdError, match=r"--model\.ema must be above 0 and below 1"):
        teacher_module(ema=ema)


# Learning rates by layer


@pytest.mark.slow
def test_layer_decay_scales_the_steps_of_sgd_by_layer():
    def moved(**options):
        module = teacher_module(
            optimizer=partial(torch.optim.SGD, lr=0.5), branches="rgb", projectors=False, **options
        )
        start = snapshot(module, "teacher.")
        train(module, batches=1)
        end = snapshot(module, "teacher.")
        return {name: end[name] - start[name] for name in end}

    plain, decayed = moved(), moved(layer_decay=0.5)
    names = ["teacher.rgb.stages.2.layer4.0.downsample.1.weight", "teacher.classifier.weight"]
    factors = [float((decayed[n] * plain[n]).sum() / plain[n].square().sum()) for n in names]
    assert factors == pytest.approx([0.5, 1.0], rel=1e-3)
    first = "teacher.rgb.stages.0.conv1.0.weight"
    assert decayed[first].norm() < 0.1 * plain[first].norm()


def test_a_scheduler_of_one_rate_is_refused_with_layer_decay():
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=9)
    module = teacher_module(lr_scheduler=cycle, layer_decay=0.5)
    with pytest.raises(TokdError, match=r"lr_scheduler OneCycleLR sets one learning rate for all"):
        train(module)
    train(teacher_module(lr_scheduler=cycle), batches=1)
    with pytest.raises(TokdError, match=r"--model\.layer_decay must be above 0 and at most 1"):
        teacher_module(layer_decay=1.5)


@pytest.mark.parametrize("after_warm_up", [False, True])
def test_a_schedule_that_would_raise_the_rates_of_the_first_layers_is_refused(after_warm_up):
    def cosine(optimizer, end):
        schedulers = torch.optim.lr_scheduler
        falls = schedulers.CosineAnnealingLR(optimizer, 9, eta_min=end)
        if not after_warm_up:
            return falls
        return schedulers.SequentialLR(optimizer, [schedulers.LinearLR(optimizer), falls], [1])

    module = teacher_module(lr_scheduler=partial(cosine, end=1e-4), layer_decay=0.1)
    with pytest.raises(TokdError, match=r"ends at 0\.0001, above the .* first layer.* eta_min"):
        train(module)
    train(teacher_module(lr_scheduler=partial(cosine, end=1e-4)), batches=1)
    train(teacher_module(lr_scheduler=partial(cosine, end=0.0), layer_decay=0.1), batches=1)


# Recomputation


@pytest.mark.slow
def test_checkpointing_trains_to_the_same_bits(teacher):
    for make in (teacher_module, partial(distill_module, teacher)):
        ends = []
        for checkpointing in (False, True):
            module = make(checkpointing=checkpointing)
            train(module, batches=2)
            ends.append(snapshot(module))
        assert same(*ends)
    with pytest.raises(TokdError, match="exclude each other"):
        teacher_module(checkpointing=True, compile=True)


# Objectives


def test_objectives_reach_the_losses_of_a_teacher_and_a_detector():
    options = {"label_smoothing": 0.1, "alignment": 0.5, "uniformity": 0.2, "normalised_head": True}
    module = teacher_module(optimizer=sgd, projectors=False, **options)
    trainer = train(module, batches=1)
    logged = trainer.callback_metrics
    assert 0 < float(logged["train/alignment"]) <= 0.5 * 4
    assert -0.2 * 8 <= float(logged["train/uniformity"]) < 0
    plain = teacher_module(optimizer=sgd, projectors=False, normalised_head=True)
    start = plain.teacher
    batch = next(iter(Images(batches=1).train_dataloader()))
    output = start(batch["image"])
    p = output.logits.double().log_softmax(1)
    y = torch.nn.functional.one_hot(batch["label"], 2)
    target = 0.9 * y + 0.05
    expected = -(target * p).sum(1).mean()
    found = plain.cross_entropy(output.logits, batch["label"], 0.1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    given = {"optimizer": sgd, "lr_scheduler": partial(torch.optim.lr_scheduler.ConstantLR)}
    spsl = partial(SPSL, backbone="test_resnet", pretrained=False)
    detector = DetectorModule(spsl, **given, **options)
    assert detector.loss.label_smoothing == 0.1
    assert type(detector.detector.classifier).__name__ == "NormalisedLinear"
    for name in ("alignment", "label_smoothing", "normalised_head"):
        with pytest.raises(TokdError, match=f"--model.{name}.*Multi-?[tT]ask"):
            DetectorModule(MultiTask, **given, **{name: 0.5 if name != "normalised_head" else True})
