"""The shipped experiments are found by name, in any folder."""

import subprocess

import pytest
from small_environment import build_wheel, make
from test_cli import SMALL, TINY_STUDENT
from trees import make_ffpp

from tokd_lightning.cli import main
from tokd_lightning.runs.identity import read_whole, recipe, recipe_hash
from tokd_lightning.runs.recipe import recipe_file, recipes
from tokd_lightning.training.shorthand import written_out


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_a_file_here_or_a_shipped_one(elsewhere):
    shipped = recipes() / "experiments/ffpp_res18t.yaml"
    for name in ("ffpp_res18t", "ffpp_res18t.yaml", "experiments/ffpp_res18t.yaml"):
        assert recipe_file(name) == shipped
    at = "configs/distillers/at.yaml"
    assert recipe_file(at) == recipes() / at
    for unknown in ("ffpp_res99", "experiments/ffpp_res99.yaml", "/ffpp_res18t"):
        assert str(recipe_file(unknown)) == unknown
    (elsewhere / "experiments").mkdir()
    own = elsewhere / "experiments/ffpp_res18t.yaml"
    own.write_text(shipped.read_text())
    assert recipe_file("ffpp_res18t").resolve() == own


def test_a_fit_takes_names_and_its_recipe_is_that_of_the_files(elsewhere, monkeypatch):
    given = ["--config=ffpp_res18t", "--model.distiller", "configs/distillers/at.yaml", "-c", "own"]
    shipped = str(recipes() / "experiments/ffpp_res18t.yaml")
    distiller = str(recipes() / "configs/distillers/at.yaml")
    expected = [f"--config={shipped}", "--model.distiller", distiller, "-c", "own"]
    assert written_out(["fit", *given]) == ["fit", *expected]
    short = ["--config", "ffpp_res18t", *given[1:3]]
    asked, hashed = recipe(short), recipe_hash(short)
    assert read_whole("ffpp_res18t")["data"]["init_args"]["size"] == 299
    monkeypatch.chdir(recipes())
    long = ["--config", "experiments/ffpp_res18t.yaml", *given[1:3]]
    assert (recipe(long), recipe_hash(long)) == (asked, hashed)


def test_a_name_that_is_none_is_one_line(elsewhere, capsys):
    assert main(["fit", "--config", "ffpp_res99"]) == 2
    error = capsys.readouterr().err
    assert "no shipped experiment of that name: tokd init" in error
    assert error.count("\n") == 1


def test_init_copies_all_and_replaces_nothing(elsewhere, capsys):
    assert main(["init", "work"]) == 0
    assert "next: cd work" in capsys.readouterr().out
    for name in ("experiments", "configs"):
        made = {p.relative_to(elsewhere / "work") for p in (elsewhere / "work" / name).rglob("*")}
        assert made == {p.relative_to(recipes()) for p in (recipes() / name).rglob("*")}
    assert main(["init", "work"]) == 2
    assert "exists: it is not replaced" in capsys.readouterr().err
    assert main(["init", "/proc/own"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tokd: /proc/own cannot be written: ")
    assert said.count("\n") == 1


def test_a_table_is_planned_in_an_empty_folder(elsewhere, capsys):
    assert main(["table", "3", "--dry-run", "--commands", "--student", "resnet18_thin"]) == 0
    out = capsys.readouterr().out
    assert "--config experiments/ffpp_res18t.yaml" in out
    assert not any(elsewhere.iterdir())


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_takes_the_first_steps(tmp_path):
    (tmp_path / "wheel").mkdir()
    tokd = make(tmp_path / "env", build_wheel(tmp_path / "wheel"), "train", "faces", "hub")
    work = tmp_path / "work"
    work.mkdir()
    data = make_ffpp(tmp_path / "data", size=64)

    def ran(*command):
        words = [str(tokd), *map(str, command)]
        done = subprocess.run(words, cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    python = tokd.with_name("python")
    code = "import tokd_lightning; print(tokd_lightning.__file__)"
    place = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=work)
    assert place.stdout.startswith(str(tmp_path / "env"))
    options = ["--data.root", data, *SMALL, *TINY_STUDENT]
    for verb in ("fit", "test"):
        ran(verb, "--config", "demo_vanilla", *options)
    [run] = (work / "runs").iterdir()
    assert (run / "metrics.json").is_file()
    ran("export", run, "--out", "model")
    assert "of 1 files scored" in ran("detect", "model", next(data.rglob("*.png")))
    assert "Vanilla" in ran("table", "3", "--dataset", "demo", "--data", data, "--dry-run")
    ran("init", "own")
    ran("fit", "--config", "own/experiments/demo_vanilla.yaml", *options, "--name", "edited")
    assert (work / "runs/edited/metrics.json").is_file()
