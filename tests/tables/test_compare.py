import io
import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
from planted import AUC, plant
from rich.console import Console

from tokd_lightning.errors import TokdError
from tokd_lightning.report import compare as tables
from tokd_lightning.report.rows import read_row

FOUR = ["Teacher", "Vanilla", "TOKD rgb", "TOKD both"]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch):
    for name in ("draw_training", "draw_gradients"):
        monkeypatch.setattr(tables, name, lambda *_: False)


def compare(folders: list[Path], out: Path, width: int = 100) -> str:
    text = io.StringIO()
    tables.compare_runs(folders, out, Console(file=text, width=width))
    return text.getvalue()


def labels(out: Path) -> list[str]:
    return [row["label"] for row in json.loads((out / "compare.json").read_text())["rows"]]


def test_rows_stand_in_the_papers_order_whatever_the_order_given(tmp_path: Path):
    folders = [plant(tmp_path, kind) for kind in AUC]
    for seed in range(4):
        random.Random(seed).shuffle(folders)
        compare(folders, tmp_path / "out")
        assert labels(tmp_path / "out") == [*FOUR, "Majority class"]


def test_other_methods_stand_between_vanilla_and_tokd(tmp_path: Path):
    kinds = [*AUC, "fitnet-both", "tokd-frequency", "fitnet-rgb"]
    compare([plant(tmp_path, kind) for kind in kinds], tmp_path / "out")
    expected = ["Teacher", "Vanilla", "fitnet rgb", "fitnet both", "TOKD rgb", "TOKD frequency"]
    assert labels(tmp_path / "out") == [*expected, "TOKD both", "Majority class"]


def test_every_form_of_the_table_holds_the_same_numbers(tmp_path: Path):
    out = tmp_path / "out"
    printed = compare([plant(tmp_path, kind) for kind in AUC], out)
    markdown = (out / "compare.md").read_text()
    for line in (printed, markdown):
        teacher = next(row for row in line.splitlines() if "Teacher" in row)
        assert re.findall(r"[\d.]+", teacher) == [
            *("5.96", "0.380", "82.46", "79.00", "95.00", "5.00", "96.00")
        ]
    head = ["M params", "GMACs", "acc", "balanced acc", "AUC", "EER", "video AUC"]
    assert [cell.strip() for cell in markdown.splitlines()[2].split("|")[2:-1]] == head
    sheet = pd.read_csv(out / "compare.csv").set_index("label")
    whole = {row["label"]: row for row in json.loads((out / "compare.json").read_text())["rows"]}
    for label, auc in zip(FOUR, AUC.values(), strict=True):
        assert (
            sheet.loc[label, "test/frame/auc"] == whole[label]["metrics"]["test/frame/auc"] == auc
        )
        assert sheet.loc[label, "macs"] == whole[label]["macs"]


def test_the_baseline_has_the_larger_class_as_accuracy_and_no_skill(tmp_path: Path):
    compare([plant(tmp_path, "tokd-both")], tmp_path / "out")
    line = (tmp_path / "out" / "compare.md").read_text().splitlines()[-1]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["Majority class", "–", "–", "80.00", "50.00", "50.00", "50.00", "50.00"]


@pytest.mark.parametrize(("data", "named"), [("synthetic-c23", True), ("ffpp-c40", False)])
def test_synthetic_data_are_called_so_wherever_they_appear(tmp_path: Path, data: str, named: bool):
    out = tmp_path / "out"
    printed = compare([plant(tmp_path, "tokd-both", data)], out)
    for text in (printed, (out / "compare.md").read_text()):
        assert ("synthetic mini-FF++" in text) == named
    assert ("synthetic" in json.loads((out / "compare.json").read_text())["title"]) == named


def test_labels_add_what_the_runs_differ_in(tmp_path: Path):
    folders = [plant(tmp_path, "tokd-both", "synthetic-c23", seed) for seed in (0, 1)]
    compare(folders, tmp_path / "out")
    assert labels(tmp_path / "out")[:2] == ["TOKD both, seed 0", "TOKD both, seed 1"]
    folders.append(plant(tmp_path, "tokd-both", "synthetic-c40"))
    compare(folders, tmp_path / "out")
    assert labels(tmp_path / "out") == [
        "TOKD both, synthetic-c23, seed 0",
        "TOKD both, synthetic-c23, seed 1",
        "TOKD both, synthetic-c40, seed 0",
        "Majority class, synthetic-c23",
        "Majority class, synthetic-c40",
    ]


