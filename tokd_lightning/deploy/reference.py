"""Reference picture with its input tensor and logits, to check custom preprocessing against."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tokd_lightning.deploy.crop import network_input
from tokd_lightning.deploy.parity import onnx_answer
from tokd_lightning.deploy.record import EXAMPLES, REFERENCE
from tokd_lightning.deploy.source import Source
from tokd_lightning.errors import TokdError

_SIZE = (400, 300)
_BOX = (97, 41, 203)


@torch.inference_mode()
def reference(
    source: Source, face: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """Make a reference picture, and compute the network's input and logits for it.

    Args:
        source: The student.
        face: How faces are cropped, as in ``model.json``.

    Returns:
        The entry of ``model.json`` and the files by name; None and no files if the packages for
        cropping are not installed.
    """
    try:
        from tokd_lightning.deploy.read import fed_face
        from tokd_lightning.prepare.boxes import Square
    except TokdError:
        return None, {}
    picture = _picture()
    whole = face["detector"] == "none" and face["stored"] is None
    x, y, side = _BOX
    square = None if whole else Square(x, y, side)
    tensor = network_input(fed_face(picture, square, source.size, face["stored"])[None], source)
    logits = source.model(tensor)[0].double()
    image, array = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture).save(image, "PNG")
    np.save(array, tensor[0].numpy())
    files = dict(zip(REFERENCE, (image.getvalue(), array.getvalue()), strict=True))
    said = {
        "picture": REFERENCE[0],
        "box": [0, 0, *_SIZE] if whole else [x, y, side, side],
        "tensor": REFERENCE[1],
        "logits": [round(float(value), 6) for value in logits],
        "p_fake": round(float(logits.softmax(0)[1]), 6),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    return said, files


def example_files() -> dict[str, bytes]:
    """Return the programs that score the reference picture with only ONNX Runtime, by name."""
    here = Path(__file__).parent
    places = (here / "examples", here / "page")
    return {
        name: next(place / name for place in places if (place / name).is_file()).read_bytes()
        for name in EXAMPLES
    }


def int8_logits(content: bytes, tensor: bytes) -> list[float]:
    """Return the logits of an int8 network for the reference tensor, given as its ``.npy``."""
    answer = onnx_answer(content)
    logits, _ = answer(np.load(io.BytesIO(tensor))[None])
    return [round(float(value), 6) for value in logits[0]]


def _picture() -> np.ndarray:
    """Draw gradients, stripes and noise, which expose any difference in preprocessing."""
    width, height = _SIZE
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    colours = [
        128 + 90 * np.sin(x / 9) * np.cos(y / 31),
        40 + 170 * x / width,
        215 - 170 * y / height + 25 * np.sign(np.sin((x + y) / 3)),
    ]
    drawn: np.ndarray = (np.stack(colours, axis=-1) + noise).clip(0, 255).astype(np.uint8)
    return drawn
