"""Fits that take turns in one process, against each of them alone."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import wandb_log
from PIL import Image
from test_cli import ROOT
from test_kills import flat, kill, stamps, training_starts
from trees import make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.data.annotations import mask_path
from tokd_lightning.data.frames import FrameDataset
from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.modules import DistillModule
from tokd_lightning.runs.folder import Run, letting_go
from tokd_lightning.training.cohort import reusing, split
from tokd_lightning.training.labelled import labelled
from tokd_lightning.training.learner import Learner, disagreement
from tokd_lightning.training.turns import Turns

BATCHES = 4
STUDENT = ["--model.student=test_resnet", f"--model.lr_scheduler.total_steps={2 * BATCHES}"]
ROTATED = [*STUDENT, f"--model.rotation_scheduler.total_steps={2 * BATCHES}"]
TOKD = [*ROTATED, "--model.distiller.width=16", "--model.distiller.dim=64"]
SMALL = [
    "--data.size=64",
    "--data.crop=48",
    "--data.batch_size=8",
    "--data.num_workers=0",
    f"--data.samples_per_epoch={8 * BATCHES}",
    "--trainer.max_epochs=2",
    "--trainer.log_every_n_steps=1",
    "--log=none",
]
METHODS = {
    "tokd": TOKD,
    "vanilla": STUDENT,
    "tokd-rgb": [*TOKD, "--model.distiller.branches=rgb"],
    "tokd-pcgrad": [*TOKD, "--model.distiller.conflict=pcgrad"],
    "tokd-with-add": [
        *(*ROTATED, f"--model.distiller={ROOT}/configs/distillers/tokd_with_add.yaml"),
        *("--model.distiller.width=16", "--model.distiller.dim=64"),
    ],
    **{
        name: [*ROTATED, f"--model.distiller={name}"]
        for name in ("hinton", "at", "pkt", "vid", "sp", "fitnet", "add")
    },
    "vid-rotated": [
        *(*ROTATED, "--model.distiller=vid"),
        *("--model.distiller.rotation=learned", "--model.distiller.dim=64"),
    ],
}
DETECTOR = [f"--model.lr_scheduler.total_steps={2 * BATCHES}"]
UNTAUGHT = {
    "vanilla": STUDENT,
    "multitask": DETECTOR,
    "rfm": [*DETECTOR, "--model.detector.backbone=test_resnet"],
}
# What all fits of a cohort share.
ALL = {
    "parts of a batch": ["--model.accumulate=2"],
    "several validations an epoch": ["--trainer.val_check_interval=0.5"],
    "workers": ["--data.num_workers=2"],
    "bf16": ["--trainer.precision=bf16-mixed"],
}


@pytest.fixture
def arguments(tiny_ffpp, small_teacher):
    """Return the arguments of a method's fit."""

    def of(name, runs, *options, root=tiny_ffpp):
        experiment = f"demo_{name}" if name in UNTAUGHT else "demo_tokd"
        own = (METHODS | UNTAUGHT)[name]
        taught = [] if name in UNTAUGHT else [f"--model.teacher={small_teacher}"]
        return [
            *(f"--config={ROOT}/experiments/{experiment}.yaml", f"--data.root={root}"),
            *(*SMALL, *own, *taught, f"--runs={runs}", f"--name={name}", *options),
        ]

    return of


def cohort(of, names, runs, *options, own=None, **root):
    """Run fits and their tests together; return the exit code."""
    args = ["fit", "--test"]
    for name in names:
        more = (own or {}).get(name, [])
        args += [
            *(["--also"] if name != names[0] else []),
            *of(name, runs, *options, *more, **root),
        ]
    return main(args)


def alone(of, names, runs, *options, own=None, **root):
    for name in names:
        args = of(name, runs, *options, *(own or {}).get(name, []), **root)
        assert main(["fit", *args]) == main(["test", *args]) == 0


def outcome(folder):
    """Return all that a run leaves, apart from how long it took and where it is."""
    results = json.loads((folder / "metrics.json").read_text())
    del results["seconds"]
    tensors = {}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        del checkpoint["callbacks"]  # they name the folder
        tensors |= {f"{name}{key}": value for key, value in flat(checkpoint).items()}
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    texts = {
        name: path.read_bytes() for name, path in files.items() if path.suffix in {".csv", ".png"}
    }
    return results, set(files), texts, tensors


def assert_same(names, together, expected):
    for name in names:
        ours, theirs = outcome(together / name), outcome(expected / name)
        assert ours[:3] == theirs[:3], name
        assert ours[3].keys() == theirs[3].keys(), name
        for key, value in theirs[3].items():
            equal = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert equal(ours[3][key], value), (name, key)


