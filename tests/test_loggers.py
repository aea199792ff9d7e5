import contextlib
import csv
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_cli import ROOT, SMALL, TINY_STUDENT

from tokd_lightning.errors import TokdError
from tokd_lightning.loggers import run as loggers
from tokd_lightning.loggers.mlflow_run import _Curves
from tokd_lightning.loggers.run import RunLogger, build_loggers
from tokd_lightning.runs.identity import Cell
from tokd_lightning.training.callbacks.progress import EpochLines, ProgressBar, progress

CELL = Cell("ffpp-c23", "student", "resnet18_thin", "tokd", "both", 0)


def test_an_unknown_view_names_the_known_ones(tmp_path):
    with pytest.raises(TokdError, match=r"--log comet: choose from none, wandb, .*mlflow"):
        build_loggers(tmp_path / "run", ["comet"], CELL, {})


def test_the_csv_is_always_there(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for views in (["none"], ["wandb"]):
        (logger,) = build_loggers(tmp_path / "run", views, CELL, {})
        assert isinstance(logger, RunLogger)


def test_a_view_that_is_not_installed_names_the_extra(monkeypatch, tmp_path):
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger", missing)
    with pytest.raises(TokdError, match=r"pip install .tokd-lightning\[tensorboard\]"):
        build_loggers(tmp_path / "run", ["tensorboard"], CELL, {})


def test_mlflow_that_is_not_installed_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TokdError, match=r"--log mlflow needs mlflow: .*tokd-lightning\[mlflow\]"):
        build_loggers(tmp_path / "run", ["mlflow"], CELL, {})
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_fails_costs_its_curves_and_not_the_training(monkeypatch):
    asked = []

    def broken(self, metrics, step=None):
        asked.append(step)
        raise ConnectionError("the server\nis away")

    monkeypatch.setattr("lightning.pytorch.loggers.MLFlowLogger.log_metrics", broken)
    logger = _Curves.__new__(_Curves)
    with pytest.warns(UserWarning, match=r"^MLflow: the server is away; .*metrics\.csv"):
        logger.log_metrics({"train/loss": 1.0}, 0)
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.finalize("success")
    assert asked == [0]


