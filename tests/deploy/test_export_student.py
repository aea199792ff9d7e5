"""`tokd export`: what is in the files, whether they answer as the training module does."""

import json
import re
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_cli import ROOT

from tokd_lightning.cli import main
from tokd_lightning.deploy import export as exporting
from tokd_lightning.deploy import parity
from tokd_lightning.deploy.networks import from_safetensors, to_onnx
from tokd_lightning.deploy.record import open_model
from tokd_lightning.deploy.source import open_source
from tokd_lightning.deploy.thresholds import choose_threshold
from tokd_lightning.errors import TokdError
from tokd_lightning.models import Student
from tokd_lightning.modules.trained import TrainedModule


def export(source, out, *options):
    return main(["export", str(source), "--out", str(out), *options])


def record_of(model):
    return json.loads((model / "model.json").read_text())


@pytest.fixture(scope="module")
def trained(run):
    return TrainedModule(run / "checkpoints/best.ckpt").eval()


@pytest.fixture(scope="module")
def session(model):
    return onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 2, 5, 33])
def test_the_onnx_file_answers_as_the_training_module_for_any_batch(batch, trained, session):
    images = torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = trained(images).numpy()
    logits, heat = session.run(None, {"image": images.numpy()})
    assert logits.shape == (batch, 2)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    # The heat map is what the answer is the mean of.
    difference = expected[:, 1] - expected[:, 0]
    np.testing.assert_allclose(heat.mean((1, 2)), difference, atol=1e-4)
    assert heat.std() > 1e-3


def test_the_weights_come_back_through_torch(model, run, trained):
    record = record_of(model)
    network = from_safetensors(model / "model.safetensors", record["network"])
    assert not network.training
    images = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[0], trained(images), atol=1e-4, rtol=0)


def test_only_backbone_and_classifier_are_in_the_files(model):
    student = Student("test_resnet")
    state = load_file(model / "model.safetensors")
    assert set(state) == set(student.state_dict())
    assert {key.split(".")[0] for key in state} == {"backbone", "classifier"}
    content = onnx.load(model / "model.onnx")
    inside = sum(int(np.prod(array.dims)) for array in content.graph.initializer)
    parameters = sum(weight.numel() for weight in student.parameters())
    assert inside <= parameters + 64
    for kind in ("onnx", "safetensors"):
        assert (model / f"model.{kind}").stat().st_size < 4 * parameters * 1.1 + 100_000


def test_what_a_student_was_distilled_with_is_left_behind(run, tmp_path):
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    for key in ("distiller.project_rgb.0.weight", "teacher.x", "distiller.rotations.rgb"):
        checkpoint["state_dict"][key] = torch.zeros(512, 1024)
    torch.save(checkpoint, tmp_path / "tokd.ckpt")
    out = tmp_path / "out"
    assert export(tmp_path / "tokd.ckpt", out, "--format", "safetensors") == 0
    assert set(load_file(out / "model.safetensors")) == set(Student("test_resnet").state_dict())
    assert (out / "model.safetensors").stat().st_size < 2_000_000


def test_no_file_says_on_which_machine_it_was_made(model, data):
    for file in model.iterdir():
        content = file.read_bytes()
        for place in (str(ROOT), str(data), "site-packages", "stack_trace"):
            assert place.encode() not in content, f"{file.name}: {place}"


def test_how_a_picture_becomes_an_input_stands_beside_it(model):
    record = record_of(model)
    assert record["input"]["size"] == 64
    assert record["input"]["crop"] == 48
    assert record["input"]["mean"] == [0.3, 0.3, 0.3]
    assert record["input"]["std"] == [0.4, 0.5, 0.6]
    assert record["classes"] == ["real", "fake"]
    assert record["face"]["detector"] == "haar"
    assert record["face"]["margin"] == 1.3
    for kind in ("onnx", "safetensors"):
        assert record["files"][kind]["parity"]["random"] <= 1e-4
        assert record["files"][kind]["parity"]["real"] <= 1e-4
        assert record["files"][kind]["parity"]["real_inputs"] >= 4


