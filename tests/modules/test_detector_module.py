"""Training of every detector by the one module: steps, resume, parts, checkpoints, distillation."""

from functools import partial

import pytest
import torch
from small import BATCH, SIZE, Images, Seen, adam, halved, quiet, same, sgd, snapshot

from tokd_lightning.data.augment import seed_of, seeded
from tokd_lightning.distillation import TOKD, FitNet, Hinton, Vanilla
from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import (
    DETECTORS,
    RFM,
    SPSL,
    F3Net,
    FaceXray,
    MultiAttLoss,
    RFMLoss,
)
from tokd_lightning.modules import DetectorModule, DistillModule
from tokd_lightning.modules.checkpoint import load_teacher, read_checkpoint
from tokd_lightning.modules.trained import TrainedModule

NETWORK = "resnet18_thin"
OPTIONS = {
    "multitask": {},
    "twobranch": {"recurrent": False},
    "f3net": {"size": SIZE},
    "multiatt": {"attentions": 2},
}
SOONER = ("rfm",)
ALL = [pytest.param(n, marks=() if n in SOONER else pytest.mark.slow) for n in DETECTORS]


class Annotated(Images):
    """Noise with masks, landmarks and the seeds of a FrameDataModule."""

    seed = 0

    def samples(self, split):
        generator = torch.Generator().manual_seed(7)
        made = super().samples(split)
        for row, sample in enumerate(made):
            sample["mask"] = torch.rand(1, SIZE, SIZE, generator=generator).to(self.dtype)
            sample["landmarks"] = torch.rand(68, 2, generator=generator) * SIZE
            sample["step"] = row // BATCH
        return made

    def on_after_batch_transfer(self, batch, dataloader_idx):
        batch["step"] = int(batch["step"][0]) + self.trainer.current_epoch * self.batches
        return batch

    def sample_seeds(self, batch):
        return [seed_of(self.seed, batch["step"], int(n)) for n in batch["index"]]

    def seeded(self, batch):
        return seeded(torch.device("cpu"), self.seed, batch["step"])


def module_of(name, **options) -> DetectorModule:
    own = {"backbone": NETWORK, "pretrained": False} if name != "multitask" else {}
    kind = DETECTORS[name]
    defaults = {"optimizer": adam, "lr_scheduler": halved}
    return DetectorModule(partial(kind, **own, **OPTIONS.get(name, {})), **{**defaults, **options})


def fitted(name, epochs=1, path=None, batches=2, **options):
    module = module_of(name, **options)
    trainer = quiet(max_epochs=epochs)
    more = {} if path is None else {"ckpt_path": path, "weights_only": True}
    trainer.fit(module, datamodule=Annotated(batches), **more)
    return module, trainer


@pytest.mark.parametrize("name", ALL)
def test_a_resumed_detector_ends_as_an_undisturbed_one(name, tmp_path):
    whole, _ = fitted(name, epochs=2)
    _, trainer = fitted(name, epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, last = fitted(name, 2, tmp_path / "half.ckpt")
    assert same(snapshot(resumed), snapshot(whole))
    fresh = module_of(name)
    assert not same(snapshot(fresh, "detector."), snapshot(whole, "detector."))
    last.save_checkpoint(tmp_path / "end.ckpt")
    header = read_checkpoint(tmp_path / "end.ckpt", "detector")["tokd"]
    assert header["network"] == whole.detector.spec
    trained = TrainedModule(tmp_path / "end.ckpt")
    assert trained.kind == "detector"
    assert same(snapshot(trained.network), snapshot(whole.detector))


def test_scores_are_gathered_as_for_a_student():
    module, trainer = fitted("rfm")
    trainer = quiet(limit_val_batches=None)
    trainer.test(module, datamodule=Annotated(2), verbose=False)
    assert {"test/frame/auc", "test/frame/acc"} <= set(trainer.callback_metrics)
    assert len(module.scores) == 12


@pytest.mark.slow
def test_losses_are_logged_by_name():
    _, trainer = fitted("multiatt")
    names = {"train/ce", "train/independence", "train/agda", "train/match", "train/loss"}
    assert names <= set(trainer.callback_metrics)
    total = sum(trainer.callback_metrics[name] for name in names - {"train/loss"})
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], total)


def test_a_frozen_body_does_not_change_and_is_released():
    module = module_of("facexray", warm_up_epochs=1, optimizer=sgd)
    start = snapshot(module)
    bodies = Seen(lambda m: snapshot(m, "detector.backbone."))
    trainer = quiet(max_epochs=2, callbacks=[bodies])
    trainer.fit(module, datamodule=Annotated(1))
    body = {k: v for k, v in start.items() if k.startswith("detector.backbone.")}
    assert same(bodies.notes[0], body)
    assert not same(bodies.notes[1], body)
    assert not torch.equal(module.detector.map.weight, start["detector.map.weight"])


