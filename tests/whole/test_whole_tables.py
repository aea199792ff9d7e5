"""Every table and figure of the paper made from its command, in small: training to the page."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from whole_way import tokd

from tokd_lightning.cli import main
from tokd_lightning.schedule import reproduce
from tokd_lightning.schedule.jobs import Job, Task

# Image size and length; where decoding goes on is a matter of place.
SHORT = ["data.size=96", "trainer.max_epochs=1", "data.frames_per_video=4", "data.num_workers=0"]
ASKED = {
    "table2": ["--dataset", "celebdf", "--method", "vanilla,tokd"],
    "table3": ["--student", "resnet18_thin", "--method", "vanilla,at,tokd", "--dataset", "ffpp"],
    "table4": ["--dataset", "celebdf"],
    "table5": ["--student", "resnet18_thin"],
    "table6": ["--dataset", "celebdf"],
    "table7": ["--method", "vanilla,tokd"],
    "figure3": ["--dataset", "ffpp"],
    "figure4": [],
    "beyond": ["--dataset", "ffpp", "--student", "resnet18_thin", "--method", "fitnet,tokd"],
}
ROWS = {  # those that are run here; the others are cited
    "table2": {"Xception", "TOKD"},
    "table3": {"FF++ c40, ResNet18-T"},
    "table4": {"Xception", "Teacher", "Student"},
    "table5": {f"d = {d}" for d in (128, 256, 512, 1024, 2048)},
    "table6": {"none", "L_RGB + projectors"},
    "table7": {"Xception", "TOKD"},
    "figure3": {f"alpha = {a}" for a in (1, 10, 50, 100, 200, 500, 1000)},
    "figure4": {"without rotation", "d = 128", "d = 2048"},
    "beyond": {"FF++ c40, ResNet18-T"},
}


def here(jobs: Sequence[Job], *_: object) -> list[Task]:
    """Run jobs one after another in this process, which has imported all already."""
    tasks = [Task(job) for job in jobs]
    for task in tasks:
        commands = task.job.commands
        for command in list(commands() if callable(commands) else commands):
            assert main([str(part) for part in command[1:]]) == 0, command
        task.state = "done"
    return tasks


def make(key: str, *options: str) -> pd.DataFrame:
    """Make a table; returns its places of the report that the command writes."""
    kind, number = (key[:-1], key[-1]) if key[-1].isdigit() else ("table", key)
    tokd(kind, number, *options)
    [page] = Path("runs/report").glob(f"{key}*/report.csv")
    assert (page.parent / "report.html").is_file()
    return pd.read_csv(page)


@pytest.mark.slow
def test_table_1_is_computed(stocked):
    places = make("table1")
    teacher = places[(places["row"] == "Teacher") & (places["column"] == "parameters (M)")]
    assert teacher["ours"].item() == pytest.approx(62.8, abs=0.05)  # as published


@pytest.mark.slow
@pytest.mark.parametrize("key", ASKED)
def test_a_table_is_made_end_to_end(stocked, key, monkeypatch, capsys):
    stocked.need("ffpp", "celebdf")
    monkeypatch.setattr(reproduce, "run_jobs", here)
    places = make(key, *ASKED[key], *(part for one in SHORT for part in ("--set", one)))
    filled = places[places["ours"].notna() & places["run"].notna()]
    assert set(filled["row"]) >= ROWS[key]
    assert set(filled["state"]) == {"done"}
    if key == "table7":
        for run in set(filled["run"]):
            evaluations = Path("runs", run, "evaluations")
            record = json.loads((evaluations / "celebdf-original" / "evaluation.json").read_text())
            auc = filled.loc[(filled["run"] == run) & filled["column"].str.endswith("AUC"), "ours"]
            assert auc.item() == pytest.approx(100 * record["metrics"]["test/frame/auc"])
    if key == "figure4":
        assert Path("runs/report/figure4/figures/figure4.svg").is_file()
    for path in Path("runs").glob("*/checkpoints/last.ckpt"):
        path.unlink()
    assert "failed" not in capsys.readouterr().out
