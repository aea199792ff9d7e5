"""`tokd push`, `tokd pull` and `hf:REPO` against a server on this machine."""

import json
import shutil

import pytest
import yaml
from hub_server import Hub, serve
from huggingface_hub import constants
from test_detect import as_json, refused

from tokd_lightning.cli import main


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = serve()
    monkeypatch.setattr(Hub, "repositories", {})
    monkeypatch.setattr(Hub, "objects", {})
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_model_comes_back_as_it_was_pushed(hub, copied, run, mixed, capsys):
    assert main(["push", str(copied), "me/model", "--run", str(run)]) == 0
    assert "/me/model/commit/" in capsys.readouterr().out
    there = hub.repositories["me/model"]
    assert {"model.json", "model.onnx", "README.md", "metrics.json", "test_frames.csv"} <= set(
        there
    )
    head, text = there["README.md"].decode().removeprefix("---\n").split("\n---\n", 1)
    about = yaml.safe_load(head)
    assert about["pipeline_tag"] == "image-classification"
    [index] = about["model-index"]
    record = json.loads((copied / "model.json").read_text())
    [result] = index["results"]
    shown = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert shown["auc (videos)"] == record["metrics"]["test/video/auc"]
    assert shown["auc (frames)"] == record["metrics"]["test/frame/auc"]
    assert (copied / "MODEL_CARD.md").read_text() in text
    assert main(["push", str(copied), "me/model"]) == 0  # again
    assert main(["pull", "me/model"]) == 0
    for name in ("model.json", "model.onnx", "model.safetensors", "reference.npy", "MODEL_CARD.md"):
        expected = (copied / name).read_bytes()
        assert (copied.parent / "models/model" / name).read_bytes() == expected
    capsys.readouterr()
    found = as_json(capsys, "hf:me/model", mixed / "dark.png")
    assert found["files"] == as_json(capsys, copied, mixed / "dark.png")["files"]


def test_a_dry_run_sends_nothing(hub, copied, capsys):
    assert main(["push", str(copied), "me/model", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "model.onnx: " in out
    assert "pipeline_tag: image-classification" in out
    assert not hub.repositories


@pytest.mark.slow
def test_what_goes_wrong_is_one_line(hub, copied, monkeypatch, tmp_path, capsys):
    refused(capsys, "has no me/none", main(["pull", "me/none"]))
    refused(capsys, "has no me/none", main(["detect", "hf:me/none", str(copied / "reference.png")]))
    refused(capsys, "not the name of a repository", main(["push", str(copied), "a/b/c"]))
    refused(capsys, "tokd test", main(["push", str(copied), "me/model", "--run", str(tmp_path)]))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    refused(capsys, "exists: give another --out", main(["pull", "me/none", "--out", "full"]))
    # A repository may hold anything.
    hub.repositories["me/other"] = {"config.json": b"{}"}
    refused(capsys, "is not an exported model", main(["pull", "me/other", "--out", "new"]))
    assert main(["push", str(copied), "me/model"]) == 0
    hub.repositories["me/model"]["model.onnx"] += b"x"
    capsys.readouterr()
    refused(capsys, "is not the file that", main(["pull", "me/model", "--out", "new"]))
    assert not (tmp_path / "new").exists()
    (copied / "model.onnx").write_bytes(b"altered")
    refused(capsys, "is not the file that", main(["push", str(copied), "me/model"]))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    shutil.rmtree(tmp_path / "cache")
    refused(capsys, "cannot be reached", main(["pull", "me/model"]))
