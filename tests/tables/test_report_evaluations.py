"""The report's section beyond the paper's metrics: what was planted is there, and only that."""

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from planted_evaluations import plant_evaluated
from test_report_page import Tags

from tokd_lightning.cli import main
from tokd_lightning.report.build import build
from tokd_lightning.report.evaluated_figures import reliability_figure, robustness_figure
from tokd_lightning.report.evaluated_frames import evaluated_parts, evaluations_frame
from tokd_lightning.report.page import html, markdown
from tokd_lightning.report.reader import Reader
from tokd_lightning.tables.paper import paper_table

GOOD, BAD = "synthetic-c23_teacher-both_s0", "synthetic-c23_<b>_vanilla-none_s0"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    plant_evaluated(tmp_path / "runs", GOOD, 2.0)
    plant_evaluated(tmp_path / "runs", BAD, 0.5)
    return tmp_path / "runs"


def made(runs: Path, dataset: str = "demo"):
    return build([paper_table("table3", (dataset,))], Reader(runs))


def record(runs: Path, run: str):
    return json.loads((runs / run / "evaluations/synthetic-c23/evaluation.json").read_text())


@pytest.mark.slow
def test_numbers_are_in_the_page_in_markdown_and_in_full_in_the_csv(runs: Path):
    report = made(runs)
    page, text = html(report), markdown(report)
    rows = list(
        csv.DictReader(io.StringIO(evaluations_frame(report.evaluated).to_csv(index=False)))
    )
    for run in (GOOD, BAD):
        told = record(runs, run)
        frame, points = told["calibration"]["frame"], told["thresholds"]["frame"]
        shown = [frame["ece"], frame["brier"], told["metrics"]["test/video/auc"]]
        shown += [points["here"][1]["tpr"], points["validation"][1]["fpr"]]
        shown += [row["frame"]["recall_at_fpr"] for row in told["forgeries"]]
        shown.append(told["metrics"]["test/frame/auc"] - 0.06)  # mean under perturbations
        for value in shown:
            assert f"{100 * value:.2f}" in page
            assert f"{100 * value:.2f}" in text
        its = [row for row in rows if row["run"] == run]
        [ece] = [r for r in its if (r["metric"], r["level"]) == ("ece", "frame")]
        assert float(ece["value"]) == frame["ece"]
        [auc] = [
            r
            for r in its
            if (r["name"], r["strength"], r["level"], r["metric"]) == ("blur", "3", "video", "auc")
        ]
        wanted = told["metrics"]["test/video/auc"] - 0.06
        assert (float(auc["value"]), auc["parameter"]) == (pytest.approx(wanted), "1.5")
    assert "too few reals (60) for 1 %" in page
    assert BAD not in page


def test_every_number_of_the_overview_stands_under_its_head(runs: Path):
    [its] = made(runs).evaluated
    overview, *_, forgeries = evaluated_parts(its)
    for run, found in overview.frame.iterrows():
        told = record(runs, run)
        wanted = {
            "AUC": told["metrics"]["test/frame/auc"],
            "ECE": told["calibration"]["frame"]["ece"],
            "Video ECE": told["calibration"]["video"]["ece"],
            "TPR at FPR 5 %": told["thresholds"]["frame"]["here"][1]["tpr"],
            "Perturbed AUC": told["metrics"]["test/frame/auc"] - 0.06,
        }
        for head, value in wanted.items():
            assert found[head] == f"{100 * value:.2f}"
    (run, _), first = next(forgeries.frame.iterrows())
    told = record(runs, run)["forgeries"][0]
    assert first["at 0.5"] == f"{100 * told['frame']['recall']:.2f}"
    assert first["Video at FPR 5 %"] == f"{100 * told['video']['recall_at_fpr']:.2f}"


def test_the_page_is_sound(runs: Path):
    page = html(made(runs))
    tags = Tags()
    tags.feed(page)
    assert (tags.open, tags.wrong) == ([], [])
    assert {name for name, number in tags.ids.items() if number > 1} == set()
    assert set(re.findall(r'href="#([\w-]+)"', page)) <= set(tags.ids)
    assert 'id="evaluations"' in page


def curves(figure):
    """The drawn lines with markers, panel by panel."""
    return [
        [(x, y) for x, y in zip(*line.get_data(), strict=True)]
        for axes in figure.axes
        for line in axes.lines
        if line.get_marker() == "o"
    ]


def test_curves_fall_as_planted_and_the_better_run_is_above(runs: Path):
    [its] = made(runs).evaluated
    lines = curves(robustness_figure(its))
    assert len(lines) == 2 * 8
    assert [one.run for one in its.runs] == [BAD, GOOD]
    for bad, good in zip(lines[::2], lines[1::2], strict=True):
        assert len(bad) == len(good) == 6
        assert all(low[1] < high[1] for low, high in zip(bad, good, strict=True))
        falls = [after[1] - before[1] for before, after in pairwise(good)]
        assert falls == pytest.approx([falls[0]] * 5)
        assert falls[0] < 0


def test_reliability_has_a_panel_a_run_with_frames_and_videos(runs: Path):
    [its] = made(runs).evaluated
    lines = curves(reliability_figure(its))
    assert len(lines) == 4
    bins = record(runs, BAD)["calibration"]["frame"]["bins"]
    found = zip(bins["count"], bins["p_fake"], bins["fake"], strict=True)
    assert np.allclose(lines[0], [(p, fake / n) for n, p, fake in found if n])
    assert all(0 <= y <= 1 for line in lines for _, y in line)


