import argparse
import re
import shlex

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from tokd_lightning.cli import main, parser
from tokd_lightning.commands import table
from tokd_lightning.runs.identity import _LOADER
from tokd_lightning.runs.shipped import shipped
from tokd_lightning.schedule.plan import make_plan
from tokd_lightning.schedule.reproduce import dry_run
from tokd_lightning.tables import grid
from tokd_lightning.training import help as fits
from tokd_lightning.training.arguments import add_arguments

VERBS = re.findall(r"^    ([a-z]+)(?: |$)", parser().format_help(), re.MULTILINE)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", "80")

    def read(verb: str) -> str:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        return capsys.readouterr().out

    return read


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_says_what_it_does_by_example_in_80_columns(page, verb: str):
    text = page(verb)
    assert max(map(len, text.splitlines())) <= 80
    told, _, rest = text.partition("\n\n")[2].partition("\n\nexamples:\n")
    assert told.endswith(".")
    lines = rest.partition("\n\n")[0].replace("\\\n", " ").splitlines()
    assert lines
    for line in lines:
        program, *given = shlex.split(line)
        assert (program, given[0]) == ("tokd", verb)
        if verb not in fits.HELP:
            parser().parse_args(given)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_and_argument_of_a_verb_has_a_help_text(verb: str):
    [commands] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    actions = [
        action
        for action in commands.choices[verb]._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    assert [action.dest for action in actions if not action.help] == []


def test_every_option_of_a_fit_has_a_help_text():
    made = LightningArgumentParser()
    add_arguments(made)
    own = [action for action in made._actions if action.option_strings]
    assert len(own) > 8
    assert [action.dest for action in own if not action.help] == []


def test_the_filters_of_a_table_are_told(page):
    assert len(VERBS) == 27
    known = {
        **{"dataset": grid.DATASETS, "student": grid.STUDENTS, "branches": grid.BRANCHES},
        "method": (*grid.METHODS, "teacher", *grid.DETECTORS),
    }
    told = {name: re.sub(r" \(.*\)", "", text).split(", ") for name, text in table._FILTERS.items()}
    assert told == {name: list(names) for name, names in known.items()}


def test_a_table_does_not_start_with_curves_that_go_nowhere(capsys: pytest.CaptureFixture[str]):
    assert main(["table", "3", "--dry-run", "--log", "wandb,comet"]) == 2
    assert "argument --log: 'comet' is not one of wandb, tensorboard" in capsys.readouterr().err


def test_libyaml_reads_the_shipped_files_as_python_does():
    for content in shipped().values():
        text = yaml.safe_dump(content)
        assert yaml.load(text, _LOADER) == yaml.safe_load(text)


def test_a_table_names_each_of_its_cells_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    named = []
    original = grid.name_of
    monkeypatch.setattr(grid, "name_of", lambda *args: named.append(args) or original(*args))
    plan = make_plan("table3", runs=tmp_path)
    named.clear()
    dry_run(plan)
    assert len(named) <= 5 * len(plan.cells)  # its own, its seed's, its place's, its teacher's