def test_fits_in_turns_leave_what_each_leaves_alone(arguments, tmp_path):
    names = ["tokd", "vanilla"]
    alone(arguments, names, tmp_path / "alone")
    assert cohort(arguments, names, tmp_path / "together") == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_every_method_leaves_what_it_leaves_alone(arguments, tmp_path, monkeypatch):
    names = list(METHODS)
    alone(arguments, names, tmp_path / "alone")
    forward, read, passes, frames = DualBranchTeacher.forward, FrameDataset._read, [], []

    def counted(self, x):
        passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(DualBranchTeacher, "forward", counted)
    monkeypatch.setattr(FrameDataset, "_read", lambda self, f: frames.append(f) or read(self, f))
    assert cohort(arguments, names, tmp_path / "together") == 0
    assert passes.count(8) == 2 * BATCHES
    scored = 2 * BATCHES * 8 + 2 * 40 + 40  # in training, two validations and a test
    assert scored <= len(frames) <= scored + 6 * len(names)  # and of pictures.png
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("what", ALL)
def test_fits_in_turns_do_so_with(arguments, tmp_path, what):
    names, steps = ["tokd", "vanilla", "vid", "sp"], ["--model.lr_scheduler.total_steps=100"]
    options = [*steps, *ALL[what]]
    alone(arguments, names, tmp_path / "alone", *options)
    assert cohort(arguments, names, tmp_path / "together", *options) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_fits_in_turns_may_differ_in_all_that_concerns_the_network(arguments, tmp_path):
    names = ["tokd", "vanilla", "fitnet", "hinton"]
    own = {
        "tokd": ["--model.warm_up_epochs=1"],
        "vanilla": ["--model.student=resnet18_thin"],
        "fitnet": ["--model.clip=0.1"],
        "hinton": ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.01"],
    }
    alone(arguments, names, tmp_path / "alone", own=own)
    assert cohort(arguments, names, tmp_path / "together", own=own) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_pairs_of_two_qualities_are_shared(arguments, tmp_path):
    root = make_ffpp(tmp_path / "ffpp", qualities=("c23", "c40"))
    names = ["add", "tokd-with-add", "vanilla"]
    options = ["--data.quality=c40", "--data.teacher_quality=c23"]
    alone(arguments, names, tmp_path / "alone", *options, root=root)
    assert cohort(arguments, names, tmp_path / "together", *options, root=root) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_detectors_and_students_share_what_they_read_alike(arguments, tmp_path):
    root = make_ffpp(tmp_path / "ffpp")
    for file in root.glob("manipulated_sequences/*/c23/faces/*/*.png"):
        place = file.relative_to(root).as_posix()
        mask = root / mask_path(place, int(file.stem))
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (48, 48), 255).save(mask)
    names = ["vanilla", "multitask", "rfm"]
    options = ["--data.mean=0.5", "--data.std=0.5"]
    alone(arguments, names, tmp_path / "alone", *options, root=root)
    assert cohort(arguments, names, tmp_path / "together", *options, root=root) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


class Killed(BaseException):
    pass


