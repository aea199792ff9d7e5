"""A run on W&B: when it is online, what it is called, how fit, resumed fit and test become one."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from tokd_lightning.loggers import wandb_run
from tokd_lightning.loggers.run import loggers_of_test
from tokd_lightning.loggers.wandb_account import wandb_mode
from tokd_lightning.loggers.wandb_run import confident_errors, labels, logged_rows, open_run
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Cell

CELL = Cell("ffpp-c40", "student", "resnet18_thin", "tokd", "both", 0)
NAME = "ffpp-c40_resnet18_thin_tokd-both_s0"


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without a W&B account."""
    for name in ("MODE", "API_KEY", "BASE_URL", "PROJECT", "RUN_GROUP", "NAME", "TAGS", "NOTES"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setattr(wandb_run, "_RUNNING", [])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def keys(tmp_path, text):
    (tmp_path / "netrc").write_text(text)
    (tmp_path / "netrc").chmod(0o600)


def test_without_a_key_wandb_is_offline(nobody):
    assert wandb_mode() == "offline"


def test_a_key_in_the_environment_means_online(nobody):
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode() == "online"


def test_a_key_in_netrc_counts_for_its_own_host_only(nobody, tmp_path):
    keys(tmp_path, "machine api.wandb.ai login user password 0000\n")
    assert wandb_mode() == "online"
    nobody.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/x")
    assert wandb_mode() == "offline"
    keys(tmp_path, "machine wandb.example.org:8080 login user password 0000\n")
    assert wandb_mode() == "online"


def test_a_netrc_that_cannot_be_parsed_means_offline(nobody, tmp_path):
    keys(tmp_path, "this is no netrc\n")
    assert wandb_mode() == "offline"


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("offline", "offline"),
        ("dryrun", "offline"),
        ("disabled", "disabled"),
        ("online", "online"),
        ("run", "online"),
    ],
)
def test_wandb_mode_in_the_environment_wins(nobody, given, mode):
    nobody.setenv("WANDB_MODE", given)
    assert wandb_mode() == mode
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode() == mode


def test_a_run_is_tagged_by_its_cell_and_grouped_with_its_other_seeds():
    assert labels(NAME, CELL, None) == {
        "name": NAME,
        "group": "ffpp-c40_resnet18_thin_tokd-both",
        "tags": ["ffpp-c40", "resnet18_thin", "tokd", "branches both", "seed 0"],
        "job_type": "fit",
        "notes": None,
    }
    assert labels(f"{NAME}-0a1b2c", CELL, None)["group"] == (
        "ffpp-c40_resnet18_thin_tokd-both-0a1b2c"
    )
    teacher = CELL._replace(role="teacher", method="teacher")
    assert labels(NAME, teacher, None)["job_type"] == "teacher"


def test_a_run_of_a_table_is_grouped_with_the_table():
    found = labels(NAME, CELL, "table3")
    assert found["group"] == "table3"
    assert found["tags"][-1] == "table3"


def test_a_tag_is_no_longer_than_wandb_allows():
    cell = CELL._replace(backbone="hf-hub:" + "x" * 100)
    assert all(len(tag) <= 64 for tag in labels(NAME, cell, None)["tags"])


class FakeRun:
    """Stands in for W&B's run."""

    def __init__(self, folder, resumed=False):
        self.id, self.resumed = "abc", resumed
        self.dir = str(folder / "wandb" / "offline-run-2-abc" / "files")
        self.config, self.rows = {}, []
        self.config = SimpleNamespace(update=lambda *_, **__: None)

    def define_metric(self, *_, **__):
        pass

    def log(self, row):
        self.rows.append(row)


@pytest.fixture
def starts(nobody):
    """Stand in for the start of a run on W&B."""
    nobody.setattr(wandb_run, "_start", lambda folder, *_, **__: FakeRun(folder))


def test_a_test_goes_to_wandb_only_where_its_fit_did(nobody, starts, tmp_path):
    (tmp_path / "fit.yaml").write_text("log: wandb\n")
    run = Run(tmp_path)
    assert len(loggers_of_test(run, ["wandb"], CELL)) == 1
    (tmp_path / "wandb.json").write_text(json.dumps({"id": "abc"}))
    assert len(loggers_of_test(run, ["none"], CELL)) == 1
    assert len(loggers_of_test(run, ["wandb"], CELL)) == 2


CURVES = "epoch,step,train/loss,val/loss\n0,0,1.0,\n0,1,0.5,\n0,1,,0.25\n1,2,0.125,\n1,"


def test_rows_are_logged_anew_as_they_were(tmp_path):
    path = tmp_path / "metrics.csv"
    assert list(logged_rows(path)) == []
    path.write_text(CURVES)
    rows = list(logged_rows(path))
    assert rows[:3] == [
        {"epoch": 0, "train/loss": 1.0, "trainer/global_step": 0},
        {"epoch": 0, "train/loss": 0.5, "trainer/global_step": 1},
        {"epoch": 0, "val/loss": 0.25, "trainer/global_step": 1},
    ]
    assert len(rows) == 4


@pytest.mark.parametrize("resumed", [True, False])
def test_what_wandb_has_already_is_not_logged_twice(nobody, tmp_path, resumed):
    (tmp_path / "metrics.csv").write_text(CURVES)
    names = ["offline-run-1-abc", "offline-run-1-other", "offline-run-2-abc"]
    for name in (*names, "replaced-offline-run-0-abc", "replaced-offline-run-0-other"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    run = FakeRun(tmp_path, resumed)
    nobody.setattr(wandb_run, "_start", lambda *_, **__: run)
    open_run(tmp_path, CELL, {})
    assert len(run.rows) == (0 if resumed else 4)
    assert sorted(path.name for path in (tmp_path / "wandb").iterdir()) == [
        "offline-run-1-other",
        "offline-run-2-abc",
        "replaced-offline-run-0-other",
        "replaced-offline-run-1-abc",
    ]


def test_the_most_confident_errors_come_first():
    frames = pd.DataFrame(
        {
            "method": list("abcd"),
            "video": "v",
            "frame": range(4),
            "label": [0, 0, 1, 1],
            "p_fake": [0.6, 0.9, 0.2, 0.7],
            "path": "p",
        }
    )
    assert confident_errors(frames)["method"].tolist() == ["b", "c", "a"]
