"""int8: what is quantised, what it is calibrated on, and what the gate lets through."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from sklearn.metrics import roc_auc_score

from tokd_lightning.cli import main
from tokd_lightning.deploy import int8
from tokd_lightning.deploy.validation import Validation
from tokd_lightning.errors import TokdError

SIZE = 24


def network(seed=0):
    """Two convolutions, then a head as of the student: logits of the mean, and their map."""
    rng = np.random.default_rng(seed)

    def array(name, *shape, scale):
        values = np.abs(rng.normal(size=shape)) * scale  # the brighter, the larger its maps
        return numpy_helper.from_array(values.astype(np.float32), name)

    weights = (np.abs(rng.normal(size=(2, 16))) * [[-0.05], [0.05]]).astype(np.float32)
    towards = (weights[1] - weights[0]).reshape(1, 16, 1, 1)
    arrays = [
        array("w1", 8, 3, 3, 3, scale=0.2), array("w2", 16, 8, 3, 3, scale=0.05),
        numpy_helper.from_array(weights, "wc"), numpy_helper.from_array(towards, "wd"),
        numpy_helper.from_array(np.array([2, 3]), "space"),
        numpy_helper.from_array(np.array([1]), "depth"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "conv1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2"),
        helper.make_node("Relu", ["c"], ["map"], "relu2"),
        helper.make_node("ReduceMean", ["map", "space"], ["mean"], "pool", keepdims=0),
        helper.make_node("Gemm", ["mean", "wc"], ["logits"], "classifier", transB=1),
        helper.make_node("Mul", ["map", "wd"], ["weighted"], "weigh"),
        helper.make_node("ReduceSum", ["weighted", "depth"], ["heat_map"], "heat", keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "student",
        [value("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [value("logits", TensorProto.FLOAT, ["batch", 2]),
         value("heat_map", TensorProto.FLOAT, ["batch", "h", "w"])],
        arrays,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key="name", value='"tiny"')
    return model.SerializeToString()


class Frames:
    """Validation frames of 8 videos, 8 frames each; fakes are brighter. Notes what is read."""

    def __init__(self):
        rng = np.random.default_rng(1)
        rows = [(v, f) for v in range(8) for f in range(8)]
        self.table = pd.DataFrame(
            {
                "dataset": "x", "method": "m", "video": [f"v{v}" for v, _ in rows],
                "frame": [f for _, f in rows], "label": [v % 2 for v, _ in rows],
            }
        )  # fmt: skip
        lift = self.table["label"].to_numpy()[:, None, None, None]
        noise = rng.normal(size=(64, 3, SIZE, SIZE)) + rng.normal(size=(64, 3, 1, 1))
        self.images = torch.from_numpy((noise + 3 * lift).astype(np.float32))
        self.read = []

    def val_dataloader(self):
        return SimpleNamespace(dataset=self)

    def __getitems__(self, rows):
        self.read.append(list(rows))
        return {"image": self.images[rows], "index": torch.tensor(rows)}

    def on_after_batch_transfer(self, batch, _):
        return batch

    def known(self):
        return Validation(None, None, "", None, self.table, self)


@pytest.fixture
def frames():
    return Frames()


@pytest.fixture(scope="module")
def content():
    return network()


@pytest.fixture(scope="module")
def made(content):
    return int8.quantise(content, Frames().images[:16].numpy())


def run(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})


def test_split_separates_videos_and_keeps_both_classes(frames):
    halves = int8.split(frames.table)
    videos = [set(frames.table["video"][rows]) for rows in halves]
    assert not videos[0] & videos[1]
    assert len(videos[0] | videos[1]) == 8
    for rows in halves:
        assert set(frames.table["label"][rows]) == {0, 1}
    lone = frames.table[frames.table["video"].isin(["v0", "v1", "v3"])].reset_index(drop=True)
    with pytest.raises(TokdError, match="there are 1 real ones"):
        int8.split(lone)


def test_trunk_is_quantised_and_head_stays_in_float(content, made):
    assert set(int8.head(onnx.load_from_string(content).graph)) == {
        "pool", "classifier", "weigh", "heat",
    }  # fmt: skip
    assert int8.coverage(made) == 1
    assert int8.coverage(content) == 0
    types = {array.name: array.data_type for array in onnx.load_from_string(made).graph.initializer}
    assert types["wc"] == TensorProto.FLOAT
    assert sum(kind == TensorProto.INT8 for kind in types.values()) >= 2
    assert onnx.load_from_string(made).metadata_props[0].value == '"tiny"'


@pytest.mark.parametrize(("side", "pad", "size"), [(7, 3, 25), (3, 1, 24), (3, 0, 25), (5, 2, 24)])
def test_folded_first_convolution_differs_by_rounding_alone(side, pad, size, monkeypatch):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 8, side, stride=2, padding=pad)
    value, arrays = helper.make_tensor_value_info, layer.state_dict()
    nodes = [
        helper.make_node(
            "Conv", ["image", "w", "b"], ["map"], "conv", strides=[2, 2], pads=[pad] * 4
        ),
        helper.make_node("ReduceMean", ["map"], ["logits"], "mean"),
        helper.make_node("Neg", ["map"], ["heat_map"], "negative"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "stem",
        [value("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [value(name, TensorProto.FLOAT, [*"nchw"]) for name in ("logits", "heat_map")],
        [numpy_helper.from_array(arrays["weight"].numpy(), "w"),
         numpy_helper.from_array(arrays["bias"].numpy(), "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content = model.SerializeToString()
    images = torch.randn(4, 3, size, size)
    int8.fold_stride(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node][:3] == ["Pad", "SpaceToDepth", "Conv"]
    made = run(model.SerializeToString(), images.numpy())[1]
    np.testing.assert_allclose(-made, layer(images).detach(), rtol=0, atol=1e-5)
    folded = int8.quantise(content, images.numpy())
    monkeypatch.setattr(int8, "fold_stride", lambda graph: None)
    plain = int8.quantise(content, images.numpy())
    assert b"SpaceToDepth" in folded
    assert b"SpaceToDepth" not in plain
    maps = [run(one, images.numpy())[1] for one in (folded, plain)]
    apart = np.abs(np.subtract(*maps))  # float sums of the calibration end differently
    assert apart.max() <= 1.01 * np.ptp(maps[0]) / 255
    assert (apart > 1e-5).mean() < 0.01


def test_transform_of_the_image_stays_in_float(content, frames):
    model = onnx.load_from_string(content)
    model.graph.node[0].input[0] = "wave"
    factor = numpy_helper.from_array(np.array(1000, np.float32), "factor")
    model.graph.initializer.append(factor)
    model.graph.node.insert(0, helper.make_node("Sin", ["phase"], ["wave"], "sine"))
    model.graph.node.insert(0, helper.make_node("Mul", ["image", "factor"], ["phase"], "scale"))
    onnx.checker.check_model(model)
    assert int8.transforms(model.graph) == ["scale", "sine"]
    given = model.SerializeToString()
    images = frames.images[::4].numpy()
    float_logits, logits = (run(one, images)[0] for one in (given, int8.quantise(given, images)))
    apart = np.abs(logits - float_logits).max()
    assert apart < 0.1 * np.ptp(float_logits)


def test_mean_of_heat_map_stays_difference_of_logits(made, frames):
    logits, heat = run(made, frames.images.numpy())
    np.testing.assert_allclose(heat.mean((1, 2)), logits[:, 1] - logits[:, 0], atol=1e-4)


def test_gate_is_computed_on_other_videos_as_by_hand(content, frames):
    found = int8.quantise_checked(content, frames.known(), 0.5, SIZE)
    halves = int8.split(frames.table)
    assert sorted(row for rows in frames.read for row in rows) == sorted(
        halves.calibration + halves.judged
    )
    assert frames.read[0] == halves.calibration
    images, label = frames.images[halves.judged].numpy(), frames.table["label"][halves.judged]
    p_fake = []
    for one in (content, found.content):
        logits, _ = run(one, images)
        p_fake.append(1 / (1 + np.exp(logits[:, 0].astype(float) - logits[:, 1])))
    gate = found.gate
    assert gate["auc"] == pytest.approx([roc_auc_score(label, p) for p in p_fake], abs=1e-6)
    turned = ((p_fake[0] > 0.5) != (p_fake[1] > 0.5)).mean()
    assert gate["verdicts_turned"] == pytest.approx(turned)
    assert gate["mean_difference"] == pytest.approx(np.abs(p_fake[0] - p_fake[1]).mean())
    assert gate["calibration"] == {"frames": 32, "videos": 4, "of_videos": 8}
    assert (gate["frames"], gate["videos"]) == (32, 4)


def test_calibration_on_black_frames_is_refused_with_the_figures(content, frames, monkeypatch):
    quantise = int8.quantise
    monkeypatch.setattr(int8, "quantise", lambda c, images: quantise(c, images * 0.02))
    with pytest.raises(TokdError, match=r"fails its check on 32 .* of the verdicts differ, 1% are"):
        int8.quantise_checked(content, frames.known(), 0.5, SIZE)


def test_signed_activations_are_refused_although_their_scores_pass(content, frames, monkeypatch):
    static = quantization.quantize_static

    def signed(*given, **options):
        static(*given, **options | {"activation_type": quantization.QuantType.QInt8})

    monkeypatch.setattr(quantization, "quantize_static", signed)
    with pytest.raises(TokdError) as refused:
        int8.quantise_checked(content, frames.known(), 0.5, SIZE)
    assert " of the convolutions run on unsigned 8-bit activations, 90% must" in str(refused.value)
    assert "AUC" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("auc_change", -0.003, "AUC changes by 0.30%, 0.2% is allowed"),
     ("verdicts_turned", 0.02, "2.0% of the verdicts differ, 1% are allowed"),
     ("mean_difference", 0.05, "P(fake) differs by 0.050 on average, 0.02 is allowed"),
     ("heat_map", 1.3, "the heat map's mean is 1.3e+00 off the logits, 0.001 is allowed"),
     ("convolutions", 0.5, "50% of the convolutions run on unsigned 8-bit activations, 90% must"),
     ("mean_difference", float("nan"), "P(fake) differs by nan")],
)  # fmt: skip
def test_failures_name_figure_and_limit(key, value, says):
    passed = dict.fromkeys(int8.LIMITS, 0.0) | {"convolutions": 1.0}
    assert int8.failures(passed) == []
    assert says in "; ".join(int8.failures(passed | {key: value}))


def test_without_validation_frames_int8_is_refused(content):
    unknown = Validation(None, None, "its validation frames cannot be read: gone")
    with pytest.raises(TokdError, match=r"onnx-int8 is calibrated .* cannot be read: gone"):
        int8.quantise_checked(content, unknown, 0.5, SIZE)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / "model"
    formats = "onnx,onnx-int8"
    assert main(["export", str(run), "--format", formats, "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_export_writes_an_int8_file_that_holds_on_test_frames(exported, run, data, capsys):
    record = json.loads((exported / "model.json").read_text())
    entry = record["files"]["onnx-int8"]
    assert entry["bytes"] < 0.45 * record["files"]["onnx"]["bytes"]
    assert entry["gate"]["convolutions"] == 1
    card = (exported / "MODEL_CARD.md").read_text()
    assert "model.int8.onnx" in card
    assert "calibrated on" in card
    frames = [data / path for path in pd.read_csv(run / "test_frames.csv")["path"]]
    capsys.readouterr()
    p_fake = {}
    for backend in ("onnx", "onnx-int8"):
        given = ["detect", str(exported), *map(str, frames), "--detector=none", "--json"]
        assert main([*given, f"--backend={backend}"]) == 0
        said = json.loads(capsys.readouterr().out)
        p_fake[backend] = [one["p_fake"] for one in said["files"]]
    difference = np.abs(np.subtract(*p_fake.values()))
    assert 0 < difference.max() < 0.1


@pytest.mark.slow
def test_refused_int8_leaves_nothing_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(int8.LIMITS, "mean_difference", 0.0)
    out = tmp_path / "out"
    assert main(["export", str(run), "--format", "onnx-int8", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "P(fake) differs by" in error
    assert error.count("\n") == 1
    assert not out.exists()
