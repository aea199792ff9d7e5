import copy
import hashlib
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from naive import iteration
from small import Images, Seen, distill_module, fitted, quiet, same, sgd, snapshot

from tokd_lightning.distillation import RotationOptimizer, Vanilla

RATE = 1e-2


class BesideNaive(Callback):
    """Compares every training step with the naive iteration, from the same state."""

    def __init__(self):
        self.worst = {"gradient": 0.0, "rotation": 0.0}
        self.steps = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        student, distiller = copy.deepcopy(module.student), copy.deepcopy(module.distiller)
        for parameter in (*student.parameters(), *distiller.parameters()):
            parameter.grad = None
        self.before = copy.deepcopy(distiller.rotation)
        with torch.no_grad():
            teacher = module._teacher(batch["image"])
        rate = module.optimizers()[1].optimizer.param_groups[0]["lr"]
        self.gradients, self.rotations = iteration(student, distiller, teacher, batch, rate)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps += 1
        ours = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
        assert ours.keys() == self.gradients.keys()
        for name, theirs in self.gradients.items():
            assert theirs.norm() > 0, name
            self._note("gradient", ours[name], theirs)
        for branch, r in module.distiller.rotation.matrices().items():
            assert r.grad is None
            start = self.before.matrices()[branch]
            self._note("rotation", r - start, self.rotations[branch] - start)

    def _note(self, what, ours, theirs):
        difference = float((ours - theirs).norm() / theirs.norm())
        self.worst[what] = max(self.worst[what], difference)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "options",
    [
        {"dim": 64},
        {"dim": 10, "rotation_init": "random"},
        {"dim": 48, "layout": "channels", "rotation_init": "random"},
        {"dim": 50, "layout": "blocks"},
    ],
    ids=["low rank", "dense", "channels", "blocks"],
)
def test_a_step_is_the_naive_one_with_a_backward_pass_per_loss(teacher, options):
    beside = BesideNaive()
    module = distill_module(
        teacher,
        {"alpha_rgb": 10.0, "alpha_frequency": 3.0, **options},
        optimizer=partial(sgd, lr=0.02),
        rotation_optimizer=partial(RotationOptimizer, lr=RATE),
    )
    for norm in module.student.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # timm starts some at zero, and so gradients
            torch.nn.init.ones_(norm.weight)
    trainer = quiet(precision="64-true", callbacks=[beside])
    trainer.fit(module, datamodule=Images(batches=3, dtype=torch.float64))
    assert beside.steps == trainer.global_step == 3
    assert max(beside.worst.values()) <= 1e-10, beside.worst


def digest(network):
    parts = [value.numpy().tobytes() for value in network.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_checkpoint_holds_both_optimizers_and_both_schedulers_and_no_teacher(teacher, tmp_path):
    keep = ModelCheckpoint(tmp_path, save_last=True)
    _, trainer = fitted(
        teacher, trainer=quiet(max_epochs=2, callbacks=[keep], enable_checkpointing=True)
    )
    assert trainer.global_step == 4
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    student, rotation = checkpoint["optimizer_states"]
    assert {int(state["step"]) for state in student["state"].values()} == {4}
    assert [int(state["steps"]) for state in rotation["state"].values()] == [4, 4]
    assert [s["last_epoch"] for s in checkpoint["lr_schedulers"]] == [2, 2]
    state = checkpoint["state_dict"]
    assert {name.partition(".")[0] for name in state} == {"student", "distiller"}
    assert {"distiller.rotation.rgb", "distiller.rotation.frequency"} <= state.keys()


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("interval", "exponents"), [("epoch", [0, 0, 1, 1]), ("step", [0, 1, 2, 3])]
)
def test_both_schedulers_move_per_epoch_or_per_batch(teacher, interval, exponents):
    def rates(module):
        return [o.param_groups[0]["lr"] for o in module.trainer.optimizers]

    # Seen before the batch: what the step is made with.
    seen = Seen(rates)
    seen.on_train_batch_start = lambda trainer, module, batch, i: seen.notes.append(rates(module))
    seen.on_train_batch_end = lambda *_: None
    fitted(teacher, trainer=quiet(max_epochs=2, callbacks=[seen]), interval=interval)
    assert seen.notes == [[1e-3 * 0.5**n, 2e-3 * 0.25**n] for n in exponents]


