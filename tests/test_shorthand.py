"""What may be told in short: a run by its folder, a method by its name; and two files for one."""

import json
import re
import shlex
import shutil

import pytest
import yaml
from test_cli import SMALL, TINY_STUDENT, TINY_TOKD, folder, tokd
from test_experiments import ROOT, parse

from tokd_lightning.cli import main
from tokd_lightning.errors import TokdError
from tokd_lightning.modules.checkpoint import read_checkpoint
from tokd_lightning.runs.identity import config_hash
from tokd_lightning.training.shorthand import written_out

RES18 = f"{ROOT}/experiments/ffpp_res18t.yaml"


@pytest.fixture
def run(trained, tmp_path):
    """A run that a test may write into."""
    return shutil.copytree(trained, tmp_path / trained.name)


def scores_of(run):
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    return {key: value for key, value in metrics.items() if key.startswith("test/")}


@pytest.mark.slow
def test_a_run_is_tested_by_its_folder_or_its_checkpoint(run, tiny_ffpp, capsys):
    before = scores_of(run)
    best = run / "checkpoints" / "best.ckpt"
    assert main(["test", str(best), f"--data.root={tiny_ffpp}", "--pictures=0"]) == 0
    assert f"{run.name}, test:" in capsys.readouterr().out
    assert scores_of(run) == before
    assert main(["predict", str(run)]) == 0
    scores = (run / "predict_frames.csv").read_bytes()
    assert scores == (run / "test_frames.csv").read_bytes()


@pytest.mark.slow
def test_a_fit_goes_on_by_its_folder_as_what_it_was_begun_as(run, capsys):
    begun = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    assert main(["fit", str(run)]) == 0
    ended = json.loads((run / "metrics.json").read_text())
    for key in ("recipe", "config", "data"):
        assert ended["hashes"][key] == begun["hashes"][key], key
    inputs = json.loads((run / "inputs.json").read_text())
    assert inputs["recipe"] == begun["hashes"]["recipe"]
    assert main(["fit", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_may_stand_before_between_or_behind_the_options(run):
    options = ["--log", "none", "--reuse", "--data.num_workers=0", "--seed_everything", "-1"]
    whole = ["fit", "--config", f"{run}/fit.yaml", *options]
    for at in (0, 2, 3, 4, 6):
        assert written_out(["fit", *options[:at], str(run), *options[at:]]) == whole
    assert written_out(whole) == whole


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["test", "runs/none"], "runs/none does not exist: name a run that tokd fit made"),
        (["test", "{empty}"], "has no fit.yaml: name a run that tokd fit made, runs/NAME"),
        (["fit", "{empty}"], "or an experiment with --config experiments/….yaml"),
        (["test", "{run}", "{run}"], "one run at a time"),
        (["test"], "name a run: tokd test runs/NAME"),
        (["test", "--config", "{run}"], "is a folder; a run stands behind the command: tokd te"),
        (["fit", "demo_vanilla.yaml"], "a .yaml belongs behind --config"),
    ],
)
def test_what_is_no_run_is_one_line(trained, tmp_path, capsys, command, said):
    given = [part.format(empty=tmp_path, run=trained) for part in command]
    assert main(given) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


SHORT = {
    "AT": "at", "sp": "sp", "KD": "hinton", "pkt": "pkt", "VID": "vid", "FitNet": "fitnet",
    "add": "add", "tokd": "tokd_ffpp", "TOKDWithADD": "tokd_with_add", "vanilla": "vanilla",
}  # fmt: skip


def written(tmp_path, *options):
    return parse("fit", "--config", RES18, "--runs", tmp_path, *options)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", SHORT)
def test_a_method_by_its_short_name_is_what_the_tables_train(name, tmp_path):
    """Nothing of TOKD's options stays, its rotation least of all."""
    part = f"{ROOT}/configs/distillers/{SHORT[name]}.yaml"
    short, file = (written(tmp_path, f"--model.distiller={value}") for value in (name, part))
    assert short.run.folder == file.run.folder
    assert config_hash(short.resolved) == config_hash(file.resolved)


@pytest.mark.slow
def test_a_short_name_leaves_the_experiment_s_own_method_as_it_is(tmp_path):
    alone = written(tmp_path)
    assert written(tmp_path, "--model.distiller", "tokd").resolved == alone.resolved


