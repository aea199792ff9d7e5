"""Names of runs against the experiments as they are shipped."""

import shutil
from dataclasses import replace

import pytest
import yaml
from test_experiments import ROOT, parse

from tokd_lightning.cli import main
from tokd_lightning.runs import shipped
from tokd_lightning.tables.grid import student, teacher_of

CELL = "ffpp-c40_resnet18_thin_tokd-both_s0"
TEACHER = "ffpp-c40_teacher-both_s0"


def own(tmp_path, name, change=lambda config: None):
    """Write an experiment file of one's own, made from a shipped one."""
    config = yaml.safe_load(shipped.as_yaml(f"experiments/{name}.yaml"))
    change(config)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    return f"--config={tmp_path}/mine.yaml"


def named(*options):
    return parse("fit", *options).run.folder.name


def toy(config):
    config["trainer"]["max_epochs"] = 1
    config["data"]["init_args"]["size"] = 96


def test_the_stored_experiments_are_those_of_the_source_tree(tmp_path):
    shipped.write_shipped(ROOT, tmp_path / "shipped.csv")
    assert (tmp_path / "shipped.csv").read_text() == shipped._FILE.read_text()


@pytest.mark.slow
def test_a_copy_of_a_shipped_file_is_the_paper_s_cell_and_a_changed_one_is_not(tmp_path):
    shipped_file = f"--config={ROOT}/experiments/ffpp_res18t.yaml"
    assert named(own(tmp_path, "ffpp_res18t")) == CELL
    toys = [named(own(tmp_path, "ffpp_res18t", toy))]
    toys.append(named(shipped_file, "--trainer.max_epochs=1", "--data.size=96"))
    assert toys[0] == toys[1]  # one configuration, one run, however it is written
    assert toys[0].startswith(f"{CELL}-")
    assert named(own(tmp_path, "ffpp_teacher", toy)).startswith(f"{TEACHER}-")


@pytest.mark.slow
def test_two_files_are_one_configuration(tmp_path):
    (tmp_path / "changes.yaml").write_text("trainer:\n  max_epochs: 1\n")
    base = f"--config={ROOT}/experiments/ffpp_res18t.yaml"
    both = named(base, f"--config={tmp_path}/changes.yaml")
    assert both == named(base, "--trainer.max_epochs=1")


@pytest.mark.slow
def test_data_and_networks_that_the_paper_has_not_are_named_after_their_own_file(tmp_path):
    def mine(config):
        toy(config)
        config["data"]["init_args"]["name"] = "mine"

    assert named(own(tmp_path, "ffpp_res18t", mine)) == "mine-c40_resnet18_thin_tokd-both_s0"
    backbone = own(tmp_path, "ffpp_res18t", lambda c: c["model"]["init_args"].update(student="x"))
    assert named(backbone) == "ffpp-c40_x_tokd-both_s0"


@pytest.mark.slow
def test_a_run_that_an_earlier_version_named_is_found(tmp_path):
    mine = own(tmp_path, "ffpp_res18t", toy)
    runs = f"--runs={tmp_path}/runs"
    folder = tmp_path / "runs" / CELL
    folder.mkdir(parents=True)
    (folder / "fit.yaml").write_text(yaml.safe_dump(parse("fit", mine, runs).resolved))
    assert named(mine, runs) == CELL
    (folder / "fit.yaml").write_text(yaml.safe_dump({"trainer": {}}))
    assert named(mine, runs).startswith(f"{CELL}-")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("experiments", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_that_was_changed_in_place_names_the_cells_of_a_table_apart(tree, capsys):
    cells = [teacher_of("ffpp"), student("ffpp", "resnet18_thin", "tokd", "both")]
    assert [cell.name for cell in cells] == [TEACHER, CELL]
    shipped.edits.cache_clear()
    for path in (tree / "experiments").glob("ffpp_*.yaml"):
        text = path.read_text().replace("    num_workers: 8\n", "    max_unpaired: 0.5\n")
        path.write_text(text)
    path = tree / "configs/distillers/fitnet.yaml"
    path.write_text(path.read_text() + "  max_unpaired: 0.5\n")
    cells = [replace(cell) for cell in cells]  # which know no name yet
    for cell in cells:
        assert cell.name.startswith((f"{TEACHER}-", f"{CELL}-"))
        assert parse("fit", *cell.arguments()).run.folder.name == cell.name
    assert cells[1].teacher == cells[0]
    assert student("celebdf", "resnet18_thin", "tokd", "both").edits() == {}
    fitnet = student("celebdf", "resnet18_thin", "fitnet", "both")
    assert list(fitnet.edits()) == ["model.distiller.max_unpaired"]
    given = ["--dataset", "ffpp", "--method", "vanilla", "--student", "resnet18_thin", "--dry-run"]
    assert main(["table", "3", *given]) == 0
    assert "is not as shipped (data.max_unpaired)" in capsys.readouterr().out
    shipped.edits.cache_clear()


@pytest.mark.parametrize("key", ["trainer.limit_test_batches=2", "trainer.fast_dev_run=true"])
def test_settings_by_which_no_cell_is_ever_done_are_refused(key, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["table", "3", "--dry-run", "--set", key]) == 2
    assert "so that no run of it would be done" in capsys.readouterr().err
