"""Parity check: an exported file must give the same outputs as the training module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokd_lightning.deploy.networks import INPUT
from tokd_lightning.deploy.source import Source
from tokd_lightning.errors import TokdError

TOLERANCE = 1e-4
_BATCHES = (1, 2, 7)

Answer = Callable[[npt.NDArray[np.float32]], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""Function from normalised images to logits and heatmaps."""


@torch.inference_mode()
def parity(source: Source, answer: Answer, real: Tensor | None) -> dict[str, Any]:
    """Compare logits on random inputs, in batches of several sizes, and on real inputs.

    Args:
        source: The student in its training module.
        answer: Runs the exported file.
        real: Normalised images; None if there are none.

    Returns:
        Largest absolute differences ``random`` and ``real`` (None without real inputs), the numbers
        of ``random_inputs`` and ``real_inputs``, and the ``tolerance``.

    Raises:
        TokdError: Logits differ by more than 1e-4, or a heatmap's mean differs from the difference
            of the logits by more than 2e-4.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (3, source.crop, source.crop)
    random = [torch.randn(count, *shape, generator=generator) for count in _BATCHES]
    found = {"random": max(_difference(source, answer, images) for images in random)}
    if real is not None:
        found["real"] = max(_difference(source, answer, part) for part in torch.split(real, 8))
    for what, value in found.items():
        if not value <= TOLERANCE:
            raise TokdError(
                f"the exported network is off by {value:.1e} on {what} inputs, {TOLERANCE:g} is "
                "allowed: nothing was written"
            )
    count = 0 if real is None else len(real)
    return {
        "random": found["random"],
        "real": found.get("real"),
        "random_inputs": sum(_BATCHES),
        "real_inputs": count,
        "tolerance": TOLERANCE,
    }


def _difference(source: Source, answer: Answer, images: Tensor) -> float:
    expected = source.model(images).numpy()
    logits, heat = answer(images.numpy())
    apart = np.abs(logits - expected).max()
    means = np.abs(heat.mean((1, 2)) - (expected[:, 1] - expected[:, 0])).max()
    return float(max(apart, means / 2))


def onnx_answer(content: bytes) -> Answer:
    """Return a function that runs an ONNX file in ONNX Runtime.

    Raises:
        TokdError: onnxruntime is not installed, or the file cannot be run.
    """
    from tokd_lightning.deploy.engine import onnx_session

    session = onnx_session(content)

    def answer(images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        logits, heat = session.run(None, {INPUT: images})
        return logits, heat

    return answer