def test_seeds_stand_in_their_order_as_numbers(tmp_path: Path):
    compare([plant(tmp_path, "tokd-both", seed=seed) for seed in (10, 2)], tmp_path / "out")
    assert labels(tmp_path / "out")[:2] == ["TOKD both, seed 2", "TOKD both, seed 10"]


def test_runs_that_differ_in_nothing_named_are_told_apart_by_their_folders(tmp_path: Path):
    ours = plant(tmp_path / "a", "tokd-both")
    theirs = plant(tmp_path / "b", "tokd-both")
    compare([ours, theirs, ours], tmp_path / "out")
    assert labels(tmp_path / "out")[:2] == [str(ours), str(theirs)]


def test_a_run_without_results_is_shown_and_comes_last(tmp_path: Path):
    started, fitted = tmp_path / "ffpp-c40_started", plant(tmp_path, "vanilla-none", metrics={})
    started.mkdir()
    (started / "fit.yaml").write_text("{}")
    out = tmp_path / "out"
    printed = compare([started, fitted, plant(tmp_path, "tokd-both")], out)
    lines = (out / "compare.md").read_text().splitlines()
    assert lines[4] == "| Vanilla (not tested) | 2.80 | 0.168 | – | – | – | – | – |"
    assert lines[6] == "| ffpp-c40\\_started (not finished) | – | – | – | – | – | – | – |"
    assert f"No test yet: {fitted.name}, {started.name} (tokd test)." in " ".join(printed.split())


def test_undefined_metrics_are_dashes_and_empty_cells(tmp_path: Path):
    metrics = {"test/frame/acc": 0.5, "test/frame/auc": None, "test/frame/eer": float("nan")}
    out = tmp_path / "out"
    compare([plant(tmp_path, "tokd-both", metrics=metrics)], out)
    assert (
        "| TOKD both | 2.80 | 0.168 | 50.00 | – | – | – | – |" in (out / "compare.md").read_text()
    )
    assert pd.read_csv(out / "compare.csv")["test/frame/auc"].isna().all()
    assert "NaN" not in (out / "compare.json").read_text()


@pytest.mark.parametrize("changes", [{"hashes": {"data": "other"}}, {"majority": 0.7}])
def test_runs_tested_on_other_frames_are_pointed_out(tmp_path: Path, changes: dict):
    ours, theirs = plant(tmp_path, "vanilla-none"), plant(tmp_path, "tokd-both")
    assert "not tested on the same frames" not in compare([ours, theirs], tmp_path / "out")
    results = json.loads((theirs / "metrics.json").read_text())
    if "majority" in changes:
        results["metrics"]["test/frame/majority"] = changes["majority"]
    (theirs / "metrics.json").write_text(json.dumps(results | changes))
    assert "not tested on the same frames" in compare([ours, theirs], tmp_path / "out")


def test_numbers_keep_whole_on_a_narrow_terminal(tmp_path: Path):
    folders = [plant(tmp_path, "tokd-both", "synthetic-c23", seed) for seed in (0, 1)]
    printed = compare(folders, tmp_path / "out", width=72)
    assert "…" not in printed
    assert printed.count("82.46") == 2


def test_folders_without_a_run_are_one_clear_error(tmp_path: Path):
    with pytest.raises(TokdError, match=r"nowhere does not exist: .*tokd fit"):
        read_row(tmp_path / "nowhere")
    with pytest.raises(TokdError, match="is not a run folder"):
        read_row(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "[1]", "{}", '{"cell": 3}', '{"cell": {}, "metrics": []}']
)
def test_results_that_are_no_results_are_one_clear_error(tmp_path: Path, text: str):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(TokdError, match=r"metrics\.json .*--rerun"):
        read_row(tmp_path)


def test_a_failure_leaves_the_earlier_table_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    out, folder = tmp_path / "out", plant(tmp_path, "tokd-both")
    compare([folder], out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (folder / "metrics.json").write_text("{")
    with pytest.raises(TokdError):
        compare([folder], out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (folder / "metrics.json").unlink()
    (folder / "metrics.csv").write_text("{")
    with pytest.raises(TokdError, match=r"metrics\.csv"):
        compare([folder], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert set(before) == {f"compare.{kind}" for kind in ("md", "csv", "json")} | {
        "curves.png",
        "gradients.png",
    }
