"""A fit that was interrupted and resumed, and its test, read back from the offline W&B run."""

import json

import pandas as pd
import pytest
import wandb_log
import yaml
from test_cli import TINY_TOKD, folder, tokd

from tokd_lightning.modules import DistillModule

OWN = {"epoch", "trainer/global_step"}
MEDIA = {"tables/methods", "tables/videos", "tables/errors", "pictures"}


@pytest.fixture(scope="module")
def runs(tiny_ffpp, small_teacher, tmp_path_factory):
    """A student that broke off in its second epoch, went on, and was tested."""
    runs = tmp_path_factory.mktemp("runs")
    student = [
        *TINY_TOKD,
        f"--model.teacher={small_teacher}",
        "--trainer.max_epochs=2",
        "--model.lr_scheduler.total_steps=6",
        "--model.rotation_scheduler.total_steps=6",
        "--log=wandb",
    ]

    after_batch = DistillModule.on_train_batch_end

    def break_off(self, outputs, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 1):
            raise RuntimeError("the power is gone")
        after_batch(self, outputs, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_RUN_GROUP", "table3")
        with pytest.MonkeyPatch.context() as power:
            power.setattr(DistillModule, "on_train_batch_end", break_off)
            with pytest.raises(RuntimeError, match="power"):
                tokd("fit", "demo_tokd", tiny_ffpp, runs, *student)
        assert wandb_log.read(folder(runs, "tokd-both")).exit == 1
        assert tokd("fit", "demo_tokd", tiny_ffpp, runs, *student) == 0
        fitted = wandb_log.read(folder(runs, "tokd-both"))
        patch.delenv("WANDB_RUN_GROUP")  # the run remembers
        assert tokd("test", "demo_tokd", tiny_ffpp, runs, *student) == 0
    return runs, fitted


def rows(logged):
    """The rows of a history, without W&B's own columns, tables and pictures."""
    plain = ({k: v for k, v in row.items() if not k.startswith("_")} for row in logged.history)
    return [row for row in plain if not MEDIA & row.keys()]


@pytest.fixture(scope="module")
def run(runs):
    return folder(runs[0], "tokd-both")


@pytest.fixture(scope="module")
def logged(run):
    return wandb_log.read(run)


def test_the_run_carries_name_group_tags_and_job_type(run, logged):
    assert logged.run.display_name == run.name
    assert (logged.run.run_group, logged.run.job_type) == ("table3", "fit")
    tags = ["synthetic-c23", "test_resnet", "tokd", "branches both", "seed 0", "table3"]
    assert list(logged.run.tags) == tags
    assert logged.exit == 0


def test_the_config_is_the_fit_s(run, logged):
    config = {key: value for key, value in logged.config.items() if not key.startswith("_")}
    assert config == yaml.safe_load((run / "fit.yaml").read_text())


def summary(logged):
    kept = {k: v for k, v in logged.summary.items() if not k.startswith("_")}
    return {k: v for k, v in kept.items() if k not in MEDIA}


def test_the_summary_is_metrics_json(run, runs, logged):
    results = json.loads((run / "metrics.json").read_text())
    metrics = results.pop("metrics")
    assert summary(logged) == results | metrics
    assert {key.split("/")[0] for key in metrics} == {"val", "test"}
    before = summary(runs[1])
    assert {k for k in before if "/" in k} == {k for k in metrics if k.startswith("val/")}


def test_the_history_is_metrics_csv(run, runs, logged):
    curves = pd.read_csv(run / "metrics.csv").rename(columns={"step": "trainer/global_step"})
    ours = rows(logged)
    assert ours == [row.dropna().to_dict() for _, row in curves.iterrows()]
    assert rows(runs[1]) == ours[:-1]  # before the test
    names = {key.split("/")[0] for row in ours for key in row}
    assert names == {"train", "val", "test", "maps", "gradient", "rotation", "epoch", "trainer"}
    losses = [row for row in ours if "train/loss" in row]
    assert [row["trainer/global_step"] for row in losses] == [0, 1, 2, 3, 4, 5]


def test_every_curve_has_its_axis(logged):
    axes = {name: metric.step_metric for name, metric in logged.metrics.items()}
    assert axes["val/*"] == "epoch"
    for row in logged.history:
        for name in row.keys() - MEDIA - OWN:
            if not name.startswith("_"):
                assert axes[f"{name.split('/')[0]}/*"]


def test_tables_and_pictures_are_there(run, logged):
    [files] = run.glob("wandb/offline-run-*/files/media")
    for name, file in (("tables/methods", "test_methods"), ("tables/videos", "test_videos")):
        logged_table = json.loads((files.parent / logged.summary[name]["path"]).read_text())
        table = pd.read_csv(run / f"{file}.csv", dtype={"video": str})
        assert logged_table["columns"] == list(table.columns)
        assert pd.DataFrame(logged_table["data"], columns=table.columns).equals(table)
    assert logged.summary["tables/errors"]["nrows"] > 0
    picture = files.parent / logged.summary["pictures"]["path"]
    assert picture.read_bytes() == (run / "pictures.png").read_bytes()


def test_interrupted_resumed_and_tested_it_is_one_run(run, runs, logged):
    identity = json.loads((run / "wandb.json").read_text())["id"]
    assert logged.run.run_id == runs[1].run.run_id == identity
    earlier = sorted(run.glob("wandb/replaced-offline-run-*/*.wandb"))
    assert {path.name for path in earlier} == {f"run-{identity}.wandb"}
    assert len(earlier) == 1  # the last one before
