"""`tokd table generalise`: the ablation of training data, from its cells to the report."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score
from test_experiments import ROOT, parse

from tokd_lightning.metrics.classification import metrics_by_method
from tokd_lightning.report.build import build
from tokd_lightning.report.frames import table_frame
from tokd_lightning.report.page import html
from tokd_lightning.report.reader import Reader, state_of
from tokd_lightning.tables.generalise import OF, ROWS, WITHOUT, generalise
from tokd_lightning.tables.grid import over_seeds
from tokd_lightning.tables.state import Looker
from tokd_lightning.tables.statistics import Summary, student_quantile

TABLE = generalise(["celebdf", "demo-c23"])
CELLS = {entry.row.partition(", ")[2]: entry.cell for entry in TABLE.entries}


def test_rows_are_none_each_switch_alone_and_all():
    options = {row: dict(cell.extra) for row, cell in CELLS.items()}
    assert options["none"] == {}
    alone = [tuple(its) for row, its in options.items() if len(its) == 1]
    assert alone == [("data.balance",), ("data.forge",), ("data.degrade",), ("data.leave_out",)]
    assert {key for its in options.values() for key in its} == {*options["all"]}
    assert len({cell.name for cell in CELLS.values()}) == len(ROWS) == len(CELLS)
    assert {cell.data for cell in CELLS.values()} == {"demo-c23"}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("row", ROWS)
def test_fit_names_the_runs_as_the_grid_does(row, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert parse("fit", *CELLS[row].arguments(named=False)).run.folder.name == CELLS[row].name


def test_rows_of_other_data_are_compared_with_their_own_hashes():
    keys = {row: cell.rows for row, cell in CELLS.items()}
    assert keys["none"] == keys["paired"] == keys["degrade"] == "demo-c23"
    assert keys["leave-out"] == keys["leave-out, paired"]
    assert len({keys[row] for row in ("none", "SBI", "leave-out", "all")}) == 4


@pytest.mark.parametrize("degrees", [1, 2, 4, 9, 30])
def test_student_s_quantile_is_scipy_s(degrees):
    assert student_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-6)


def test_the_interval_of_a_mean_is_scipy_s():
    values = [81.0, 84.5, 82.2]
    found = Summary(float(np.mean(values)), float(np.std(values, ddof=1)), 3).interval
    expected = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert found == pytest.approx(expected, rel=1e-6)
    assert Summary(1.0, None, 1).interval is None


@pytest.fixture
def runs(tmp_path):
    """Tested runs of one row with three seeds, whose scores are drawn."""
    for cell in over_seeds([CELLS["leave-out"]], 3, ()):
        rng = np.random.default_rng(cell.seed)
        methods = ["real", "Deepfakes", "Face2Face", "FaceSwap"]
        frames = pd.DataFrame({"method": np.repeat(methods, [30, 20, 10, 25])})
        frames["label"] = (frames["method"] != "real").astype(int)
        frames["dataset"], frames["video"] = "synthetic", np.arange(len(frames)).astype(str)
        shift = frames["method"].map({"real": 0, "Deepfakes": 0.1, "Face2Face": 0.3}).fillna(0.4)
        frames["p_fake"] = (rng.random(len(frames)) * 0.5 + shift).clip(0, 1)
        folder = tmp_path / cell.name
        folder.mkdir()
        frames.to_csv(folder / "test_frames.csv", index=False)
        metrics_by_method(frames).to_csv(folder / "test_methods.csv", index=False)
        (folder / "metrics.json").write_text(
            json.dumps({"metrics": {"test/frame/acc": 0.5, "test/frame/auc": 0.5}})
        )
    return tmp_path


def test_the_report_has_the_auc_of_the_left_out_forgery_and_of_the_others(runs):
    made = build([TABLE], Reader(runs, state_of))
    [table] = made.tables
    name = next(row for row in table.rows if row.endswith(", leave-out"))
    for column, metric, held in (("AUC, others", WITHOUT, False), ("AUC, Deepfakes", OF, True)):
        expected = []
        for folder in sorted(runs.iterdir()):
            frames = pd.read_csv(folder / "test_frames.csv")
            kept = frames[(frames["label"] == 0) | ((frames["method"] == "Deepfakes") == held)]
            expected.append(100 * roc_auc_score(kept["label"], kept["p_fake"]))
        filled = table.entries[name, column]
        assert filled.values[metric].mean == pytest.approx(np.mean(expected), abs=1e-9)
        low, high = scipy.stats.t.interval(0.95, 2, np.mean(expected), scipy.stats.sem(expected))
        text = f"{np.mean(expected):.2f} [{low:.2f}, {high:.2f}]"
        assert table_frame(table).loc[(name, "ours"), column] == text
        assert f"[{low:.2f}, {high:.2f}]" in html(made)
    assert "not run" in table_frame(table).to_string()


def test_a_run_without_a_readable_table_of_forgeries_is_warned_of(runs):
    (next(iter(sorted(runs.iterdir()))) / "test_methods.csv").write_text("nothing")
    made = build([TABLE], Reader(runs, state_of))
    assert any("is not a table of metrics by forgery" in line for line in made.warnings)


def test_a_left_out_run_is_not_stale_because_others_read_more(runs, monkeypatch):
    monkeypatch.chdir(ROOT)
    cell = CELLS["leave-out"]
    looker = Looker(runs, {"demo-c23": {"data": "all"}, cell.rows: {"data": "fewer"}}, False)
    assert "data" not in looker._changed(cell, {"data": "fewer", "recipe": looker._recipe(cell)})
    assert "data" in looker._changed(cell, {"data": "all", "recipe": looker._recipe(cell)})