def test_the_class_after_model_help_is_no_run():
    given = ["fit", "--model.help", "DistillModule"]
    assert written_out(given) == given


def test_what_is_no_method_is_left_to_the_parser():
    given = ["fit", "--config", RES18, "--model.distiller", "configs/distillers/at.yaml"]
    assert written_out(given) == given
    given[-1] = "nowhere.Method"
    assert written_out(given) == given


@pytest.mark.slow
def test_a_second_file_says_what_is_changed_of_a_shipped_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    changed = {
        "data": {"init_args": {"size": 224}},
        "model": {"init_args": {"distiller": {"init_args": {"dim": 512}}}},
        "trainer": {"max_epochs": 3},
    }
    mine.write_text(yaml.safe_dump(changed))
    runs = ["--config", RES18, "--runs", tmp_path]
    options = ["--data.size=224", "--model.distiller.dim=512", "--trainer.max_epochs=3"]
    file, line = parse("fit", *runs, "--config", mine), parse("fit", *runs, *options)
    assert file.resolved == line.resolved
    assert file.run.folder.name == line.run.folder.name
    assert file.run.folder.name.startswith("ffpp-c40_resnet18_thin_tokd-both_s0-")
    assert file.recipe == line.recipe


def test_the_next_step_can_be_copied(tiny_ffpp, tmp_path, capsys):
    runs = tmp_path / "my runs"
    assert tokd("fit", "demo_vanilla", tiny_ffpp, runs, *TINY_STUDENT) == 0
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("next: tokd ")]
    assert shlex.split(line)[2:] == ["test", str(folder(runs, "vanilla"))]


def test_without_its_teacher_a_fit_ends_before_wandb_is_asked(tiny_ffpp, tmp_path, capsys):
    teacher = tmp_path / "runs" / "ffpp-c23_teacher-both_s1" / "checkpoints" / "best.ckpt"
    given = [*TINY_TOKD, f"--model.teacher={teacher}", "--log=wandb"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, tmp_path / "runs", *given) == 2
    told = capsys.readouterr()
    assert "wandb" not in told.out + told.err
    wanted = "ffpp_teacher.yaml --data.quality c23 --seed_everything 1"
    assert wanted in told.err
    assert not (tmp_path / "runs").exists()


TEXTS = [path.read_text() for path in sorted((ROOT / "experiments").glob("*.yaml"))]
HAS = "\n    teacher: "
NAMED = {
    text.partition(HAS)[2].split()[0]: text.partition("# First:")[2]
    for text in TEXTS
    if HAS in text
}


@pytest.mark.parametrize("teacher", NAMED)
def test_the_teacher_that_is_missing_is_the_one_its_header_names(teacher, tmp_path, monkeypatch):
    """Each experiment says in its head which teacher comes first."""
    monkeypatch.chdir(tmp_path)
    [said] = re.findall(r"tokd fit --config (\S+)", NAMED[teacher].splitlines()[0])
    with pytest.raises(TokdError, match=rf"tokd fit --config {said}\)"):
        read_checkpoint(teacher, "teacher")


def test_a_teacher_of_no_shipped_experiment_is_none_of_them(tmp_path):
    for name in ("ffpp-c40_teacher-frequency_s0", "mine-c40_teacher-both_s0", "teacher"):
        with pytest.raises(TokdError, match="train the teacher first or name another"):
            read_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt", "teacher")


def test_a_teacher_that_is_being_trained_is_said_to_be(tmp_path):
    run = tmp_path / "ffpp-c40_teacher-both_s0"
    run.mkdir()
    (run / "fit.yaml").write_text("")
    with pytest.raises(TokdError, match=rf"tokd fit {run} resumes it"):
        read_checkpoint(run / "checkpoints" / "best.ckpt", "teacher")


def test_with_rerun_nothing_is_set_aside_for_a_fit_that_cannot_begin(trained, tiny_ffpp, capsys):
    before = sorted(trained.parent.iterdir())
    given = [f"--config={ROOT}/experiments/demo_tokd.yaml", f"--data.root={tiny_ffpp}"]
    given += [f"--runs={trained.parent}", f"--name={trained.name}", *SMALL, *TINY_TOKD]
    assert main(["fit", *given, "--model.teacher=/no/best.ckpt", "--rerun"]) == 2
    assert "no checkpoint at /no/best.ckpt" in capsys.readouterr().err
    assert sorted(trained.parent.iterdir()) == before
