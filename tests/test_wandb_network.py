"""The W&B library itself with a key and without a network, and what it leaves in a run's folder."""

import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
import wandb
import wandb_log
from click.testing import CliRunner
from wandb.cli.cli import cli

from tokd_lightning.errors import TokdError
from tokd_lightning.loggers import wandb_run
from tokd_lightning.loggers.run import build_loggers
from tokd_lightning.loggers.wandb_account import unreachable, wandb_mode
from tokd_lightning.loggers.wandb_run import ended, publish, recorded
from tokd_lightning.runs.identity import Cell

CELL = Cell("ffpp-c40", "student", "resnet18_thin", "tokd", "both", 0)
ROWS = "epoch,step,train/loss\n0,0,1.0\n0,1,0.5\n"


@pytest.fixture
def account(monkeypatch, tmp_path):
    """A user with a key in a folder of their own, whose W&B session begins and ends here."""
    # An earlier test's service ends here. Its address must not come back with the environment.
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)
    for name in (*wandb.env.immutable_keys(), "WANDB_NAME", "WANDB_TAGS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "home" / "data"))
    monkeypatch.setattr(wandb_run, "_RUNNING", [])
    monkeypatch.chdir(tmp_path)
    yield monkeypatch
    wandb.teardown()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def server(answer):
    """A server that gives every request the same answer: a code and a body, or none for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(self.path)
            if answer is None or (answer == "probe" and len(asked) > 1):
                over.wait(60)
                return
            code, body = (400, b"{}") if answer == "probe" else answer
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    asked, over = [], threading.Event()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        over.set()
        serving.shutdown()
        serving.server_close()


def run_once(folder, code=0):
    """Log a curve as a fit does; return how long it took to start."""
    started = time.monotonic()
    with ended():
        loggers = build_loggers(folder, ["wandb"], CELL, {"seed": 0}, rows=2)
        took = time.monotonic() - started
        for logger in loggers[1:]:
            logger.log_metrics({"train/loss": 0.25, "trainer/global_step": 2})
    return took


def begun(folder):
    folder.mkdir()
    (folder / "metrics.csv").write_text(ROWS)


def losses(folder):
    return [row["train/loss"] for row in wandb_log.read(folder).history]


def kept_whole(folder):
    """The run is offline, whole, under its id, and the attempt to go online left nothing."""
    assert losses(folder) == [1.0, 0.5, 0.25]
    assert wandb_log.read(folder).run.run_id == recorded(folder)["id"]
    assert not list(folder.glob("wandb/run-*"))


def test_a_key_without_a_network_is_an_offline_run(account, tmp_path, capsys):
    account.setenv("WANDB_BASE_URL", closed_port())
    folder = tmp_path / "run"
    begun(folder)
    assert run_once(folder) < 20
    kept_whole(folder)


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "WANDB_HTTPS_PROXY"])
def test_a_proxy_that_is_not_there_is_no_network(account, variable):
    account.setenv(variable, closed_port())
    account.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert unreachable() is not None


@pytest.mark.parametrize(
    "answer",
    [
        (401, b'{"errors": [{"message": "no such key"}]}'),
        *(
            pytest.param(answer, marks=pytest.mark.slow)
            for answer in (None, "probe", (500, b""), (503, b"busy"), (404, b""), (200, b"<html>"))
        ),
    ],
    ids=str,
)
def test_a_server_that_declines_or_is_silent_costs_no_20_seconds(account, tmp_path, answer):
    folder = tmp_path / "run"
    begun(folder)
    with server(answer) as url:
        account.setenv("WANDB_BASE_URL", url)
        assert run_once(folder) < 20
    kept_whole(folder)


def wandb_cli(*args):
    assert CliRunner().invoke(cli, args).exit_code == 0


def test_what_the_wandb_command_sets_for_a_folder_is_obeyed(account):
    assert wandb_mode() == "online"
    wandb_cli("offline")
    assert wandb_mode() == "offline"
    account.setenv("WANDB_MODE", "online")
    assert wandb_mode() == "online"
    account.delenv("WANDB_MODE")
    wandb_cli("disabled")
    assert wandb_mode() == "disabled"
    wandb_cli("online")
    assert wandb_mode() == "online"


def test_an_unknown_mode_is_refused(account, tmp_path):
    account.setenv("WANDB_MODE", "ofline")
    with pytest.raises(TokdError, match="WANDB_MODE=ofline: choose from online"):
        build_loggers(tmp_path / "run", ["wandb"], CELL, {})
    assert not (tmp_path / "run").exists()


NAMED = {
    "WANDB_NAME": "mine",
    "WANDB_TAGS": "first, second,tokd",
    "WANDB_JOB_TYPE": "trial",
    "WANDB_NOTES": "with a larger batch",
    "WANDB_PROJECT": "forgeries",
    "WANDB_ENTITY": "lab",
    "WANDB_RUN_GROUP": "monday",
    "WANDB_MODE": "offline",
}


def test_what_the_environment_says_of_a_run_is_in_its_log(account, tmp_path):
    for name, value in NAMED.items():
        account.setenv(name, value)
    account.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    folder = tmp_path / "run"
    begun(folder)
    run_once(folder)
    run = wandb_log.read(tmp_path / "elsewhere").run
    assert (run.display_name, run.job_type, run.notes) == ("mine", "trial", "with a larger batch")
    assert (run.project, run.entity, run.run_group) == ("forgeries", "lab", "monday")
    assert list(run.tags) == [
        "ffpp-c40", "resnet18_thin", "tokd", "branches both", "seed 0", "monday", "first", "second",
    ]  # fmt: skip
    assert not list(folder.glob("wandb"))


@pytest.mark.slow
def test_a_long_table_of_an_offline_run_is_whole_in_its_folder(account, tmp_path):
    account.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    begun(folder)
    videos = pd.DataFrame({"video": [f"{i:05d}" for i in range(12_000)], "p_fake": 0.5})
    videos.to_csv(folder / "test_videos.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps({"metrics": {"test/video/acc": 0.5}}))
    with ended():
        publish(build_loggers(folder, ["wandb"], CELL, {}, rows=2), folder)
    [files] = folder.glob("wandb/offline-run-*/files")
    summary = wandb_log.read(folder).summary["tables/videos"]
    table = json.loads((files / summary["path"]).read_text())
    assert [row[0] for row in table["data"]] == videos["video"].tolist()
    [log] = files.parent.glob("*.wandb")
    kinds = {record.WhichOneof("record_type") for record in wandb_log.records(log)}
    assert "history" in kinds
    assert "artifact" not in kinds
    assert str(tmp_path).encode() not in (files / summary["path"]).read_bytes()
    assert not (tmp_path / "home" / "data").exists()


def test_an_upload_that_does_not_end_is_told_of(account, tmp_path):
    folder = tmp_path / "run"
    begun(folder)

    class Broken:
        dir = str(folder / "wandb" / "run-1-abc" / "files")

        def finish(self, exit_code):
            raise TimeoutError("60 s are over")

    said, run = [], Broken()
    account.setattr(wandb_run, "rank_zero_info", said.append)
    account.setattr(wandb_run, "_RUNNING", [run])
    with ended():
        wandb_run._OPEN.get().append((run, False))
    assert len(said) == 1
    assert f"(60 s are over); upload the rest with: wandb sync {folder}/wandb/run-1-abc" in said[0]
