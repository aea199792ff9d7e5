import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from trees import make_ffpp, write_splits

from tokd_lightning.cli import main
from tokd_lightning.training.callbacks.progress import EpochLines

ROOT = Path(__file__).parents[1]
TEACHER = "synthetic-c23_teacher-both_s0"
SMALL = [
    "--data.size=64",
    "--data.crop=48",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--data.samples_per_epoch=24",
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=1",
    "--model.lr_scheduler.total_steps=3",
    "--log=none",
]
TINY_TEACHER = ["--model.backbone=test_resnet", "--model.width=16"]
TINY_STUDENT = ["--model.student=test_resnet"]
TINY_TOKD = [
    *TINY_STUDENT,
    "--model.distiller.width=16",
    "--model.distiller.dim=64",
    "--model.rotation_scheduler.total_steps=3",
]


def tokd(command, experiment, root, runs, *options):
    config = ROOT / f"experiments/{experiment}.yaml"
    given = [command, f"--config={config}", f"--data.root={root}", f"--runs={runs}"]
    return main([*given, *SMALL, *options])


@pytest.fixture(scope="module")
def job(tiny_ffpp, tmp_path_factory):
    """Teacher, vanilla student and TOKD student, each trained and tested once."""
    runs = tmp_path_factory.mktemp("runs")
    for command in ("fit", "test"):
        assert tokd(command, "demo_teacher", tiny_ffpp, runs, *TINY_TEACHER) == 0
    [teacher] = runs.glob("*teacher*/checkpoints/best.ckpt")
    for command in ("fit", "test", "validate", "predict"):
        options = [*TINY_TOKD, f"--model.teacher={teacher}"]
        assert tokd(command, "demo_tokd", tiny_ffpp, runs, *options) == 0
    for command in ("fit", "test"):
        assert tokd(command, "demo_vanilla", tiny_ffpp, runs, *TINY_STUDENT) == 0
    return runs


def folder(job, what):
    [found] = [path for path in job.iterdir() if what in path.name]
    return found


@pytest.mark.parametrize("what", ["teacher", "vanilla", "tokd-both"])
def test_a_run_folder_holds_what_the_readme_says(job, what):
    names = {path.name for path in folder(job, what).iterdir()}
    assert names >= {
        "fit.yaml", "test.yaml", "metrics.csv", "metrics.json", "checkpoints",
        "test_frames.csv", "test_videos.csv", "pictures.png",
    }  # fmt: skip
    checkpoints = {path.name for path in (folder(job, what) / "checkpoints").iterdir()}
    assert checkpoints == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("what", ["teacher", "vanilla", "tokd-both"])
def test_results_say_what_they_are_made_from(job, what):
    results = json.loads((folder(job, what) / "metrics.json").read_text())
    assert results["name"] == folder(job, what).name
    assert set(results["hashes"]) >= {"config", "source", "data", "recipe"}
    assert results["hashes"]["tested_with"] == results["hashes"]["source"]
    teacher = json.loads((folder(job, "teacher") / "metrics.json").read_text())["hashes"]
    assert results["hashes"].get("teacher") in (None, teacher["weights"])
    assert ("teacher" in results["hashes"]) == (what == "tokd-both")
    assert torch.__version__.startswith(results["versions"]["torch"])
    for level in ("frame", "video"):
        for metric in ("acc", "balanced_acc", "acc_real", "acc_fake", "auc", "ap", "eer"):
            for split in ("val", "test"):
                assert 0 <= results["metrics"][f"{split}/{level}/{metric}"] <= 1
        assert results["metrics"][f"test/{level}/majority"] == pytest.approx(0.8)


@pytest.mark.slow
def test_checkpoints_are_written_whole_or_not_at_all(tiny_ffpp, tmp_path, monkeypatch, capsys):
    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path / "runs", *TINY_STUDENT) == 2
    assert "best.ckpt cannot be written: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_scores_cover_the_test_split_once_and_agree_with_the_metrics(job):
    run = folder(job, "tokd-both")
    frames, videos = (pd.read_csv(run / f"test_{level}.csv") for level in ("frames", "videos"))
    assert len(frames) == 2 * 5 * 4
    assert not frames["path"].duplicated().any()
    assert len(videos) == 10
    accuracy = ((frames["p_fake"] > 0.5) == frames["label"]).mean()
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["test/frame/acc"] == pytest.approx(accuracy)
    assert frames.equals(pd.read_csv(run / "predict_frames.csv"))