def test_the_margin_of_prepared_faces_is_taken_over(run, data, tmp_path):
    moved = shutil.copytree(data, tmp_path / "data")
    made = {"detector": "yunet-0123", "margin": 1.5, "size": 80}
    (moved / "prepare.json").write_text(json.dumps(made))
    assert export(run, tmp_path / "out", "--format", "safetensors", "--data", str(moved)) == 0
    face = record_of(tmp_path / "out")["face"]
    assert (face["detector"], face["margin"], face["stored"]) == ("yunet-0123", 1.5, 80)
    with pytest.raises(TokdError, match=r"found by YuNet \(yunet-0123\).* give it with --detector"):
        open_model(tmp_path / "out").detector()


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_has_the_highest_balanced_accuracy(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 40)
    p_fake = (rng.random(40) * 0.6 + 0.3 * label).round(2)
    chosen = choose_threshold(label, p_fake)

    def balanced(threshold):
        called = p_fake > threshold
        return (called[label == 1].mean() + (~called[label == 0]).mean()) / 2

    assert balanced(chosen) == pytest.approx(max(balanced(t) for t in np.linspace(0, 1, 1001)))
    assert choose_threshold(np.array([0, 1]), np.array([0.1, 0.9])) == 0.5
    assert choose_threshold(np.array([1, 1]), np.array([0.1, 0.2])) == 0.5


def test_the_threshold_is_chosen_on_the_validation_split(model, run, data, tmp_path, capsys):
    chosen = record_of(model)["threshold"]
    assert chosen["frame"]["count"] == 2 * 5 * 4
    assert chosen["video"]["count"] == 10
    results = json.loads((run / "metrics.json").read_text())["metrics"]
    for level in ("frame", "video"):
        assert chosen[level]["at_half"]["acc"] == pytest.approx(results[f"val/{level}/acc"])
        assert chosen[level]["at_half"]["auc"] == pytest.approx(results[f"val/{level}/auc"])
        assert chosen[level]["at_value"]["balanced_acc"] >= chosen[level]["at_half"]["balanced_acc"]

    # Scores that an evaluation has stored are taken, and give the same.
    copy = shutil.copytree(run, tmp_path / run.name)
    assert main(["evaluate", str(copy), "--on", f"ffpp-c23:{data}", "--split", "val"]) == 0
    capsys.readouterr()
    frames = pd.read_csv(next(copy.glob("evaluations/*/frames.csv")))
    assert export(copy, tmp_path / "out", "--format", "safetensors") == 0
    said = capsys.readouterr().out
    assert "scores that tokd evaluate has stored" in said
    assert int(re.search(r"(\d+) real ones", said)[1]) == min(16, len(frames))
    again = record_of(tmp_path / "out")["threshold"]
    value = choose_threshold(frames["label"].to_numpy(), frames["p_fake"].to_numpy())
    for where in (again, chosen):
        assert where["frame"]["value"] == pytest.approx(value, abs=1e-6)


def test_without_data_the_threshold_is_one_half_and_the_card_says_so(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / run.name)
    config = (copy / "fit.yaml").read_text().splitlines()
    nowhere = f"    root: {tmp_path / 'nowhere'}"
    gone = [nowhere if "  root: " in line else line for line in config]
    (copy / "fit.yaml").write_text("\n".join(gone))
    assert export(copy, tmp_path / "out", "--format", "safetensors") == 0
    said = capsys.readouterr().out
    assert "no real ones at hand" in said
    assert "name the root of the FF++ tree with --data\n" in said  # its own option's name
    assert open_model(tmp_path / "out").thresholds == {"frame": 0.5, "video": 0.5}
    card = (tmp_path / "out/MODEL_CARD.md").read_text()
    assert card.count("as no validation scores of both classes were there to choose it on") == 1
    record = (tmp_path / "out/model.json").read_text()
    assert (card + record).count("its validation frames cannot be read") == 2  # once in each


def test_a_bare_checkpoint_is_exported_and_says_what_it_does_not_know(run, tmp_path):
    moved = tmp_path / "moved.ckpt"
    shutil.copy(run / "checkpoints/best.ckpt", moved)
    assert export(moved, tmp_path / "out", "--format", "safetensors") == 0
    record = record_of(tmp_path / "out")
    assert record["name"] == "moved"
    assert record["threshold"]["frame"]["value"] == 0.5
    card = (tmp_path / "out/MODEL_CARD.md").read_text()
    assert "unknown" in card
    assert "synthetic faces, drawn by tokd demo" in card


def test_the_card_says_what_a_user_must_know(model, run):
    card = (model / "MODEL_CARD.md").read_text()
    for what in (
        run.name, "synthetic-c23", "vanilla, branches none, seed 0", "val/frame/auc",
        "## Intended use", "## Not for", "## Limits", "validation, frames, at 0.5", "test, videos",
        "no proof about a person", "EER is interpolated",
    ):  # fmt: skip
        assert what in card, what
    tested = json.loads((run / "metrics.json").read_text())["metrics"]["test/frame/balanced_acc"]
    assert f"{100 * tested:.2f}" in card


