"""The report on planted runs: what it says, what it leaves visibly empty, what it survives."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_cells import plant_cell, plant_evaluation, plant_sizes, plant_tables
from rich.console import Console

from tokd_lightning.cli import main
from tokd_lightning.errors import TokdError
from tokd_lightning.report import latex
from tokd_lightning.report.build import build
from tokd_lightning.report.command import report as make
from tokd_lightning.report.frames import long_frame
from tokd_lightning.report.page import html, markdown
from tokd_lightning.report.reader import Reader
from tokd_lightning.tables.grid import student
from tokd_lightning.tables.paper import paper_table

ROW = "FF++ c40, ResNet18-T"
BOTH, RGB = (student("ffpp", "resnet18_thin", "tokd", branches) for branches in ("both", "rgb"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """TOKD both and rgb of one row, three seeds, both clearly better."""
    for cell, accuracy in ((BOTH, 0.9), (RGB, 0.7)):
        for seed in range(3):
            plant_cell(tmp_path / "runs", replace(cell, seed=seed), accuracy)
    return tmp_path / "runs"


def third(runs: Path, **options):
    return build([paper_table("table3")], Reader(runs, **options))


def acc(runs: Path, cell, seed: int = 0) -> float:
    file = runs / replace(cell, seed=seed).name / "metrics.json"
    return json.loads(file.read_text())["metrics"]["test/frame/acc"]


def change(runs: Path, cell, seed: int, **changes) -> None:
    file = runs / replace(cell, seed=seed).name / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_ours_is_mean_and_sd_over_seeds_beside_the_published_number(runs: Path):
    report = third(runs)
    place = report.tables[0].entries[ROW, "TOKD Both"]
    values = [100 * acc(runs, BOTH, seed) for seed in range(3)]
    assert place.ours.mean == pytest.approx(np.mean(values))
    assert place.ours.sd == pytest.approx(np.std(values, ddof=1))
    assert place.difference == pytest.approx(np.mean(values) - 82.45)
    assert (place.entry.published, place.ours.n, place.state) == (82.45, 3, "done")
    assert place.values["test/frame/majority"].mean == pytest.approx(80)
    assert report.states() == {"not run": 76, "done": 2}


def test_both_minus_rgb_has_the_sign_of_the_scores_and_an_interval(runs: Path):
    pairs = {(pair.row, pair.method): pair for pair in third(runs).pairs}
    assert len(pairs) == 36
    pair = pairs[ROW, "TOKD"]
    gained = [acc(runs, BOTH, s) - acc(runs, RGB, s) for s in range(3)]
    assert pair.difference.seeds == pytest.approx(gained)
    assert pair.difference.low < np.mean(gained) < pair.difference.high
    assert (pair.seeds, pair.difference.positive, pair.difference.videos) == ((0, 1, 2), 3, 100)
    assert pair.published == pytest.approx(82.45 - 81.67)
    assert pairs[ROW, "AT"].why == "RGB and Both not run"


def test_the_papers_own_signs(tmp_path: Path):
    written = markdown(third(tmp_path))
    assert "| TOKD | 6 of 6 | – | – |" in written
    assert "| PKT | 0 of 6 (1 tied) | – | – |" in written


@pytest.mark.parametrize("where", ["hash", "frames"])
def test_pairs_on_other_frames_are_flagged_and_not_compared(runs: Path, where: str):
    if where == "hash":
        hashes = {"data": "other", "config": "c"}
        change(runs, RGB, 1, hashes=hashes)
    else:
        file = runs / replace(RGB, seed=1).name / "test_frames.csv"
        lines = file.read_text().replace("real,000,", "real,999,")
        file.write_text(lines)
    report = third(runs)
    pair = next(pair for pair in report.pairs if pair.row == ROW)
    assert (pair.difference, pair.why) == (None, "tested on other frames")
    if where == "hash":
        entries = report.tables[0].entries
        assert entries[ROW, "TOKD RGB"].other_frames
        assert not entries[ROW, "TOKD Both"].other_frames
        assert "other frames" in markdown(report)
        assert "not tested on the same frames" in report.tables[0].notes[0]


def test_a_single_seed_says_so_and_has_no_sd(runs: Path):
    for seed in (1, 2):
        shutil.rmtree(runs / replace(RGB, seed=seed).name)
    report = third(runs)
    assert report.tables[0].entries[ROW, "TOKD RGB"].ours.sd is None
    pair = next(pair for pair in report.pairs if pair.row == ROW)
    assert pair.seeds == (0,)
    assert "only videos are resampled" in markdown(report)


CORRUPT = {"cut": '{"metrics"', "list": "[1]", "shape": '{"metrics": 3}', "hashes": '{"hashes": 1}'}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_metrics_json_is_one_line_and_the_rest_goes_on(runs: Path, text: str, capsys):
    broken = runs / replace(BOTH, seed=1).name / "metrics.json"
    broken.write_text(text)
    assert main(["report", "--runs", str(runs)]) == 0
    printed = capsys.readouterr()
    assert [str(broken) in line for line in printed.out.splitlines()].count(True) == 1
    assert "Traceback" not in printed.out + printed.err
    place = third(runs).tables[0].entries[ROW, "TOKD Both"]
    assert (place.ours.n, place.state) == (2, "done")
    assert str(broken) in (runs / "report" / "report.html").read_text()
    assert broken.read_text() == text


def test_a_cell_whose_only_run_is_corrupt_is_shown_as_unreadable(runs: Path):
    for seed in range(3):
        (runs / replace(BOTH, seed=seed).name / "metrics.json").write_text("{")
    report = third(runs)
    assert report.tables[0].entries[ROW, "TOKD Both"].state == "unreadable"
    assert "unreadable" in html(report)
    assert len(report.warnings) == 3


SCORES = ["", "a,b\n1,2\n", "dataset,method,video,label,p_fake\nffpp,real,1,0,nan\n"]


@pytest.mark.thinned(4)
@pytest.mark.parametrize("text", [*SCORES, None], ids=["empty", "other", "nan", "missing"])
def test_broken_scores_cost_the_interval_alone(runs: Path, text: str | None):
    file = runs / replace(BOTH, seed=2).name / "test_frames.csv"
    file.unlink() if text is None else file.write_text(text)
    report = third(runs)
    pair = next(pair for pair in report.pairs if pair.row == ROW)
    assert pair.difference is None
    assert pair.why == ("no test_frames.csv" if text is None else "test_frames.csv unreadable")
    assert [str(file) in line for line in report.warnings] == ([] if text is None else [True])
    assert report.tables[0].entries[ROW, "TOKD Both"].ours.n == 3


def test_scores_of_another_test_than_the_metrics_are_refused(runs: Path):
    metrics = {"test/frame/acc": 0.5, "test/frame/auc": 0.5}
    change(runs, BOTH, 0, metrics=metrics)
    report = third(runs)
    assert "has another accuracy than metrics.json" in report.warnings[0]


def test_states_can_be_told_by_another(runs: Path):
    def state(cell, folder):
        assert folder == runs
        return ("stale", ("code",)) if cell.branches == "both" else ("interrupted", ())

    report = third(runs, state_of=state)
    both, rgb = (report.tables[0].entries[ROW, f"TOKD {b}"] for b in ("Both", "RGB"))
    assert (both.state, both.ours.n, both.results[0].reasons) == ("stale", 3, ("code",))
    assert (rgb.state, rgb.ours) == ("interrupted", None)
    assert next(pair.why for pair in report.pairs if pair.row == ROW) == "RGB interrupted"
    assert "stale (code)" in html(report)


def test_begun_and_untested_runs_are_told_apart(tmp_path: Path):
    begun, untested = tmp_path / BOTH.name, tmp_path / RGB.name
    begun.mkdir()
    (begun / "fit.yaml").write_text("{}")
    untested.mkdir()
    (untested / "metrics.json").write_text('{"metrics": {"val/frame/acc": 0.5}}')
    entries = third(tmp_path).tables[0].entries
    assert entries[ROW, "TOKD Both"].state == "interrupted"
    assert entries[ROW, "TOKD RGB"].state == "not tested"
    assert entries[ROW, "AT RGB"].state == "not run"


def test_table_1_is_computed_and_table_7_evaluated_elsewhere(tmp_path: Path):
    plant_sizes(tmp_path)
    xception = student("ffpp", "xception", "tokd", "both", pretrained=True)
    other = student("ffpp", "xception", "vanilla", pretrained=True)
    plant_evaluation(plant_cell(tmp_path, xception, 0.9), 0.66)
    plant_cell(tmp_path, other, 0.9)
    first, second, last = build(
        [paper_table(key) for key in ("table1", "table2", "table7")], Reader(tmp_path)
    ).tables
    assert first.entries["Teacher", "parameters (M)"].difference == pytest.approx(-0.01)
    assert first.entries["ResNet18-T", "ms per image"].ours.mean == 1.9
    assert second.entries["TOKD", "parameters (M)"].ours.mean == pytest.approx(20.81)
    assert second.entries["RFM", "parameters (M)"].state == "cited"
    assert last.entries["TOKD", "Celeb-DF AUC"].ours.mean == pytest.approx(66)
    assert last.entries["TOKD", "Celeb-DF EER"].difference == pytest.approx(34 - 40.34)
    assert last.entries["Xception", "Celeb-DF AUC"].state == "not evaluated"
    assert last.entries["RFM", "Celeb-DF AUC"].state == "cited"
    (tmp_path / "table1.json").write_text('{"networks": 3}')
    reader = Reader(tmp_path)
    assert build([paper_table("table1")], reader).states() == {}
    assert str(tmp_path / "table1.json") in reader.warnings[0]


OTHERS = {
    "another quality": {"quality": "c40"},
    "the validation split": {"split": "val"},
    "another data set": {"name": "celebdf-pp"},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_table_7_has_its_data_set_quality_and_split_and_no_other(tmp_path: Path, other: dict):
    folder = plant_cell(
        tmp_path, student("ffpp", "xception", "tokd", "both", pretrained=True), 0.9, scored=False
    )
    plant_evaluation(folder, 0.99, **other)
    [table] = build([paper_table("table7")], Reader(tmp_path)).tables
    assert table.entries["TOKD", "Celeb-DF AUC"].state == "not evaluated"
    plant_evaluation(folder, 0.66)
    [table] = build([paper_table("table7")], Reader(tmp_path)).tables
    assert table.entries["TOKD", "Celeb-DF AUC"].ours.mean == pytest.approx(66)


def test_an_evaluation_that_does_not_say_of_what_it_is_counts_by_its_name(tmp_path: Path):
    cell = student("ffpp", "xception", "tokd", "both", pretrained=True)
    folder = plant_cell(tmp_path, cell, 0.9, scored=False)
    for quality, auc in (("c40", 0.99), ("original", 0.66)):
        plant_evaluation(folder, auc, quality=quality)
        file = folder / "evaluations" / f"celebdf-{quality}" / "evaluation.json"
        record = json.loads(file.read_text())
        del record["data"], record["split"]
        file.write_text(json.dumps(record))
    [table] = build([paper_table("table7")], Reader(tmp_path)).tables
    assert table.entries["TOKD", "Celeb-DF AUC"].ours.mean == pytest.approx(66)


def test_the_best_is_the_highest_of_a_row_or_column_and_the_lowest_eer(tmp_path: Path):
    for cell, accuracy in ((BOTH, 0.9), (RGB, 0.7)):
        plant_cell(tmp_path, cell, accuracy, scored=False)
    for method, auc in (("tokd", 0.7), ("vanilla", 0.6)):
        branches = "both" if method == "tokd" else "none"
        cell = student("ffpp", "xception", method, branches, pretrained=True)
        plant_evaluation(plant_cell(tmp_path, cell, 0.8, scored=False), auc)
    third, last = build([paper_table("table3"), paper_table("table7")], Reader(tmp_path)).tables
    best = [key for key, place in third.entries.items() if third.best(place)]
    assert best == [(ROW, "TOKD Both")]
    best = [key for key, place in last.entries.items() if last.best(place)]
    assert best == [("TOKD", "Celeb-DF AUC"), ("TOKD", "Celeb-DF EER")]


def test_csv_holds_every_place_and_seed_in_full(runs: Path):
    rows = list(csv.DictReader(io.StringIO(long_frame(third(runs)).to_csv(index=False))))
    assert len(rows) == 76 + 6
    mine = [row for row in rows if row["run"].startswith(BOTH.name[:-1])]
    assert [row["seed"] for row in mine] == ["0", "1", "2"]
    assert [float(row["acc"]) for row in mine] == [acc(runs, BOTH, seed) for seed in range(3)]
    assert float(mine[0]["difference"]) == pytest.approx(100 * acc(runs, BOTH) - 82.45)
    for name in ("config_hash", "data_hash", "commit", "seconds", "device", "majority", "command"):
        assert all(row[name] for row in mine)
    assert f"--seed_everything 2 --runs {runs} --model.teacher {runs}/" in mine[2]["command"]
    empty = next(row for row in rows if row["state"] == "not run")
    assert (empty["ours"], empty["published"] != "", "tokd fit" in empty["command"]) == (
        *("", True, True),
    )


def test_latex_has_as_many_cells_in_every_line_and_bold_for_the_best(tmp_path: Path):
    plant_tables(tmp_path, ["table3"], 1, share=0.3, scored=False)
    report = third(tmp_path)
    written = latex.latex(report.tables[0])
    body = written.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in lines} == {14}
    assert len(lines) == 18
    rows = [line for line in lines if "& ours &" in line and len(re.findall(r"\d\.\d", line)) > 1]
    assert rows
    assert all(r"\textbf" in line for line in rows)
    assert written.count(r"\begin{") == written.count(r"\end{") == 2


@pytest.mark.slow
def test_latex_leaves_out_what_no_run_has_filled_where_asked_to(runs: Path):
    out = runs.parent / "out"
    asked = ["report", "--runs", str(runs), "--table", "3,5,2", "--out", str(out)]
    assert main(asked) == 0
    assert "not run" in (out / "tables" / "table3.tex").read_text()
    assert main([*asked, "--filled"]) == 0
    written = (out / "tables" / "table3.tex").read_text()
    body = written.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    # What is planted is of other code, and stale numbers have no difference.
    heads = [line.split(" & ")[:2] for line in lines]
    assert heads == [["FF++ c40, ResNet18-T", "paper"], ["", "ours"]]
    assert {line.count("&") for line in lines} == {3}  # RGB and Both of TOKD
    assert "not run" not in written
    assert "82.45" in lines[0]
    assert "d = 1024" in (out / "tables" / "table5.tex").read_text()
    assert "d = 512" not in (out / "tables" / "table5.tex").read_text()
    assert not (out / "tables" / "table2.tex").exists()  # no run of ours is in it
    assert "Multi-task" in (out / "report.md").read_text()


def test_cited_rows_stay_beside_filled_ones(tmp_path: Path):
    cell = student("celebdf", "xception", "tokd", "both", pretrained=True)
    plant_cell(tmp_path, cell, 0.9, scored=False)
    [table] = build([paper_table("table2")], Reader(tmp_path)).tables
    shown = table.filled()
    assert {"TOKD", "RFM", "AddNet"} <= set(shown.rows)
    assert "Xception" not in shown.rows
    assert all(place.ours or place.state == "cited" for place in shown.entries.values())


def test_a_stale_state_without_a_number_is_said_once(tmp_path: Path):
    """An interrupted run of other options: its state is its word, with no flag behind it."""
    (tmp_path / BOTH.name).mkdir()
    [table] = third(tmp_path, state_of=lambda *_: ("stale", ("code",))).tables
    place = table.entries[ROW, "TOKD Both"]
    assert (place.state, place.ours) == ("stale", None)
    assert "stale (stale)" not in latex.latex(table)
    assert (
        html(third(tmp_path, state_of=lambda *_: ("stale", ("code",)))).count('"flag">stale') == 0
    )


NASTY = "a_b 50% & <script>alert(1)</script> $x^2$ #1 ~ {y} \\ |z| `c` *d* ±−–"


def nasty(tmp_path: Path):
    """A report whose names hold every special character."""
    table = paper_table("table3")
    entries = tuple(entry._replace(row=NASTY, column=f"{NASTY} {n}")
                    for n, entry in enumerate(table.entries[:2]))  # fmt: skip
    file = tmp_path / "<b>&_%"
    file.mkdir()
    return build([replace(table, title=NASTY, entries=entries, notes=(NASTY,))], Reader(file))


def test_names_cannot_break_any_form(tmp_path: Path):
    report = nasty(tmp_path)
    page = html(report)
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert "<b>&_%" not in page
    line = next(line for line in markdown(report).splitlines() if "paper" in line and "|" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 5
    assert "<script>" not in markdown(report)
    assert next(csv.DictReader(io.StringIO(long_frame(report).to_csv(index=False))))["row"] == NASTY
    bare = re.sub(r"\\[%&#_{}$]|\\text\w+\{\}|\$\\pm\$|\$-\$", "", latex.escape(NASTY))
    assert not set(bare) & set("%&#_{}$\\^~")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no LaTeX")
def test_latex_compiles(tmp_path: Path, runs: Path):
    tables = [latex.latex(nasty(tmp_path).tables[0]), latex.latex(third(runs).tables[0])]
    tables.append(latex.latex_pairs(third(runs)))
    head = r"\documentclass{article}\usepackage{booktabs,graphicx,textcomp}\begin{document}"
    (tmp_path / "all.tex").write_text("\n".join([head, *tables, r"\end{document}"]))
    options = ["-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(["pdflatex", *options], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_the_command_writes_every_form_whole(runs: Path, capsys):
    out = runs.parent / "out"
    assert main(["report", "--runs", str(runs), "--table", "3,figure4", "--out", str(out)]) == 0
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {
        *("report.html", "report.md", "report.csv"),
        *("tables/table3.tex", "tables/figure4.tex", "tables/both-rgb.tex"),
        *(
            f"figures/{name}{dark}.svg"
            for name in ("both-rgb", "figure4")
            for dark in ("", "-dark")
        ),
    }
    printed = capsys.readouterr().out
    assert "82.45" in printed
    assert "76 of 78 entries are empty" in printed
    assert str(out / "report.html") in printed
    for figure in (out / "figures").iterdir():
        assert "var(" not in figure.read_text()


@pytest.mark.slow
def test_without_any_run_all_is_there_as_not_run(tmp_path: Path):
    console = Console(file=io.StringIO(), width=100)
    assert make(tmp_path, console=console) == 0
    assert "0 of 78 entries are filled" in console.file.getvalue()
    written = (tmp_path / "report" / "report.md").read_text()
    for head in [f"Table {n}" for n in range(1, 8)] + ["Figure 3", "Figure 4", "Beyond"]:
        assert f"## {head}" in written
    assert "0 of 249 cells done; 249 not run" in written


def test_by_default_only_what_is_begun_is_shown(runs: Path):
    make(runs, console=Console(file=io.StringIO()))
    heads = re.findall(r"^## (.*)", (runs / "report" / "report.md").read_text(), re.MULTILINE)
    names = [head.partition(".")[0] for head in heads]
    assert names == ["Table 3", "Both − RGB", "Table 5", "Figure 3", "Words"]


def test_demo_runs_are_marked_as_synthetic_and_have_no_published_number(tmp_path: Path, capsys):
    plant_cell(tmp_path, student("demo", "resnet18_thin", "tokd", "both"), 0.85)
    assert main(["report", "--runs", str(tmp_path), "--dataset", "demo", "--table", "3"]) == 0
    said = "All numbers here are of synthetic data"
    assert said in capsys.readouterr().out
    page, written = (
        (tmp_path / "report" / name).read_text() for name in ("report.html", "report.md")
    )
    assert said in page
    assert f"**{said}" in written
    assert "mini-FF++" in written
    assert "| paper |" not in written


def test_after_make_demo_the_runs_at_c23_are_shown(tmp_path: Path, capsys):
    plant_cell(tmp_path, student("demo-c23", "resnet18_thin", "tokd", "both"), 0.85)
    assert main(["report", "--runs", str(tmp_path), "--dataset", "demo", "--table", "3"]) == 0
    assert "0 of 13 entries" not in capsys.readouterr().out
    written = (tmp_path / "report" / "report.md").read_text()
    assert "mini-FF++ c23" in written
    assert "mini-FF++ c40" not in written
    plant_cell(tmp_path, student("demo", "resnet18_thin", "tokd", "both"), 0.85)
    assert main(["report", "--runs", str(tmp_path), "--dataset", "demo", "--table", "3"]) == 0
    written = (tmp_path / "report" / "report.md").read_text()
    assert all(f"mini-FF++ {quality}" in written for quality in ("c23", "c40"))


def test_a_stale_number_is_shown_without_a_difference_and_is_never_the_best(runs: Path):
    def state(cell, _):
        return ("stale", ("configuration",)) if cell.branches == "both" else ("done", ())

    table = third(runs, state_of=state).tables[0]
    stale, done = (table.entries[ROW, f"TOKD {branches}"] for branches in ("Both", "RGB"))
    assert stale.ours.mean > done.ours.mean
    assert stale.difference is None
    assert not table.best(stale)
    assert done.difference == pytest.approx(done.ours.mean - done.entry.published)


def test_runs_of_other_splits_are_no_equals_and_old_ones_are_compared_by_files(runs: Path):
    rows = {"files": "f", "paths": "p", "splits": "s"}
    for seed, hashes in enumerate(
        ({"data": "w", "rows": rows}, {"data": "v", "rows": rows | {"splits": "t"}})
    ):
        change(runs, BOTH, seed, hashes=hashes)
        change(runs, RGB, seed, hashes={"data": "w", "rows": rows})
    for cell in (BOTH, RGB):
        shutil.rmtree(runs / replace(cell, seed=2).name)
    report = third(runs)
    assert report.tables[0].entries[ROW, "TOKD Both"].other_frames
    change(runs, RGB, 0, hashes={"data": "f"})
    assert not third(runs).tables[0].entries[ROW, "TOKD Both"].other_frames


def test_what_cannot_be_done_is_one_clear_error(tmp_path: Path, capsys):
    for options, message in (
        (["--runs", str(tmp_path / "none")], "is not a folder"),
        (["--runs", str(tmp_path), "--table", "8"], "--table 8: choose from table1"),
        (["--runs", str(tmp_path), "--dataset", "mnist"], "--dataset mnist: choose from ffpp"),
    ):
        assert main(["report", *options]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(TokdError, match="cannot be written"):
        make(tmp_path, ["1"], out=tmp_path / "file", console=Console(file=io.StringIO()))