@pytest.mark.slow
def test_a_student_is_tested_without_its_teacher(job, tiny_ffpp, capsys):
    [run] = [path for path in job.iterdir() if "tokd-both" in path.name]
    config = yaml.safe_load((run / "fit.yaml").read_text())
    config["model"]["init_args"]["teacher"] = "/nowhere/best.ckpt"
    copy = run.with_name("moved")
    shutil.copytree(run, copy)
    (copy / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["test", f"--config={copy}/fit.yaml"]) == 0
    assert "moved, test" in capsys.readouterr().out
    shutil.rmtree(copy)


@pytest.mark.slow
def test_a_finished_run_is_neither_overwritten_nor_done_again(job, tiny_ffpp, capsys):
    run = folder(job, "vanilla")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert tokd("fit", "demo_vanilla", tiny_ffpp, job, *TINY_STUDENT) == 2
    assert "is finished" in capsys.readouterr().err
    assert tokd("fit", "demo_vanilla", tiny_ffpp, job, *TINY_STUDENT, "--reuse") == 0
    assert "finished, reused" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_left_to_it(job, tiny_ffpp, capsys):
    run = folder(job, "vanilla")
    code = (
        "import sys; from pathlib import Path; from tokd_lightning.runs.folder import Run\n"
        "Run(Path(sys.argv[1])).hold(); print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(run)], **pipes) as other:
        other.stdout.readline()
        for option in ("--reuse", "--rerun"):
            assert tokd("fit", "demo_vanilla", tiny_ffpp, job, *TINY_STUDENT, option) == 2
            assert f"is being trained by another process ({other.pid})" in capsys.readouterr().err
        other.communicate()
    assert tokd("fit", "demo_vanilla", tiny_ffpp, job, *TINY_STUDENT, "--reuse") == 0
    assert not (run / ".lock").exists()


@pytest.mark.slow
def test_a_teacher_that_is_not_finished_is_told_of(job, tiny_ffpp, tmp_path):
    teacher = shutil.copytree(folder(job, "teacher"), tmp_path / "teacher")
    options = [*TINY_TOKD, f"--model.teacher={teacher}/checkpoints/best.ckpt"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path / "finished", *options) == 0
    (teacher / "metrics.json").unlink()
    with pytest.warns(UserWarning, match=r"run teacher is not finished, .* tokd fit --config"):
        assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path / "going-on", *options) == 0


@pytest.mark.slow
def test_other_data_are_noticed(job, tmp_path, capsys):
    other = make_ffpp(tmp_path / "other", frames=3)
    assert tokd("fit", "demo_vanilla", other, job, *TINY_STUDENT, "--reuse") == 2
    assert "was trained on different data" in capsys.readouterr().err


@pytest.mark.slow
def test_another_teacher_is_noticed(job, tiny_ffpp, tmp_path, capsys):
    teacher = folder(job, "teacher") / "checkpoints/best.ckpt"
    checkpoint = torch.load(teacher, weights_only=True)
    checkpoint["state_dict"]["teacher.classifier.bias"] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    options = [*TINY_TOKD, f"--model.teacher={tmp_path}/other.ckpt", "--reuse"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, job, *options) == 2
    assert "was trained on the maps of another teacher" in capsys.readouterr().err


@pytest.mark.slow
def test_a_test_on_other_frames_leaves_the_run_s_results_alone(job, tiny_ffpp, tmp_path, capsys):
    run = folder(job, "vanilla")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = make_ffpp(tmp_path / "other", frames=3)
    assert tokd("test", "demo_vanilla", other, job, *TINY_STUDENT) == 0
    assert "metrics.json is left as it is" in capsys.readouterr().out
    few = ["--trainer.limit_test_batches=0.5"]
    assert tokd("test", "demo_vanilla", tiny_ffpp, job, *TINY_STUDENT, *few) == 0
    assert before == {path: path.read_bytes() for path in before}
    for path in set(run.rglob("*.csv")) - set(before):
        assert path.name.startswith("test-")
        path.unlink()


