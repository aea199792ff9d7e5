from pathlib import Path

import pytest
from few_cells import ROOT, Table, fake

from tokd_lightning.schedule import plan, runner


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CELL_TOKD", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(plan, "tokd", fake)
    monkeypatch.setattr(runner, "_POLL", 0.05)
    return Table(tmp_path)
