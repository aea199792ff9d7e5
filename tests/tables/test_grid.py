"""The paper's tables as cells, against the published files and against what `tokd fit` makes."""

from collections import Counter

import pytest
from test_experiments import ROOT, parse

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import recipe_hash
from tokd_lightning.tables.grid import (
    over_seeds,
    select,
    settings_of,
    student,
    teacher_of,
    with_teachers,
)
from tokd_lightning.tables.paper import PAPER, TABLES, paper_table

THIRD = with_teachers(paper_table("table3").cells)
ALL = {
    cell.name: cell
    for key in TABLES
    for datasets in (PAPER, ("demo",))
    for cell in with_teachers(paper_table(key, datasets).cells)
}
LATER = sorted(ALL.keys() - {cell.name for cell in THIRD})


def test_table_3_has_78_cells_and_2_teachers():
    assert len(THIRD) == len({cell.name for cell in THIRD}) == 80
    assert [cell.name for cell in THIRD[:2]] == [
        "ffpp-c40_teacher-both_s0",
        "celebdf-original_teacher-both_s0",
    ]
    students = [cell for cell in THIRD if cell.role == "student"]
    assert Counter(cell.data for cell in students) == {"ffpp": 39, "celebdf": 39}
    assert set(Counter((c.data, c.backbone) for c in students).values()) == {13}
    assert Counter(cell.branches for cell in students) == {"none": 6, "rgb": 36, "both": 36}


def test_every_published_number_of_table_3_stands_beside_its_cell():
    table = paper_table("table3")
    found = {
        (e.cell.data, e.cell.backbone, e.cell.method, e.cell.branches): e.published
        for e in table.entries
    }
    assert found["ffpp", "resnet18_thin", "tokd", "both"] == 82.45
    assert found["celebdf", "xception", "sp", "rgb"] == 97.92
    assert found["ffpp", "resnet34_thin", "fitnet", "both"] == 81.95
    assert None not in found.values()


@pytest.mark.thinned(40)
@pytest.mark.parametrize("cell", THIRD, ids=lambda cell: cell.name)
def test_fit_names_each_run_of_table_3_as_the_grid_does(cell, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    run = parse("fit", *cell.arguments(tmp_path, tmp_path / "runs", named=False)).run.folder
    assert run == tmp_path / "runs" / cell.name


@pytest.mark.thinned(90)
@pytest.mark.parametrize("name", LATER)
def test_fit_names_every_run_as_the_grid_does(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert parse("fit", *ALL[name].arguments(named=False)).run.folder.name == name


@pytest.mark.slow
def test_options_of_all_cells_are_part_of_the_name_and_places_are_not(monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = {}
    for common in ((("trainer.max_epochs", 2), ("data.size", 64)), (("data.num_workers", 0),)):
        for cell in over_seeds([teacher_of("demo"), student("demo", "resnet18_thin", "at", "rgb")],
                               2, common):  # fmt: skip
            cells[cell.name] = cell
            assert parse("fit", *cell.arguments()).run.folder.name == cell.name
    assert "synthetic-c40_resnet18_thin_at-rgb_s1" in cells
    assert "synthetic-c40_teacher-both_s0" in cells
    assert len(cells) == 6


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "setting", ["trainer.max_epochs=15", "model.optimizer.lr=1e-3", "model.distiller.alpha_rgb=50"]
)
def test_an_option_is_one_run_however_it_is_written_and_whatever_the_experiment_says(
    setting, monkeypatch, tmp_path
):
    monkeypatch.chdir(ROOT)
    cells = [teacher_of("ffpp"), student("ffpp", "resnet18_thin", "tokd", "both")]
    for cell in over_seeds(cells, 1, settings_of([setting])):
        arguments = cell.arguments(tmp_path, tmp_path / "runs")
        assert parse("fit", *arguments).run.folder == tmp_path / "runs" / cell.name
        assert recipe_hash(arguments) == recipe_hash(cell.arguments())


def test_one_teacher_of_seed_0_serves_all_seeds():
    cells = with_teachers(over_seeds(select(THIRD, ["ffpp"], method=["tokd", "vanilla"]), 3, ()))
    assert sum(cell.role == "teacher" for cell in cells) == 1
    assert len(cells) == 1 + 3 * 3 * 3
    needed = {cell.teacher.name for cell in cells if cell.teacher}
    assert needed == {"ffpp-c40_teacher-both_s0"}


def test_what_several_tables_need_is_one_run():
    shared = student("ffpp", "resnet18_thin", "tokd", "both").name
    for key in ("table3", "table5", "figure3"):
        assert shared in {cell.name for cell in paper_table(key).cells}
    assert paper_table("table5").entries[3].published == 82.94
    assert paper_table("table5").entries[3].cell.name == shared
    pretrained = {cell.name for key in ("table2", "table4") for cell in paper_table(key).cells}
    assert {cell.name for cell in paper_table("table7").cells} < pretrained
    assert not {cell.name for cell in THIRD if cell.role == "student"} & pretrained


def test_filters_name_what_they_do_not_know():
    assert len(select(THIRD, ["ffpp"], ["resnet18_thin"])) == 14
    assert len(select(THIRD, method=["tokd"], branches=["both"])) == 6
    with pytest.raises(TokdError, match="--method kd2: choose from vanilla, hinton, tokd, at"):
        select(THIRD, method=["kd2"])
    with pytest.raises(TokdError, match="this table has no cell with --dataset demo"):
        select(THIRD, ["demo"])