def test_the_teacher_is_in_eval_and_the_same_before_and_after_fit(teacher):
    file = hashlib.sha256(teacher.read_bytes()).hexdigest()

    def look(module):
        network, projectors = module._teacher.teacher, module.distiller.teacher_project
        trainable = any(p.requires_grad for p in network.parameters())
        training = any(m.training for m in (*network.modules(), *projectors.modules()))
        return digest(network), digest(projectors), trainable, training

    seen = Seen(look)
    module, _ = fitted(teacher, batches=3, trainer=quiet(max_epochs=2, callbacks=[seen]))
    fresh = distill_module(teacher)
    quiet(limit_train_batches=0).fit(fresh, datamodule=Images())
    before = look(fresh)
    assert before[2:] == (False, False)
    assert seen.notes == [before] * 6
    assert hashlib.sha256(teacher.read_bytes()).hexdigest() == file
    mine = {id(p) for p in module.parameters()}
    assert not mine & {id(p) for p in module._teacher.teacher.parameters()}


def test_the_teacher_keeps_nothing_for_a_backward_pass(teacher):
    modes = []

    def note(*_):
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    class Hook(Callback):
        def on_train_start(self, trainer, module):
            module._teacher.teacher.register_forward_pre_hook(note)

    fitted(teacher, trainer=quiet(callbacks=[Hook()]))
    assert modes == [(False, False)] * 2


def test_logits_depend_on_the_student_alone(teacher):
    module, trainer = fitted(teacher)
    data = Images()
    trainer.predict(module, datamodule=data)
    before = module.scores.copy()
    alone = copy.deepcopy(module.student).eval()
    with torch.no_grad():
        for parameter in module.distiller.parameters():
            parameter.normal_()
        for part in module._teacher.teacher.parameters():
            part.zero_()
        expected = [alone(batch["image"]).logits.double() for batch in data.test_dataloader()]
    trainer.predict(module, datamodule=data)
    assert module.scores["p_fake"].tolist() == before["p_fake"].tolist()
    assert before["p_fake"].tolist() == torch.cat(expected).softmax(1)[:, 1].tolist()


def test_a_test_needs_neither_teacher_nor_distiller(teacher, tmp_path):
    borrowed = tmp_path / "teacher.ckpt"
    borrowed.write_bytes(teacher.read_bytes())
    module, trainer = fitted(borrowed)
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    expected = trainer.test(module, datamodule=Images(), verbose=False)
    borrowed.unlink()
    fresh = distill_module(borrowed, seed=1)
    for stage in ("test", "validate"):
        options = {"ckpt_path": tmp_path / "student.ckpt", "weights_only": True, "verbose": False}
        found = getattr(quiet(limit_val_batches=1.0), stage)(fresh, datamodule=Images(), **options)
        assert fresh.distiller is None
        assert fresh._teacher is None
        assert same(snapshot(fresh.student), snapshot(module.student))
        if stage == "test":
            assert found == expected


def test_a_checkpoint_with_a_missing_weight_is_refused(teacher, tmp_path):
    _, trainer = fitted(teacher)
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    checkpoint = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    del checkpoint["state_dict"]["student.classifier.weight"]
    torch.save(checkpoint, tmp_path / "part.ckpt")
    with pytest.raises(RuntimeError, match=r"student\.classifier\.weight"):
        quiet().test(
            distill_module(None, Vanilla), datamodule=Images(), ckpt_path=tmp_path / "part.ckpt"
        )


def test_vanilla_is_ordinary_training_of_the_student(teacher):
    module, trainer = fitted(None, Vanilla, batches=3, trainer=quiet(max_epochs=2))
    assert trainer.global_step == 6
    assert len(trainer.optimizers) == 1
    student = copy.deepcopy(distill_module(None, Vanilla).student)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    for rate in (1e-3, 5e-4):
        optimizer.param_groups[0]["lr"] = rate
        for batch in Images(batches=3).train_dataloader():
            optimizer.zero_grad()
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            torch.nn.functional.cross_entropy(student(image).logits, batch["label"]).backward()
            optimizer.step()
    assert same(snapshot(module.student), snapshot(student))


