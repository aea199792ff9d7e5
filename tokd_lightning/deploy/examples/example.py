"""Score reference.png as tokd detect does: needs onnxruntime, opencv-python and pillow."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
INPUT, FACE = MODEL["input"], MODEL["face"]


def tensor(picture: np.ndarray, box: list[int]) -> np.ndarray:
    """Turn a face, x, y, width, height in an upright RGB picture (H, W, 3), into the input."""
    x, y, width, height = box
    face, size, crop = picture[y : y + height, x : x + width], INPUT["size"], INPUT["crop"]
    side = FACE["stored"] or size
    whole = FACE["detector"] == "none" and FACE["stored"] is None
    if not whole and width != side:  # by area where it shrinks, bicubic where it grows
        way = cv2.INTER_AREA if width > side else cv2.INTER_CUBIC
        face = cv2.resize(face, (side, side), interpolation=way)
    face = np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BILINEAR))
    start = (size - crop) // 2
    middle = face[start : start + crop, start : start + crop].astype(np.float32) / 255
    normalised = (middle - np.float32(INPUT["mean"])) / np.float32(INPUT["std"])
    return normalised.transpose(2, 0, 1)[None]


cv2.ipp.setUseIPP(False)  # Intel's bicubic interpolation has other weights
known, kind = MODEL["reference"], "onnx" if "onnx" in MODEL["files"] else "onnx-int8"
session = onnxruntime.InferenceSession(HERE / MODEL["files"][kind]["name"])
image = tensor(np.asarray(Image.open(HERE / known["picture"])), known["box"])
logits, heat_map = session.run(None, {"image": image})
p_fake = 1 / (1 + np.exp(np.float64(logits[0, 0]) - logits[0, 1]))
expected = known["logits" if kind == "onnx" else "logits_int8"]
print(json.dumps({"p_fake": float(p_fake), "logits": logits[0].tolist(), "known": expected}))