def test_a_plain_rfm_is_a_student_without_teacher():
    """The same network, loss and draws: DetectorModule's step is the step of everything else."""
    make = partial(RFM, NETWORK, False)
    loss = partial(RFMLoss, flood=0.0, count=0)
    detector = DetectorModule(make, sgd, halved, loss=loss)
    student = DistillModule(lambda s, t: Vanilla(s, t), sgd, halved, student=NETWORK)
    student.student.load_state_dict(detector.detector.state_dict())
    for module in (detector, student):
        quiet().fit(module, datamodule=Annotated(2))
    assert same(snapshot(detector.detector), snapshot(student.student))


def test_wrong_options_are_one_line():
    with pytest.raises(TokdError, match=r"--model\.detector: middle must be between 0 and 8"):
        DetectorModule(partial(SPSL, NETWORK, False, middle=9), adam, halved)
    with pytest.raises(TokdError, match="MultiAttLoss is the loss of multiatt, not of spsl"):
        DetectorModule(partial(SPSL, NETWORK, False), adam, halved, loss=MultiAttLoss)
    module = DetectorModule(partial(F3Net, NETWORK, False, size=96), adam, halved)
    with pytest.raises(TokdError, match="tied to 96 px"):
        quiet().fit(module, datamodule=Annotated())
    with pytest.raises(TokdError, match="has no losses of its own"):
        DistillModule(lambda s, t: Vanilla(s, t), adam, halved, own_losses=True)


def test_what_is_off_and_an_unpublished_normalisation_are_said(caplog, recwarn):
    module = module_of("multitask")
    module.loss = type(module.loss)(module.detector, segmentation=0.0)
    with caplog.at_level("INFO"):
        quiet(limit_train_batches=1).fit(module, datamodule=Annotated(1, mean=0.4))
    assert "without masks, their term is off" in caplog.text
    assert any("published for images of mean 0.5" in str(w.message) for w in recwarn)


def test_modules_tell_what_their_batches_need():
    assert module_of("facexray").needs(True) == {"mask"}
    assert module_of("facexray").needs(False) == set()
    assert module_of("addnet").needs(False) == {"landmarks"}
    assert module_of("spsl").needs(True) == set()


# As teachers and students


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Return name -> checkpoint of detectors trained for one batch."""
    folder, paths = tmp_path_factory.mktemp("teachers"), {}
    for name in ("rfm", "f3net", "multitask"):
        _, trainer = fitted(name, batches=1)
        paths[name] = folder / f"{name}.ckpt"
        trainer.save_checkpoint(paths[name])
    return paths


def distilled(make, teacher, student="detectors.spsl", **options):
    own = {"student_options": {"backbone": NETWORK}} if student.startswith("detectors.") else {}
    module = DistillModule(
        make, adam, halved, student=student, teacher=str(teacher), **own, **options
    )
    quiet(limit_train_batches=1).fit(module, datamodule=Annotated(1))
    return module


@pytest.mark.slow
def test_a_detector_teaches_one_branch_and_f3net_two(teachers):
    one = distilled(partial(FitNet, branches="rgb"), teachers["rfm"])
    assert one._teacher.teacher.branches == ("rgb",)
    two = partial(TOKD, width=16, dim=64, teacher_projectors="joint", branches="both")
    assert distilled(two, teachers["f3net"])._teacher.teacher.branches == ("rgb", "frequency")
    distilled(Hinton, teachers["f3net"], NETWORK)


@pytest.mark.slow
def test_detectors_that_cannot_teach_say_why(teachers):
    with pytest.raises(TokdError, match="Multi-task cannot be a teacher: its code"):
        load_teacher(teachers["multitask"])
    with pytest.raises(TokdError, match="frequency branch, but this teacher has rgb alone"):
        distilled(partial(FitNet, branches="both"), teachers["rfm"])


@pytest.mark.slow
def test_a_student_that_is_a_detector_comes_back_and_learns_from_its_own_losses(teachers, tmp_path):
    rgb = partial(FitNet, branches="rgb")
    module = distilled(rgb, teachers["rfm"], "detectors.facexray", own_losses=True)
    trainer = quiet(max_epochs=0)
    trainer.fit(module, datamodule=Annotated(1))
    trainer.save_checkpoint(tmp_path / "s.ckpt")
    trained = TrainedModule(tmp_path / "s.ckpt")
    assert isinstance(trained.network, FaceXray)
    assert same(snapshot(trained.network), snapshot(module.student))
    assert module.own.supervision == ("mask",)


@pytest.mark.slow
def test_detectors_are_folded_and_frozen_as_teachers(teachers):
    from tokd_lightning.models import frozen

    teacher = load_teacher(teachers["f3net"]).network.eval()
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        found, expected = frozen(teacher)(image), teacher(image)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.frequency[32], expected.frequency[32], atol=1e-4, rtol=1e-3)