@pytest.mark.slow
def test_a_learner_is_drawn_from_its_seed_whatever_else_was_drawn(teacher):
    def start(seed):
        module = distill_module(teacher, {"rotation_init": "random"}, seed=seed)
        state = torch.get_rng_state()
        quiet(limit_train_batches=0).fit(module, datamodule=Images())
        assert torch.equal(torch.get_rng_state(), state)
        return snapshot(module)

    first = start(3)
    torch.rand(5)
    assert same(first, start(3))
    other = start(4)
    drawn = [k for k, v in first.items() if v.dim() == 4 and "teacher_project" not in k]
    assert {name.partition(".")[0] for name in drawn} == {"student", "distiller"}
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("options", "learned"),
    [
        ({}, True),
        ({"rotation": "frozen_random"}, False),
        ({"rotation": "none"}, False),
        ({"branches": "frequency"}, False),
    ],
    ids=lambda value: str(value),
)
def test_only_a_learned_rotation_has_an_optimizer_and_moves(teacher, options, learned):
    fresh = distill_module(teacher, options)
    quiet(limit_train_batches=0).fit(fresh, datamodule=Images())
    module, trainer = fitted(teacher, options)
    assert len(trainer.optimizers) == 1 + learned
    rotations = [name for name in snapshot(module) if "rotation" in name]
    assert bool(rotations) == (options.get("rotation") != "none" and "branches" not in options)
    start, end = snapshot(fresh), snapshot(module)
    for name in rotations:
        assert torch.equal(start[name], end[name]) != learned
        assert module.get_parameter(name).grad is None


def test_what_fig_4_and_a_collapse_are_seen_by_is_logged_with_every_row(teacher):
    seen = Seen(lambda module: set(module.trainer.callback_metrics))
    fitted(teacher, trainer=quiet(callbacks=[seen], log_every_n_steps=1))
    branches = ("rgb", "frequency")
    expected = {"train/loss", "train/ce", "rotation/skipped", "gradient/norm_ratio"}
    expected |= {f"train/{b}" for b in branches}
    expected |= {f"maps/variance_{w}_{b}" for w in ("student", "teacher") for b in branches}
    for b in branches:
        expected |= {f"gradient/rotation_loss_{b}", f"rotation/distance_{b}"}
        expected |= {f"rotation/orthogonality_{b}"}
    for moment in ("before", "after"):
        expected |= {f"gradient/cosine_rotated_{moment}", f"gradient/cosine_full_{moment}"}
    assert all(expected <= notes for notes in seen.notes), expected - seen.notes[0]
    assert len(seen.notes) == 2


def test_what_no_row_shows_is_not_computed_and_no_step_depends_on_it(teacher):
    shown = Seen(lambda module: "rotation/skipped" in module.trainer.callback_metrics)
    module, _ = fitted(teacher, batches=3, trainer=quiet(callbacks=[shown], log_every_n_steps=2))
    assert shown.notes == [False, True, True]  # where it stays until it is computed anew
    every, _ = fitted(teacher, batches=3, trainer=quiet(log_every_n_steps=1))
    assert same(snapshot(module), snapshot(every))


def test_the_losses_add_up_and_class_weights_reach_the_cross_entropy(teacher):
    data = Images(batches=1)
    data.class_weights = torch.tensor([0.5, 2.0])
    module = distill_module(teacher)
    student = copy.deepcopy(module.student)
    trainer = quiet()
    trainer.fit(module, datamodule=data)
    batch = next(iter(data.train_dataloader()))
    logits = student(batch["image"]).logits
    per_sample = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="none")
    weight = data.class_weights[batch["label"]]
    found = trainer.callback_metrics
    torch.testing.assert_close(found["train/ce"], (weight * per_sample).sum() / weight.sum())
    total = found["train/ce"] + found["train/rgb"] + found["train/frequency"]
    torch.testing.assert_close(found["train/loss"], total)