@pytest.mark.slow
def test_mlflow_has_the_curves_of_the_csv_and_goes_on_where_the_fit_did(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    config = {"model": {"init_args": {"alpha_rgb": 10.0}}, "seed_everything": 0}
    folder = tmp_path / "runs" / "it's named"

    def follow(rows, *records):
        made = build_loggers(folder, ["mlflow"], CELL, config, rows)
        for logger in made:
            for step, metrics in records:
                logger.log_metrics(metrics, step)
            logger.finalize("success")

    follow(0, (0, {"train/loss": 1.0}), (1, {"train/loss": 0.5}))
    follow(2, (2, {"train/loss": 0.25, "val/frame/auc": 0.75}))
    follow(0, (0, {"train/loss": 9.0}))  # a new fit of that name is a new run
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tokd")
    second, first = client.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time DESC"]
    )
    assert {first.info.run_name, second.info.run_name} == {folder.name}
    assert first.info.status == "FINISHED"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert first.data.params["model/init_args/alpha_rgb"] == "10.0"
    curve = client.get_metric_history(first.info.run_id, "train/loss")
    assert [(one.step, one.value) for one in curve] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert first.data.metrics["val/frame/auc"] == 0.75
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs/mlflow.db")
    folder = tmp_path / "others" / folder.name  # of the same name, in the same store
    follow(2, (2, {"train/loss": 7.0}))
    found = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.metrics["train/loss"] for run in found) == [0.25, 7.0, 9.0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
    with pytest.raises(TokdError, match="--log mlflow cannot write to nowhere://: "):
        build_loggers(folder, ["mlflow"], CELL, config)


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def write(folder, *records):
    logger = RunLogger(folder)
    for step, metrics in records:
        logger.log_metrics(metrics, step)
    logger.finalize("success")


def test_a_second_run_appends_and_may_bring_new_columns(tmp_path):
    folder = tmp_path / "run"
    write(folder, (0, {"train/loss": 1.0}), (1, {"train/loss": 0.5}))
    write(folder, (2, {"train/loss": 0.25, "train/ce": 0.125}))
    write(folder, (0, {"test/frame/acc": 0.75}))
    assert rows(folder) == [
        {"step": "0", "train/loss": "1.0"},
        {"step": "1", "train/loss": "0.5"},
        {"step": "2", "train/loss": "0.25", "train/ce": "0.125"},
        {"step": "0", "test/frame/acc": "0.75"},
    ]
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


def test_training_that_goes_on_keeps_the_rows_that_its_checkpoint_knows(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = tmp_path / "run"
    write(folder, *((step, {"train/loss": float(step)}) for step in range(6)))
    (logger,) = build_loggers(folder, ["none"], CELL, {}, rows=4)
    assert logger.rows == 4
    write(folder, (3, {"val/frame/acc": 0.5}), (4, {"train/loss": 40.0}))
    assert rows(folder) == [
        *({"step": str(step), "train/loss": str(float(step))} for step in range(4)),
        {"step": "3", "val/frame/acc": "0.5"},
        {"step": "4", "train/loss": "40.0"},
    ]
    build_loggers(folder, ["none"], CELL, {})
    assert not list(folder.iterdir())


def test_an_epoch_is_one_line(capsys):
    metrics = {"train/loss": 0.5, "val/frame/acc": 0.75, "other": 1.0}
    trainer = SimpleNamespace(
        current_epoch=1, max_epochs=6, is_global_zero=True, callback_metrics=metrics
    )
    lines = EpochLines()
    lines.on_train_epoch_start(trainer, None)
    lines.on_train_epoch_end(trainer, None)
    assert capsys.readouterr().out == "epoch 2/6  loss 0.5000  val acc 0.7500  0 s\n"


def test_while_training_lasts_the_bar_seldom_reads_from_the_device(monkeypatch):
    asked = []
    super_class = ProgressBar.__mro__[1]
    metrics = {"val/frame/acc": 0.75, "v_num": 3}
    monkeypatch.setattr(super_class, "get_metrics", lambda *_: asked.append(1) or metrics)
    monkeypatch.setattr(loggers.time, "monotonic", lambda: now)
    logged = {"train/loss": torch.tensor(0.5), "train/acc": torch.tensor(0.1)}
    bar = ProgressBar()
    trainer = SimpleNamespace(training=True, is_last_batch=False, callback_metrics=logged)
    for step in range(100):
        now = 10 + step / 100
        assert bar.get_metrics(trainer, None) == {"loss": 0.5, "acc": 0.75}
    assert len(asked) == 2
    trainer.is_last_batch = True
    bar.get_metrics(trainer, None)
    assert len(asked) == 3


def test_a_bar_is_for_terminals_and_lines_are_for_logs(monkeypatch):
    for terminal, wanted, kind in ((True, True, ProgressBar), (True, False, EpochLines)):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        shown, without = progress(wanted)
        assert isinstance(shown, kind)
        assert ("enable_progress_bar" in without) == (kind is EpochLines)


def test_the_bar_counts_epochs_from_one_as_the_lines_do():
    bar = ProgressBar()
    for last, said in ((15, "epoch 1/15"), (None, "epoch 1"), (-1, "epoch 1")):
        bar._trainer = SimpleNamespace(max_epochs=last)
        assert bar._get_train_description(0).strip() == said


@pytest.mark.slow
def test_on_a_terminal_of_80_columns_the_bar_is_one_line(tiny_ffpp, tmp_path):
    given = [f"--config={ROOT}/experiments/demo_vanilla.yaml", f"--data.root={tiny_ffpp}"]
    given += [f"--runs={tmp_path}", *SMALL, *TINY_STUDENT, "--trainer.max_epochs=2"]
    given.append("--model.lr_scheduler.total_steps=6")
    main_end, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("tokd")), "fit", *given],
        stdin=other_end, stdout=other_end, stderr=subprocess.DEVNULL,
        env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(other_end)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(main_end, 65536):
            shown += part
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if "epoch " in line]
    final = [line for line in lines if line.startswith("epoch 2/2") and "AUC" in line]
    assert final
    assert "loss: " in final[-1]
    assert max(map(len, final)) <= 80
    assert "Epoch" not in text