@pytest.mark.slow
def test_a_test_may_take_other_batches_than_the_fit(job, tiny_ffpp, capsys):
    run = folder(job, "vanilla")
    before = json.loads((run / "metrics.json").read_text())
    other = ["--data.batch_size=4", "--data.on_error=skip"]
    assert main(["test", f"--config={run}/fit.yaml", *other]) == 0
    after = json.loads((run / "metrics.json").read_text())
    assert after["metrics"] == pytest.approx(before["metrics"], abs=1e-6)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--model.student=resnet18_thin", "holds another network"),
        ("--data.mean=0.1", "mean 0.5"),
        ("--data.crop=40", "input_size 48"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(option, says, job, tiny_ffpp, capsys):
    path = folder(job, "vanilla") / "checkpoints/best.ckpt"
    options = [*TINY_STUDENT, f"--ckpt_path={path}", option]
    assert tokd("test", "demo_vanilla", tiny_ffpp, job, *options) == 2
    assert says in capsys.readouterr().err


def test_a_trial_run_keeps_nothing(tiny_ffpp, tmp_path, capsys):
    options = [*TINY_STUDENT, "--trainer.fast_dev_run=true"]
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *options) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_rerun_sets_the_earlier_run_aside_and_gives_the_same_again(tiny_ffpp, tmp_path, capsys):
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 0
    [first] = tmp_path.iterdir()
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT, "--rerun") == 0
    old = first.with_name(f"{first.name}.old-1")
    states = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (first, old)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_an_edited_experiment_does_not_continue_another_run(job, tiny_ffpp, tmp_path, capsys):
    run = folder(job, "vanilla")
    copy = tmp_path / run.name
    copy.mkdir()
    config = yaml.safe_load((run / "fit.yaml").read_text())
    config["model"]["init_args"]["optimizer"]["init_args"]["lr"] = 0.5
    (copy / "fit.yaml").write_text(yaml.safe_dump(config))
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 2
    assert "model.init_args.optimizer.init_args.lr" in capsys.readouterr().err


def test_tables_and_figures_of_the_runs_are_written(job, tmp_path, capsys):
    folders = [str(folder(job, what)) for what in ("tokd-both", "teacher", "vanilla")]
    assert main(["compare", *folders, "--out", str(tmp_path)]) == 0
    table = (tmp_path / "compare.md").read_text()
    assert table.index("Teacher") < table.index("Vanilla") < table.index("TOKD both")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "gradients.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("args", [[], ["tset"], ["demo"], ["demo", "--out", "x", "--seed", "one"]])