def test_another_format_joins_and_other_weights_replace(copied, run, tmp_path):
    record = record_of(copied)
    del record["files"]["safetensors"]
    (copied / "model.json").write_text(json.dumps(record))
    assert set(open_model(copied).files) == {"onnx"}
    assert export(run, copied, "--format", "safetensors") == 0
    assert set(record_of(copied)["files"]) == {"onnx", "safetensors"}
    assert open_model(copied).file("onnx").is_file()

    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"]["student.classifier.bias"] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert export(tmp_path / "other.ckpt", copied, "--format", "safetensors") == 0
    assert set(record_of(copied)["files"]) == {"safetensors"}
    assert not (copied / "model.onnx").exists()


def refused(capsys, says, code):
    error = capsys.readouterr().err
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_metrics_of_other_weights_are_left_out_and_this_is_said(run, tmp_path, capsys):
    assert open_source(run).results.metrics
    copy = shutil.copytree(run, tmp_path / run.name)
    record = json.loads((copy / "metrics.json").read_text())
    assert record["hashes"]["weights"] == open_source(run).model.weights
    record["hashes"]["weights"] = "0" * 64
    (copy / "metrics.json").write_text(json.dumps(record))
    assert open_source(copy).results is None
    capsys.readouterr()
    assert export(copy, tmp_path / "out", "--format", "safetensors") == 0
    out = capsys.readouterr().out
    assert "warning: metrics.json describes other weights than best.ckpt" in out
    assert f"tokd test {copy}" in out
    assert record_of(tmp_path / "out")["metrics"] == {}


@pytest.mark.slow
def test_what_cannot_be_exported_is_one_line(run, teacher, tmp_path, capsys):
    out = tmp_path / "out"
    refused(capsys, "holds a teacher", export(teacher, out))
    refused(capsys, "does not exist", export(tmp_path / "nothing", out))
    refused(capsys, "is not a run folder", export(tmp_path, out))
    (tmp_path / "x.ckpt").write_text("no checkpoint")
    refused(capsys, "cannot be read as a checkpoint", export(tmp_path / "x.ckpt", out))
    refused(
        capsys,
        "is not one of onnx, onnx-int8, safetensors, web",
        export(run, out, "--format", "tflite"),
    )
    refused(capsys, "is a file", export(run, tmp_path / "x.ckpt"))
    refused(capsys, "cannot be written", export(run, tmp_path / "x.ckpt" / "out"))
    refused(capsys, "does not exist", export(run, out, "--data", str(tmp_path / "nothing")))
    refused(capsys, "holds other files", export(run, tmp_path))
    assert not out.exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_one_line(package, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    code = export(run, tmp_path / "out", "--format", "onnx")
    refused(capsys, f'{package}: pip install "tokd-lightning[train]"', code)
    assert not (tmp_path / "out").exists()
    assert export(run, tmp_path / "out", "--format", "safetensors") == 0


@pytest.mark.slow
def test_a_network_that_answers_otherwise_is_not_written(run, tmp_path, monkeypatch, capsys):
    def swapped(network, size, about):
        with torch.no_grad():
            network.student.classifier.weight.copy_(network.student.classifier.weight.flip(0))
            content = to_onnx(network, size, about)
            network.student.classifier.weight.copy_(network.student.classifier.weight.flip(0))
        return content

    monkeypatch.setattr(exporting, "to_onnx", swapped)
    refused(capsys, "nothing was written", export(run, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_of_one_batch_size_is_refused():
    with pytest.raises(TokdError, match="batches of any size"):
        to_onnx(OneBatch(), 8)
    assert to_onnx(OneBatch(), 8, batch=3)


class OneBatch(torch.nn.Module):
    def forward(self, image):
        return image.reshape(len(image), -1)[:, : int(image.shape[0])]


def test_what_is_not_a_number_is_no_parity(run, tmp_path, monkeypatch, capsys):
    def nothing(content):
        return lambda images: (np.full((len(images), 2), np.nan), np.zeros((len(images), 2, 2)))

    monkeypatch.setattr(exporting, "to_onnx", lambda *given: b"")
    monkeypatch.setattr(exporting, "onnx_answer", nothing)
    refused(capsys, "nothing was written", export(run, tmp_path / "out"))
    assert parity.TOLERANCE == 1e-4
