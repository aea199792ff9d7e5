import csv
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from tokd_lightning import loggers
from tokd_lightning.errors import TokdError
from tokd_lightning.loggers import EpochLines, ProgressBar, RunLogger, build_loggers, wandb_mode

TAGS = ["ffpp-c23", "student"]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without a W&B account."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
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
    keys(tmp_path, "machine wandb.example.org login user password 0000\n")
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
def test_wandb_mode_in_the_environment_wins(nobody, tmp_path, given, mode):
    nobody.setenv("WANDB_MODE", given)
    assert wandb_mode() == mode
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode() == mode


def test_an_unknown_view_names_the_known_ones(tmp_path):
    with pytest.raises(TokdError, match="--log mlflow: choose from none, wandb, tensorboard"):
        build_loggers(tmp_path / "run", ["mlflow"], TAGS)


def test_the_csv_is_always_there(nobody, tmp_path):
    nobody.setenv("WANDB_MODE", "disabled")
    for views in (["none"], ["wandb"]):
        (logger,) = build_loggers(tmp_path / "run", views, TAGS)
        assert isinstance(logger, RunLogger)


class Started(pl.loggers.CSVLogger):
    pass


@pytest.fixture
def starts(nobody, tmp_path):
    """How W&B was started: offline or not. Going online fails, for the reason in front."""
    seen = []

    def start(folder, tags, offline):
        seen.append(offline)
        if not offline:
            raise seen[0]
        return Started(tmp_path)

    nobody.setattr(loggers, "_start_wandb", start)
    return seen


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("unreachable\nand more"), "(unreachable)"), (TimeoutError(), "(TimeoutError)")],
)
def test_a_failure_to_go_online_falls_back_to_offline(
    nobody, starts, tmp_path, caplog, error, reason
):
    nobody.setenv("WANDB_API_KEY", "0" * 40)
    starts.append(error)
    with caplog.at_level("INFO"):
        _, view = build_loggers(tmp_path / "run", ["wandb"], TAGS)
    assert isinstance(view, Started)
    assert starts[1:] == [False, True]
    assert f"cannot go online {reason}" in caplog.text


def test_a_view_that_is_not_installed_names_the_extra(monkeypatch, tmp_path):
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger", missing)
    with pytest.raises(TokdError, match=r"pip install .tokd-lightning\[tensorboard\]"):
        build_loggers(tmp_path / "run", ["tensorboard"], TAGS)


def test_without_a_key_nothing_goes_online_and_the_upload_is_told(nobody, starts, tmp_path, caplog):
    with caplog.at_level("INFO"):
        _, view = build_loggers(tmp_path / "run", ["wandb"], TAGS)
    assert isinstance(view, Started)
    assert starts == [True]
    assert f"wandb sync {tmp_path}/run/wandb/offline-run-*" in caplog.text


@pytest.mark.slow
def test_an_offline_run_lies_in_the_run_s_folder(nobody, tmp_path):
    nobody.chdir(tmp_path)
    folder = tmp_path / "runs" / "ffpp-c23_resnet18_thin_tokd-both_s0"
    _, view = build_loggers(folder, ["wandb"], TAGS)
    try:
        view.log_metrics({"train/loss": 1.0}, step=0)
        run = view.experiment
        assert (run.name, run.group) == (folder.name, "ffpp-c23_resnet18_thin_tokd-both")
        assert list(run.tags) == TAGS
    finally:
        view.experiment.finish()
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "home"}


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


def test_training_that_resumes_replaces_the_rows_that_were_lost_with_it(tmp_path):
    folder = tmp_path / "run"
    write(folder, *((step, {"train/loss": float(step)}) for step in range(6)))
    with (folder / "metrics.csv").open("a") as file:
        file.write("7")  # killed while it wrote
    write(folder, (3, {"val/frame/acc": 0.5}), (4, {"train/loss": 40.0}))
    assert rows(folder) == [
        *({"step": str(step), "train/loss": str(float(step))} for step in range(4)),
        {"step": "3", "val/frame/acc": "0.5"},
        {"step": "4", "train/loss": "40.0"},
    ]


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
        assert bar.get_metrics(trainer, None) == {"train/loss": 0.5, "val/frame/acc": 0.75}
    assert len(asked) == 2
    trainer.is_last_batch = True
    bar.get_metrics(trainer, None)
    assert len(asked) == 3
