"""Exported detectors answer as the training module does, for batches of any size."""

import numpy as np
import onnx
import pytest
import torch

from tokd_lightning.deploy.card import _landmarks
from tokd_lightning.deploy.networks import Deployed, to_onnx
from tokd_lightning.models.detectors import AddNet, TwoBranch, build_detector

NETWORK = {"backbone": "resnet18_thin", "pretrained": False}
DETECTORS = {
    "spsl": NETWORK,
    "rfm": NETWORK,
    "f3net": NETWORK | {"size": 64},
    "facexray": NETWORK,
    "multiatt": NETWORK,
    "multitask": {},
    "twobranch": NETWORK | {"recurrent": False},
}
SOONER = ("spsl",)
ALL = [pytest.param(n, marks=() if n in SOONER else pytest.mark.slow) for n in DETECTORS]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_onnx_gives_the_logits_and_the_map_of_the_detector(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    detector = build_detector({"detector": name, **DETECTORS[name]}).eval()
    content = to_onnx(Deployed(detector), 64)
    graph = onnx.load_from_string(content)
    nodes = [node for part in (graph.graph, *graph.functions) for node in part.node]
    assert not {node.op_type for node in nodes} & {"DFT", "STFT"}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        image = torch.randn(count, 3, 64, 64)
        with torch.no_grad():
            expected = detector(image)
            heat = Deployed(detector)(image)[1]
        logits, found = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(found, heat.numpy(), atol=1e-3)
        mean = found.mean((1, 2))
        np.testing.assert_allclose(mean, logits[:, 1] - logits[:, 0], atol=2e-4)


def test_detectors_that_need_more_than_an_image_say_why_they_are_not_exported():
    assert "landmarks" in AddNet.unexported
    assert "clips" in TwoBranch("resnet18_thin", False).unexported


@pytest.mark.parametrize(
    ("rows", "synthetic", "said"),
    [({"landmarks": "1f"}, False, True), ({"landmarks": "1f"}, True, False), ({}, False, False)],
)
def test_the_card_names_the_licence_of_the_landmarks(rows, synthetic, said):
    trained = {"hashes": {"rows": rows}, "synthetic": synthetic}
    assert ("excludes commercial use" in str(_landmarks(trained))) == said
