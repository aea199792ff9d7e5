import json
import subprocess
import sys

import pytest
from tables.planted import plant

from tokd_lightning.cli import main
from tokd_lightning.report import dashboard as room
from tokd_lightning.report.dashboard import SECTIONS

KINDS = ["teacher-both", "vanilla-none", "at-both", "tokd-rgb", "tokd-both"]
NAMES = ["Teacher", "Vanilla", "at both", "TOKD rgb", "TOKD both", "Majority class"]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without a W&B account, in an empty folder."""
    for name in ("MODE", "API_KEY", "BASE_URL", "PROJECT", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


@pytest.fixture
def runs(nobody, tmp_path):
    for kind in KINDS:
        plant(tmp_path / "runs", kind)
    return tmp_path / "runs"


def one_line(capsys):
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_dry_run_writes_what_wandb_would_get(runs, tmp_path, capsys):
    out = tmp_path / "dashboard.json"
    options = ["--dry-run", "--project", "p", "--entity", "e", "--out", str(out)]
    assert main(["dashboard", str(runs), *options]) == 0
    built = json.loads(out.read_text())
    workspace, report = built["workspace"], built["report"]
    assert (workspace["project"], workspace["entity"]) == ("p", "e")
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    assert [s["name"] for s in sections] == list(SECTIONS)
    assert [*SECTIONS] == ["Results", "Curves", "Gradients", "Pictures", "Explanations"]
    drawn = json.dumps(sections)
    for panels in SECTIONS.values():
        for panel in panels:
            assert all(json.dumps(metric) in drawn for metric in panel.metrics)
    [runset] = workspace["spec"]["section"]["runSets"]
    assert [key["name"] for key in runset["grouping"]] == [
        "group",
        "model.value.init_args.student",
        "model.value.init_args.distiller.class_path",
        "model.value.init_args.distiller.init_args.branches",
    ]
    blocks = report["spec"]["blocks"]
    assert sum(block["type"] == "panel-grid" for block in blocks) == len(SECTIONS)
    [table] = [block["content"] for block in blocks if block["type"] == "markdown-block"]
    for name in NAMES:
        assert table.count(f"| {name} |") == 1
    assert "| TOKD both | 2.80 | 0.168 | 82.46 | 79.00 | 93.00 | 7.00 | 94.00 |" in table
    assert "right on 80.00 % of the test frames" in json.dumps(report)


def test_the_curves_of_validation_have_the_epoch_as_axis():
    for panel in SECTIONS["Curves"]:
        for metric in panel.metrics:
            assert panel.axis == ("epoch" if metric.startswith("val/") else "trainer/global_step")


def test_a_dry_run_without_a_file_prints_an_outline(runs, capsys):
    assert main(["dashboard", str(runs), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "of project tokd" in printed
    for words in (*SECTIONS, "gradient/norm_ratio", "rotation/orthogonality_rgb", "pictures"):
        assert words in printed
    for name in NAMES:
        assert printed.count(f"| {name} |") == 1


def test_runs_that_were_set_aside_are_left_out(runs, capsys):
    plant(runs, "sp-both").rename(runs / "synthetic-c23_resnet18_thin_sp-both_s0.old-1")
    assert main(["dashboard", str(runs), "--dry-run"]) == 0
    assert "| sp" not in capsys.readouterr().out


def test_without_an_account_it_says_what_to_do(runs, capsys):
    assert main(["dashboard", str(runs)]) == 2
    assert "wandb login" in one_line(capsys)


def test_without_runs_it_says_so(nobody, tmp_path, capsys):
    assert main(["dashboard", str(tmp_path), "--dry-run"]) == 2
    assert f"no run in {tmp_path}" in one_line(capsys)


def test_without_the_extra_it_is_named(runs, nobody, capsys):
    def missing(name):
        raise ModuleNotFoundError(name)

    nobody.setattr(room, "import_module", missing)
    assert main(["dashboard", str(runs), "--dry-run"]) == 2
    assert 'pip install "tokd-lightning[dashboard]"' in one_line(capsys)


def test_both_are_saved_and_a_refusal_is_one_line(runs, nobody, capsys):
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    nobody.setenv("WANDB_API_KEY", "0" * 40)
    nobody.setattr(room, "unreachable", lambda: None)
    saved = []
    for kind in (wr.Report, ws.Workspace):
        nobody.setattr(kind, "save", lambda self: saved.append(self))
        nobody.setattr(kind, "url", property(lambda self: f"https://wandb.test/{self.project}"))
    assert main(["dashboard", str(runs), "--entity", "e", "--project", "p"]) == 0
    assert [thing.entity for thing in saved] == ["e", "e"]
    assert capsys.readouterr().out.count("https://wandb.test/p") == 2

    def refuse(self):
        raise ConnectionError("no way out\nand more")

    nobody.setattr(wr.Report, "save", refuse)
    assert main(["dashboard", str(runs), "--entity", "e"]) == 2
    assert "does not take the dashboard (no way out)" in one_line(capsys)


def test_without_a_network_nothing_is_built(runs, nobody, capsys):
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    nobody.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert main(["dashboard", str(runs)]) == 2
    assert "http://127.0.0.1:1 cannot be reached (" in one_line(capsys)


def test_it_compare_and_tour_need_neither_torch_nor_lightning(runs):
    code = (
        "import sys; from tokd_lightning.cli import main\n"
        f"assert main(['dashboard', {str(runs)!r}, '--dry-run']) == 0\n"
        "import tokd_lightning.report.compare, tokd_lightning.schedule.tour\n"
        "assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
