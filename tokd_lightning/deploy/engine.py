"""P(fake) of faces: preprocessing as recorded, then ONNX Runtime or torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokd_lightning.deploy.record import Model
from tokd_lightning.errors import TokdError

Backend = Literal["onnx", "onnx-int8", "torch"]
Pictures = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Scores(NamedTuple):
    """Output of the network for faces.

    Attributes:
        p_fake: Probability of fake, ``(N,)``.
        heat: Heatmaps, ``(N, h, w)``, in logits: values above 0 are evidence for fake.
    """

    p_fake: npt.NDArray[np.float64]
    heat: Floats


class Engine:
    """Scorer of faces.

    Args:
        model: The exported student.
        backend: ``onnx`` runs ``model.onnx``, or the int8 network where there is no other;
            ``onnx-int8`` that one, ``torch`` the weights in ``model.safetensors``.
        threads: Number of threads of ONNX Runtime; 0 takes one per core.

    Raises:
        TokdError: The file is missing or not the exported one, or a package it needs is missing.
    """

    def __init__(self, model: Model, backend: Backend = "onnx", threads: int = 0) -> None:
        self.model = model
        self._answer = _torch(model) if backend == "torch" else _onnx(model, backend, threads)

    def __call__(self, faces: Pictures) -> Scores:
        """Score faces, RGB ``(N, size, size, 3)``."""
        logits, heat = self._answer(prepare(faces, self.model))
        return Scores(softmax(logits)[:, 1], heat)


def prepare(faces: Pictures, model: Model) -> Floats:
    """Convert faces to the network's input: their centre crop, scaled to [0, 1], normalised.

    Args:
        faces: RGB, ``(N, size, size, 3)``.
        model: Gives sizes, mean and standard deviation.

    Returns:
        ``(N, 3, crop, crop)``.
    """
    start = (model.size - model.crop) // 2
    middle = faces[:, start : start + model.crop, start : start + model.crop]
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (model.mean, model.std))
    images = middle.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    normalised: Floats = np.ascontiguousarray((images - mean) / std)
    return normalised


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Convert logits ``(N, 2)`` to probabilities, in float64 as in training."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def onnx_session(content: bytes | Path, threads: int = 0) -> Any:
    """Open an ONNX file on the CPU.

    Args:
        content: The file's path or its content.
        threads: Number of threads; 0 takes one per core.

    Raises:
        TokdError: ONNX Runtime is not installed, or cannot run the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise TokdError(
            "ONNX files need onnxruntime: pip install onnxruntime, or use safetensors (detect "
            "--backend torch)"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait do not spin: reading the next files needs the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    given = str(content) if isinstance(content, Path) else content
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class
        raise TokdError(f"ONNX Runtime cannot run the exported network: {error}") from error


def _onnx(model: Model, kind: str, threads: int) -> Callable[[Floats], tuple[Any, Any]]:
    if kind == "onnx" and kind not in model.files and "onnx-int8" in model.files:
        kind = "onnx-int8"
    session = onnx_session(model.file(kind), threads)
    name = session.get_inputs()[0].name

    def answer(images: Floats) -> tuple[Any, Any]:
        try:
            logits, heat = session.run(None, {name: images})
        except Exception as error:  # its exceptions have no common class
            raise TokdError(
                f"{model.folder}: the network does not take what it is given"
            ) from error
        return logits, heat

    return answer


def _torch(model: Model) -> Callable[[Floats], tuple[Any, Any]]:
    import torch

    from tokd_lightning.deploy.networks import from_safetensors

    network = from_safetensors(model.file("safetensors"), model.network)

    def answer(images: Floats) -> tuple[Any, Any]:
        with torch.inference_mode():
            logits, heat = network(torch.from_numpy(images))
        return logits.numpy(), heat.numpy()

    return answer
