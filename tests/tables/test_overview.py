"""What a dry run shows: the table itself, as wide as a terminal."""

import io
import os
import re
import time
from pathlib import Path

import pytest
from few_cells import BOTH, RGB, ROOT, TEACHER, VANILLA, Table
from rich.console import Console

from tokd_lightning.files import take_lock
from tokd_lightning.schedule.estimate import FILE
from tokd_lightning.schedule.plan import make_plan
from tokd_lightning.schedule.reproduce import dry_run
from tokd_lightning.tables.state import Looker, State

KEYS = [*(f"table{n}" for n in range(2, 8)), "figure3", "figure4", "beyond"]


def lines_of(key: str, runs: Path, **options: object) -> list[str]:
    text = io.StringIO()
    dry_run(make_plan(key, runs=runs, **options), 1, Console(file=text, width=80))
    return text.getvalue().splitlines()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("timed", [False, True])
def test_every_table_fits_80_columns_and_breaks_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, timed: bool
):
    monkeypatch.chdir(ROOT)
    plan = make_plan(key)
    if timed:
        probe = '{"seconds": 450000, "memory": 20, "device": "cpu"}'
        known = ", ".join(f'"{cell.name}": {probe}' for cell in plan.cells)
        (tmp_path / FILE).write_text(f"{{{known}}}")
    lines = lines_of(key, tmp_path)
    grid = lines[1 : next(i for i, line in enumerate(lines) if line.startswith("teacher on"))]
    assert max(map(len, grid)) <= 80
    places = {(e.row, e.column) for e in plan.table.entries if e.cell is not None}
    shown = "\n".join(grid)
    assert shown.count("to do 125.0 h" if timed else "to do") == len(places)
    names = {name for place in places for name in place}
    words = set(re.findall(r"\S+", shown))
    assert {word for name in names for word in name.split()} <= words


def test_states_hours_and_reasons_are_shown(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    states = {
        TEACHER: State("done"),
        VANILLA: State("stale", ("code",)),
        RGB: State("not run"),
        BOTH: State("interrupted"),
    }
    monkeypatch.setattr(Looker, "__call__", lambda self, cell: states[cell.name])
    monkeypatch.setattr(
        "tokd_lightning.schedule.plan._data_hashes", lambda arguments: {"data": "d", "rows": {}}
    )
    lock = take_lock(table.runs / ".locks" / BOTH)
    assert lock is not None
    (table.runs / FILE).write_text(
        f'{{"{RGB}": {{"seconds": 5400, "memory": 2.5, "device": "cpu"}}}}'
    )
    assert table("vanilla,tokd", "--dry-run") == 0
    os.close(lock)
    lines = capsys.readouterr().out.splitlines()
    shown = [re.sub(" +", " ", line) for line in lines]
    assert "mini-FF++ c40, ResNet18-T stale to do 1.5 h running" in shown
    assert "teacher on mini-FF++: done" in shown
    assert "1 done, 1 stale, 1 running, 1 to do" in shown
    assert f"{VANILLA}: stale (code), --rerun sets it aside" in shown
    assert (
        "1 of 4 runs need nothing; 1 stale: --rerun sets it aside, 2 to go (1 of them not timed): "
        "1:30:00 with 2 at a time" in (lines[-1])
    )
    assert not any("tokd fit" in line for line in lines)
    assert table("vanilla,tokd", "--dry-run", "--commands") == 0
    assert capsys.readouterr().out.count("  tokd fit ") == 4
    assert table("vanilla", "--commands") == 2
    assert capsys.readouterr().err == "tokd: --commands goes with --dry-run\n"


def test_several_seeds_are_counted(table: Table, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "tokd_lightning.schedule.plan._data_hashes", lambda arguments: {"data": "d", "rows": {}}
    )

    def state(self: Looker, cell: object) -> State:
        name = str(getattr(cell, "name", ""))
        if "tokd-rgb_s1" in name:
            return State("stale", ("code",))
        return State("done" if "_s0" in name else "not run")

    monkeypatch.setattr(Looker, "__call__", state)
    lines = lines_of("table3", table.runs, dataset=["demo"], seeds=2)
    assert "Vanilla      1/2 done" in lines
    assert "teacher on mini-FF++: done" in lines
    assert any(line.endswith("1/2 done, 1 stale") for line in lines)
    assert "14 done, 1 stale, 12 to do" in lines


def test_a_dry_run_takes_little_time(table: Table, capsys: pytest.CaptureFixture[str]):
    before = time.process_time()
    assert table("vanilla", "--dry-run") == 0
    assert time.process_time() - before < 0.3