@pytest.mark.slow
def test_of_many_runs_the_figures_show_the_best_eight(tmp_path: Path):
    for number in range(10):
        plant_evaluated(tmp_path, f"synthetic-c23_{number}", 0.2 + 0.3 * number)
    report = made(tmp_path)
    [its] = report.evaluated
    figure = robustness_figure(its)
    assert len(curves(figure)) == 8 * 7
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [f"synthetic-c23_{number}" for number in range(2, 10)]
    assert "the 8 runs of the highest AUC" in html(report)
    assert len(its.runs) == 10


def test_curves_of_other_frames_are_left_out_and_named(tmp_path: Path):
    plant_evaluated(tmp_path, GOOD, 2.0, measured_on="e" * 64)
    report = made(tmp_path)
    [its] = report.evaluated
    assert its.runs[0].robustness is None
    assert "robustness was measured on other frames" in html(report)
    assert "robustness-synthetic-c23" not in report.figures
    assert "Perturbed AUC" not in markdown(report).split("ECE: 15")[0]


@pytest.mark.thinned(4)
@pytest.mark.parametrize("broken", ["evaluation", "robustness"])
@pytest.mark.parametrize("text", ["{", '{"trained_on": "x", "calibration": 1, "perturbations": 2}'])
def test_a_broken_file_is_one_line_and_the_rest_goes_on(runs: Path, broken: str, text: str, capsys):
    file = runs / GOOD / "evaluations/synthetic-c23" / f"{broken}.json"
    file.write_text(text)
    given = ["report", "--runs", str(runs), "--dataset", "demo", "--table", "3"]
    assert main(given) == 0
    printed = capsys.readouterr()
    assert [str(file.parent) in line for line in printed.out.splitlines()].count(True) == 1
    assert "Traceback" not in printed.out + printed.err
    page = (runs / "report" / "report.html").read_text()
    assert "vanilla-none_s0" in page
    assert (f'<th scope="row">{GOOD}</th>' in page) == (broken == "robustness")
    assert (runs / "report" / "figures" / "robustness-synthetic-c23.svg").is_file()
    assert (runs / "report" / "evaluations.csv").is_file()


def test_runs_on_data_of_other_reports_are_left_out(tmp_path: Path):
    plant_evaluated(tmp_path, GOOD, 2.0)
    plant_evaluated(tmp_path, "own_run", 1.0, trained_on="mine-unknown", robust=False)
    [its] = made(tmp_path, "ffpp").evaluated
    assert [one.run for one in its.runs] == ["own_run"]
    [its] = made(tmp_path).evaluated
    assert [one.run for one in its.runs] == ["own_run", GOOD]


def test_evaluations_of_weights_that_a_run_no_longer_has_are_left_out_and_said(runs: Path):
    weights = record(runs, GOOD)["hashes"]["checkpoint"]
    for hashes, shown, told in (
        ({"weights": weights}, [BAD, GOOD], False),
        ({"weights": "of a later epoch"}, [BAD], True),
        ({}, [BAD, GOOD], False),
    ):
        (runs / GOOD / "metrics.json").write_text(json.dumps({"hashes": hashes, "metrics": {}}))
        report = made(runs)
        [its] = report.evaluated
        assert sorted(one.run for one in its.runs) == shown
        said = [w for w in report.warnings if "of weights that the run no longer has" in w]
        assert bool(said) == told
        assert any("did not record its weights" in note for note in its.notes) == (not hashes)


@pytest.mark.slow
def test_a_report_that_leaves_all_evaluations_out_says_how_to_see_them(tmp_path: Path, capsys):
    plant_evaluated(tmp_path, GOOD, 2.0)
    said = "evaluations of runs on other data sets are left out: --dataset demo"
    assert main(["report", "--runs", str(tmp_path)]) == 0
    assert said in capsys.readouterr().out
    assert main(["report", "--runs", str(tmp_path), "--dataset", "demo"]) == 0
    assert said not in capsys.readouterr().out


def test_one_panel_is_as_wide_as_the_names_below_it_and_without_auc_there_is_none(runs: Path):
    file = runs / GOOD / "evaluations/synthetic-c23/robustness.json"
    (runs / BAD / "evaluations/synthetic-c23/robustness.json").unlink()
    told = json.loads(file.read_text())
    told["perturbations"] = {"jpeg": told["perturbations"]["jpeg"]}
    file.write_text(json.dumps(told))
    [its] = made(runs).evaluated
    long = its.runs[1].__class__({**its.runs[1].record, "run": "r" * 80}, told)
    one = its.__class__(its.name, its.title, (long,))
    figure = robustness_figure(one)
    assert 72 * figure.get_figwidth() >= 80 * 6 + 46 + 28
    unknown = {**told["perturbations"]["jpeg"]}
    unknown["frame"] = [point | {"auc": None} for point in unknown["frame"]]
    bare = {**told, "perturbations": {"jpeg": unknown}}
    metrics = {**its.runs[1].record["metrics"], "test/frame/auc": None}
    nothing = its.runs[1].__class__({**its.runs[1].record, "metrics": metrics}, bare)
    assert robustness_figure(its.__class__(its.name, its.title, (nothing,))) is None


def test_without_evaluations_there_is_no_section(tmp_path: Path):
    report = made(tmp_path)
    assert report.evaluated == ()
    assert 'id="evaluations"' not in html(report)
    assert "Beyond the paper:" not in markdown(report)