def test_wrong_words_are_one_line(args, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("tokd: ")
    assert error.count("\n") == 1


def broken(root, tmp_path):
    copy = tmp_path / "broken"
    shutil.copytree(root, copy)
    return copy


@pytest.mark.slow
def test_an_unreadable_frame_is_named_or_skipped_and_counted(tiny_ffpp, tmp_path, capsys):
    root = broken(tiny_ffpp, tmp_path)
    bad = sorted((root / "original_sequences/youtube/c23/faces/000").iterdir())[1]
    bad.write_text("not an image")
    for identity in ("006", "008"):
        frame = next((root / f"original_sequences/youtube/c23/faces/{identity}").iterdir())
        frame.write_bytes(b"")
    runs = tmp_path / "runs"
    everything = ["--data.samples_per_epoch=null", "--model.lr_scheduler.total_steps=100"]
    options = [*TINY_STUDENT, *everything]
    assert tokd("fit", "demo_vanilla", root, runs, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ".png" in error
    assert "on_error" in error
    options.append("--data.on_error=skip")
    assert tokd("fit", "demo_vanilla", root, runs, *options) == 0
    assert tokd("test", "demo_vanilla", root, runs, *options) == 0
    [results] = [json.loads(path.read_text()) for path in runs.glob("*/metrics.json")]
    assert results["skipped"] == {"train": 1, "val": 1, "test": 1}


def no_split(root, tmp_path):
    copy = broken(root, tmp_path)
    (copy / "splits/val.json").unlink()
    return copy


def strange_split(root, tmp_path):
    copy = broken(root, tmp_path)
    write_splits(copy / "splits", test=[["998", "999"]])
    return copy


def corrupt_split(root, tmp_path):
    copy = broken(root, tmp_path)
    (copy / "splits/train.json").write_text('[["000",')
    return copy


def nowhere(root, tmp_path):
    return tmp_path / "nowhere"


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nowhere, "--data.root"),
        (no_split, "val.json"),
        (strange_split, "998"),
        (corrupt_split, "train.json"),
    ],
)
def test_bad_data_are_one_line_and_leave_nothing_behind(make, says, tiny_ffpp, tmp_path, capsys):
    root = make(tiny_ffpp, tmp_path)
    assert tokd("fit", "demo_vanilla", root, tmp_path / "runs", *TINY_STUDENT) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("experiment", "options", "says"),
    [
        ("demo_tokd", ["--model.teacher=/no/checkpoints/best.ckpt"], "train the teacher first"),
        ("demo_tokd", ["--model.teacher=null"], "teacher"),
        ("demo_vanilla", ["--trainer.accelerator=gpu"], "no GPU was found"),
        ("demo_vanilla", ["--data.rot=3"], "unknown option '--data.rot'"),
        ("demo_vanilla", ["--data.batch_size=7"], "half_batch"),
        ("demo_vanilla", ["--data.batch_size=4000"], "batch_size"),
        ("demo_vanilla", ["--model.student=nonet"], "nonet"),
        ("demo_vanilla", ["--model.lr_scheduler.total_steps=2"], "total_steps"),
        ("demo_vanilla", ["--log=fax"], "fax"),
        ("demo_vanilla", ["--monitor=val/frame/beauty"], "val/frame/beauty"),
        ("demo_vanilla", ["--trainer.precision=bf16-true"], "bf16-mixed"),
        ("demo_vanilla", ["--trainer.max_epoch=1"], "did you mean --trainer.max_epochs?"),
        ("demo_vanilla", ["demo_vanilla.yaml"], "a .yaml belongs behind --config"),
        ("demo_vanilla", ["--trainer.precision=64-true"], "32-true"),
        ("demo_teacher", ["--trainer.precision=16-true"], "16-mixed"),
        ("demo_vanilla", ["--trainer.sync_batchnorm=true"], "needs GPUs"),
        ("demo_vanilla", ["--trainer.max_epochs=0"], "max_epochs"),
        ("demo_vanilla", ["--trainer.limit_val_batches=0"], "limit_val_batches"),
        ("demo_vanilla", ["--trainer.max_epochs=soon"], "soon"),
        ("demo_vanilla", ["--trainer.gradient_clip_val=1"], "use --model.clip"),
        ("demo_teacher", ["--trainer.accumulate_grad_batches=2"], "use --model.accumulate"),
        ("demo_vanilla", ["--model.accumulate=3"], "3 accumulated parts"),
        ("demo_vanilla", ["--model.accumulate=0"], "accumulate must be between 1 and"),
        ("demo_teacher", ["--model.clip=0"], "clip must be above 0"),
        ("demo_vanilla", ["--checkpoint_every=0"], "--checkpoint_every must be"),
        ("demo_vanilla", ["--ckpt_path=/no.ckpt"], "/no.ckpt"),
        ("demo_vanilla", ["--seed_everything=-1"], "seed_everything"),
        ("demo_vanilla", ["--pictures=-1"], "--pictures must be a number from 0 on"),
        ("demo_teacher", ["--model.cutoff=3"], "cutoff"),
        ("demo_teacher", ["--model.pretrained=/no/weights.pth"], "/no/weights.pth"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case asks for a GPU that is not there")
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    experiment, options, says, tiny_ffpp, tmp_path, capsys
):
    small = {"demo_tokd": TINY_TOKD, "demo_vanilla": TINY_STUDENT, "demo_teacher": TINY_TEACHER}
    assert tokd("fit", experiment, tiny_ffpp, tmp_path, *small[experiment], *options) == 2
    error = capsys.readouterr().err
    assert [line for line in error.splitlines() if line.startswith("tokd: ")]
    assert says in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rotation_too_large_for_its_layout_says_what_fits(job, tiny_ffpp, tmp_path, capsys):
    teacher = folder(job, "teacher") / "checkpoints/best.ckpt"
    options = [*TINY_TOKD, f"--model.teacher={teacher}", "--model.distiller.dim=4096"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    assert "dim 4096 does not fit" in capsys.readouterr().err


@pytest.mark.slow
def test_a_student_s_checkpoint_is_no_teacher(job, tiny_ffpp, tmp_path, capsys):
    student = folder(job, "vanilla") / "checkpoints/best.ckpt"
    options = [*TINY_TOKD, f"--model.teacher={student}"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    assert "holds a student" in capsys.readouterr().err
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    options = [*TINY_TOKD, f"--model.teacher={tmp_path}/text.ckpt"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path, *options) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_test_before_the_fit_says_so(tiny_ffpp, tmp_path, capsys):
    assert tokd("test", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 2
    assert "train it first" in capsys.readouterr().err


def test_an_unknown_key_in_a_yaml_is_named(tiny_ffpp, tmp_path, capsys):
    text = (ROOT / "experiments/demo_vanilla.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("student:", "studnet:"))
    assert main(["fit", f"--config={tmp_path}/mine.yaml", f"--data.root={tiny_ffpp}"]) == 2
    assert "unknown option 'studnet'" in capsys.readouterr().err


def test_the_console_script_ends_with_one_line_and_code_2():
    script = Path(sys.executable).with_name("tokd")
    command = [script, "verify", "/dev/null/none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("tokd: ")
    assert ended.stderr.count("\n") == 1


def test_nobody_who_reads_on_is_no_mistake():
    code = (
        "import sys; from tokd_lightning import cli\n"
        "def say(verbs): print('x' * 100_000, flush=True); return cli.argparse.ArgumentParser()\n"
        "cli.parser = say\n"
        "sys.exit(cli.main(['methods']))"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as listing:
        listing.stdout.close()  # as `| head` does
        said = listing.stderr.read()
    assert (listing.returncode, said) == (141, b"")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(tiny_ffpp, tmp_path, capsys):
    options = [*TINY_STUDENT, "--model.lr_scheduler.max_lr=1e30"]
    for again in range(2):
        assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *options) == 2
        error = capsys.readouterr().err
        assert error.startswith("tokd: the loss of a batch in epoch 1 is not finite"), again
        assert error.count("\n") == 1
        [run] = tmp_path.iterdir()
        assert len(pd.read_csv(run / "nonfinite.csv")) == 8
        assert not (run / "metrics.json").exists()


@pytest.mark.thinned(4)
@pytest.mark.parametrize("found", ["inputs.json", "fit.yaml", "metrics.csv", ".fit.yaml.1.part"])
def test_a_fit_killed_before_its_first_checkpoint_starts_over(job, tiny_ffpp, tmp_path, found):
    """What a kill can leave of a run: the first of its files, in the order they are written."""
    done = folder(job, "vanilla")
    run = tmp_path / done.name
    run.mkdir()
    for name in ("inputs.json", "fit.yaml", "metrics.csv", ".fit.yaml.1.part"):
        source = "fit.yaml" if name.startswith(".") else name
        (run / name).write_text((done / source).read_text()[: -1 if name == source else 40])
        if name == found:
            break
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 0
    curves = pd.read_csv(run / "metrics.csv")
    whole = pd.read_csv(done / "metrics.csv").dropna(subset=["epoch"])
    assert curves["step"].tolist() == whole[whole["epoch"] == 0]["step"].tolist()[: len(curves)]
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "fit.yaml", "inputs.json", "metrics.csv", "metrics.json",
    ]  # fmt: skip


def tell_to_end(*hook):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("moment", ["on_train_batch_start", "on_validation_start"])
def test_a_run_told_to_end_exits_with_143_and_goes_on(
    moment, job, tiny_ffpp, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(EpochLines, moment, tell_to_end, raising=False)
        assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 143
    error = capsys.readouterr().err
    assert error.startswith("tokd: told to end: the same command resumes")
    assert error.count("\n") == 1
    assert tokd("fit", "demo_vanilla", tiny_ffpp, tmp_path, *TINY_STUDENT) == 0
    [run], done = tmp_path.iterdir(), folder(job, "vanilla")
    states = [
        torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for path in (run, done)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