def at(monkeypatch, name, epoch, batch, act):
    """Call ``act`` before a training step of one of the fits, once."""
    step, done = DistillModule.training_step, []

    def watched(self, data, batch_idx):
        here = Path(self.trainer.loggers[0].log_dir).name
        if not done and (here, self.current_epoch, batch_idx) == (name, epoch, batch):
            done.append(1)
            act()
        return step(self, data, batch_idx)

    monkeypatch.setattr(DistillModule, "training_step", watched)


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_a_cohort_told_to_end_saves_all_and_goes_on(
    arguments, tmp_path, monkeypatch, every, capsys
):
    names, options = ["tokd", "vanilla", "vid"], [f"--checkpoint_every={every}"]
    alone(arguments, names, tmp_path / "alone", *options)
    with monkeypatch.context() as patch:
        at(patch, "vanilla", 1, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert cohort(arguments, names, tmp_path / "together", *options) == 143
    for name in names:
        saved = torch.load(tmp_path / f"together/{name}/checkpoints/last.ckpt", weights_only=True)
        assert saved["global_step"] >= BATCHES + 2
    assert "the same command" in capsys.readouterr().err
    assert cohort(arguments, names, tmp_path / "together", *options) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_a_cohort_killed_at_random_moments_ends_as_each_fit_alone(arguments, tmp_path):
    names, steps = ["tokd", "vanilla"], 30
    options = [
        *(f"--data.samples_per_epoch={8 * steps}", f"--model.lr_scheduler.total_steps={2 * steps}"),
        *("--checkpoint_every=1", "--trainer.log_every_n_steps=7", "--reuse"),
    ]
    own = {"tokd": [f"--model.rotation_scheduler.total_steps={2 * steps}"]}
    alone(arguments, names, tmp_path / "alone", *options, own=own)
    args = [str(Path(sys.executable).with_name("tokd")), "fit", "--test"]
    for name in names:
        args += ["--also"] if name != names[0] else []
        args += arguments(name, tmp_path / "together", *options, *own.get(name, []))
    dice, kills = random.Random(0), 0
    while kills < 20:
        before = stamps(tmp_path / "together")
        process = subprocess.Popen(
            args, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if not training_starts(process, tmp_path / "together", before):
            break
        time.sleep(dice.uniform(0, 3))
        if process.poll() is not None:
            break
        kill(process)
        kills += 1
    assert kills > 1
    done = subprocess.run(args, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_fits_that_resume_at_different_batches_meet_again(arguments, tmp_path, monkeypatch):
    names = ["tokd", "vanilla", "vid"]
    own = {"tokd": ["--checkpoint_every=1"], "vid": ["--checkpoint_every=3"]}
    alone(arguments, names, tmp_path / "alone", own=own)
    with monkeypatch.context() as patch:  # as a kill: nothing is saved
        at(patch, "vid", 1, 3, raising(Killed()))
        patch.setattr("tokd_lightning.training.learner.Learner._wait", _lost_after_a_kill())
        assert cohort(arguments, names, tmp_path / "together", own=own) == 2
    places = {
        name: torch.load(tmp_path / f"together/{name}/checkpoints/last.ckpt", weights_only=True)
        for name in names
    }
    assert len({place["global_step"] for place in places.values()}) > 1
    assert cohort(arguments, names, tmp_path / "together", own=own) == 0
    assert_same(names, tmp_path / "together", tmp_path / "alone")


def _lost_after_a_kill():
    wait = Learner._wait

    def lost(self, moment):
        wait(self, moment)
        if moment >= (1, 3, 1, 0):
            raise Killed

    return lost


@pytest.mark.slow
def test_a_fit_that_fails_leaves_and_the_others_go_on(arguments, tmp_path, monkeypatch, capsys):
    names = ["tokd", "hinton", "vanilla"]
    alone(arguments, ["tokd", "vanilla"], tmp_path / "alone")
    own = {"hinton": ["--model.lr_scheduler.max_lr=1.0e+30"]}
    assert cohort(arguments, names, tmp_path / "together", own=own) == 2
    said = capsys.readouterr().err
    assert "hinton: tokd: the" in said
    assert "1 of 3 fits failed: hinton: the" in said
    assert (tmp_path / "together/hinton/nonfinite.csv").is_file()
    assert_same(["tokd", "vanilla"], tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_a_cohort_that_does_not_fit_the_memory_is_halved(arguments, tmp_path, monkeypatch, capsys):
    names = ["tokd", "hinton", "vanilla"]
    alone(arguments, names, tmp_path / "alone")
    at(monkeypatch, "vanilla", 1, 1, raising(torch.OutOfMemoryError("CUDA out of memory")))
    assert cohort(arguments, names, tmp_path / "together") == 0
    assert "out of memory with 3 fits at a time: going on with 2" in capsys.readouterr().err
    assert_same(names, tmp_path / "together", tmp_path / "alone")


def test_fits_that_do_not_agree_are_refused_before_any_begins(arguments, tmp_path, capsys):
    args = [*arguments("tokd", tmp_path), "--also", *arguments("vanilla", tmp_path)]
    assert main(["fit", *args, "--data.batch_size=4"]) == 2
    assert capsys.readouterr().err.strip() == (
        "tokd: vanilla cannot share batches and teacher with tokd: --data.batch_size is 4, not 8; "
        "make them agree, or fit it by itself"
    )
    assert main(["fit", *args, "--model.distiller=vib"]) == 2
    assert "fit 2: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_each_fit_has_its_own_run_on_wandb(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    names = ["tokd", "vanilla"]
    assert cohort(arguments, names, tmp_path, "--log=wandb") == 0
    for name in names:
        folder = tmp_path / name
        identity = json.loads((folder / "wandb.json").read_text())["id"]
        logged = wandb_log.read(folder)
        assert (logged.run.run_id, logged.run.display_name, logged.exit) == (identity, name, 0)
        with (folder / "metrics.csv").open() as file:
            losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        theirs = [row["train/loss"] for row in logged.history if "train/loss" in row]
        assert theirs == pytest.approx(losses)


def processes(*fits):
    """Run fits and their tests on two processes; return the exit code and what they said."""
    args = [str(Path(sys.executable).with_name("tokd")), "fit", "--test"]
    for number, fit in enumerate(fits):
        args += [*(["--also"] if number else []), *fit, "--trainer.devices=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_fits_in_turns_on_two_processes_leave_what_each_leaves_alone(arguments, tmp_path):
    names = ["tokd", "vanilla"]
    for name in names:
        code, said = processes(arguments(name, tmp_path / "alone"))
        assert code == 0, said
    code, said = processes(*(arguments(name, tmp_path / "together") for name in names))
    assert code == 0, said
    assert said.count("epoch 2/2") == 2  # rank 0 alone speaks
    assert_same(names, tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_fits_on_two_processes_begin_together_or_not_at_all(arguments, tmp_path):
    names = ["vanilla", "tokd"]
    (tmp_path / "runs/tokd").mkdir(parents=True)
    with letting_go():
        Run(tmp_path / "runs/tokd").hold()
        code, said = processes(*(arguments(name, tmp_path / "runs") for name in names))
    assert code == 2
    assert "is being trained by another process" in said, said
    assert not (tmp_path / "runs/vanilla").exists()


def test_disagreement_ignores_what_a_fit_may_have_by_itself():
    first = {
        "seed_everything": 0,
        "data": {"class_path": "A", "init_args": {"size": 8}},
        "trainer": {"precision": "32-true"},
        "model": {"init_args": {"student": "a", "teacher": "t.ckpt", "accumulate": 1}},
        "log": "none",
    }

    def changed(**model):
        return first | {"model": {"init_args": first["model"]["init_args"] | model}, "log": "wandb"}

    assert disagreement(first, changed(student="b", teacher=None, clip=1.0)) == ""
    assert disagreement(first, changed(teacher="./t.ckpt")) == ""
    assert disagreement(first, changed(teacher="u.ckpt")).startswith("--model.teacher is /")
    vanilla = {"class_path": "tokd_lightning.distillation.Vanilla"}
    assert disagreement(first, changed(teacher="u.ckpt", distiller=vanilla)) == ""
    assert disagreement(first, changed(accumulate=2)) == "--model.accumulate is 2, not 1"
    other = first | {"trainer": {"precision": "bf16-mixed"}}
    assert disagreement(first, other) == "--trainer.precision is bf16-mixed, not 32-true"


def test_split_gives_each_fit_the_shared_options_and_its_own():
    first = ["--config", "a.yaml", "--data.root=D", "--model.student", "x", "--model.teacher=T"]
    more = ["--name", "first", "--reuse"]
    arguments, test, logs = split(
        [*first, *more, "--also", "--model.student=y", "--rerun", "--test", "--logs", "L"]
    )
    assert test
    assert logs == Path("L")
    assert arguments[0] == [*first, *more]
    assert arguments[1] == [*first[:3], "--model.teacher=T", "--model.student=y", "--rerun"]
    arguments, test, logs = split([*first, "--also", "b.yaml", "--also=runs/c", "--log", "none"])
    assert (test, logs) == (False, None)
    assert arguments[1] == ["--data.root=D", "--config", "b.yaml"]
    assert arguments[2] == ["runs/c", "--log", "none", "--data.root=D"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--log=none"], ["--log=none", "--reuse"]),
        (["--rerun"], ["--rerun"]),
        (["--reuse", "--log=none"], ["--reuse", "--log=none"]),
    ],
)
def test_finished_fits_of_several_are_reused_so_that_the_same_command_goes_on(given, expected):
    assert reusing(given) == expected


def test_one_folder_is_held_once_in_a_process(tmp_path):
    first, second = Run(tmp_path), Run(tmp_path / "." / "x" / "..")
    (tmp_path / "x").mkdir()
    with letting_go():
        first.hold()
        with pytest.raises(TokdError, match="by another fit of this command"):
            second.hold()
    with letting_go():
        second.hold()


def test_lines_have_the_name_of_their_fit(tmp_path, capsys):
    def speak(name):
        print(f"{name} one\n{name} two")
        print(f"{name} begun", end="")

    names = {threading.Thread(target=speak, args=(name,)): name for name in ("a", "b")}
    with labelled(lambda thread: names.get(thread, ""), tmp_path / "logs"):
        for thread in names:
            thread.start()
            thread.join()
        print("nobody's")
    said = ["a: a one", "a: a two", "b: b one", "b: b two", "nobody's", "a: a begun", "b: b begun"]
    assert capsys.readouterr().out.splitlines() == said
    assert (tmp_path / "logs" / "b.log").read_text() == "b one\nb two\n"


def test_turns_go_to_the_smallest_key():
    order, turns = [], Turns(3, lambda: lambda: None)
    keys = {0: [(0, 2), (0, 3)], 1: [(0, 0), (0, 1), (0, 2), (0, 3)], 2: [(0, 2)]}

    def run(me):
        turns.join(me)
        for key in keys[me]:
            turns.wait(me, key)
            order.append((key[1], me))
        turns.leave(me)

    threads = [threading.Thread(target=run, args=(me,)) for me in keys]
    for thread in threads:
        thread.start()
    turns.begin()
    for thread in threads:
        thread.join(10)
    assert order == [(0, 1), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]
